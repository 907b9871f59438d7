"""The table of every finished run, with all metrics that it recorded."""

import pandas as pd

from benchmark.evaluation import metrics
from reports.layout import numbers
from reports.layout.block import Block, named_once
from reports.matrix.parts import parts

NAMES = ("split", "method", "strategy", "seed")


def blocks(table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with a line per split and finished run.

    There is a column for every registered metric that a run of the part has recorded.

    Args:
        table: what `compare.points` returns.
    """
    tables = []
    for title, _, rows in parts(table):
        shown = [name for name in metrics.names() if name in rows and rows[name].notna().any()]
        header = (*NAMES, *map(numbers.heading, shown), "epoch")
        lines = [
            (row["split"], row["label"], row["strategy"], str(row["seed"]))
            + tuple(numbers.number(row[name], numbers.factor(name)) for name in shown)
            + (numbers.NOTHING if pd.isna(row["epoch"]) else f"{row['epoch']:.0f}",)
            for row in rows.to_dict("records")
        ]
        tables.append(Block(title, "", header, named_once(lines), repeated=len(NAMES)))
    return tables
