"""The table of methods and strategies ranked by mPC, with rPC, families and corruption errors."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.robustness import corruptions
from reports.layout import numbers
from reports.layout.block import Block
from reports.robustness.lines import named_sets
from reports.robustness.parts import Part, mpc_name, parts, rpc_name
from reports.robustness.results import Results

ERRORS = {"corruption_error": "CE", "relative_corruption_error": "rel. CE"}


def blocks(every: Sequence[Results], table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with a line per method and strategy, the best mPC first."""
    tables = []
    for part in parts(table):
        families = [*corruptions.families()]
        sets = [name for name in named_sets() if _has(part, "set", name)]
        errors = [name for name in ERRORS if _has(part, "summary", name)]
        header = ("method", "strategy", "clean", f"{mpc_name(every)} [95 %]", rpc_name(every))
        header += (*families, *(str(len(named_sets()[name])) for name in sets))
        header += tuple(ERRORS[name] for name in errors)
        ranked = []
        for (label, strategy), rows in part.rows.groupby(["label", "strategy"], sort=False):
            by_name = rows.set_index(["kind", "name"])
            if ("summary", "mpc") not in by_name.index:
                continue
            clean = by_name.loc[("clean", "clean")]
            mpc = by_name.loc[("summary", "mpc")]
            ends = (mpc["low"], mpc["high"])
            cells = [
                numbers.plus_minus(clean["mean"], clean["deviation"], part.factor),
                numbers.with_interval(mpc["mean"], mpc["deviation"], *ends, part.factor),
                _value(by_name, "summary", "rpc"),
                *(_value(by_name, "family", name, part.factor) for name in families),
                *(_value(by_name, "set", name, part.factor) for name in sets),
                *(_value(by_name, "summary", name) for name in errors),
            ]
            ranked.append((float(mpc["mean"]), (label, strategy, *cells)))
        ranked.sort(key=lambda line: -line[0])
        if ranked:
            lines = [line for _, line in ranked]
            tables.append(Block(part.title, "", header, lines, names=2))
    return tables


def _has(part: Part, kind: str, name: str) -> bool:
    return bool(((part.rows["kind"] == kind) & (part.rows["name"] == name)).any())


def _value(rows: pd.DataFrame, kind: str, name: str, times: float = numbers.PERCENT) -> str:
    return numbers.number(rows["mean"].get((kind, name), np.nan), times)
