"""The table of what each strategy changes of clean, mPC and rPC."""

from collections.abc import Sequence

import pandas as pd

from reports import labels
from reports.layout import numbers
from reports.layout.block import Block
from reports.layout.numbers import NOTHING
from reports.robustness.parts import mpc_name, parts, rpc_name
from reports.robustness.results import Results


def blocks(every: Sequence[Results], table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with three lines per method and strategy that can be compared."""
    names = {"clean": "clean", "mpc": mpc_name(every), "rpc": rpc_name(every)}
    header = ("method", "strategy", "of", labels.reference(), "with it", "difference [95 %]")
    header += ("compared", "p", "verdict")
    tables = []
    for part in parts(table):
        lines = []
        rows = part.rows[part.rows["difference"].notna()]
        for (label, strategy), own in rows.groupby(["label", "strategy"], sort=False):
            for name, shown in names.items():
                # A ratio is percent, whatever the unit of what it is a ratio of.
                times = numbers.PERCENT if name == "rpc" else part.factor
                for row in own[own["name"] == name].itertuples():
                    ends = (row.difference_low, row.difference_high)
                    lines.append(
                        (
                            label,
                            strategy,
                            shown,
                            numbers.number(row.mean - row.difference, times),
                            numbers.number(row.mean, times),
                            numbers.difference(row.difference, *ends, times),
                            row.compared,
                            numbers.p_value(row.p_holm),
                            row.verdict or NOTHING,
                        )
                    )
        if lines:
            tables.append(Block(part.title, "", header, lines))
    return tables
