"""The table of every corruption at every severity."""

import numpy as np
import pandas as pd

from reports.layout import numbers
from reports.layout.block import Block
from reports.robustness.parts import parts


def blocks(table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with a line per corruption and severity, a column per strategy."""
    tables = []
    for part in parts(table):
        columns = [*part.rows[["label", "strategy"]].drop_duplicates().itertuples(index=False)]
        rows = part.rows[part.rows["kind"] == "corruption"]
        means = rows.set_index(["label", "strategy", "name", "level"])["mean"]
        conditions = rows[["name", "level"]].drop_duplicates().itertuples(index=False)
        lines = [
            (
                name.replace("_", " "),
                str(int(level)),
                *(
                    numbers.number(means.get((*column, name, level), np.nan), part.factor)
                    for column in columns
                ),
            )
            for name, level in conditions
        ]
        header = ("corruption", "severity", *(" ".join(column) for column in columns))
        if lines:
            tables.append(Block(part.title, "", header, lines, names=1, repeated=2))
    return tables
