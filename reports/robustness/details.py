"""The tables of single conditions, with value, change and difference per method and strategy.

There is one for the mean of every corruption (Fig. 6a of the MaskRIS paper), for occlusion, for
covered words and for subsets of language.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from benchmark.robustness.occlusion import TARGETS
from reports import labels
from reports.layout import numbers
from reports.layout.block import Block
from reports.robustness.parts import Part, parts

Names = Callable[[Any], tuple[str, ...]]  # row -> its first cells


def corruptions(table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with the mean of every corruption over its severities."""
    return _blocks(
        table,
        ("clean", "corruption mean"),
        ("corruption",),
        lambda row: (row["name"].replace("_", " "),),
    )


def occlusion(table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with every covered target at every share."""
    return _blocks(
        table,
        ("occlusion",),
        ("covered", "%"),
        lambda row: (row["name"], str(int(row["level"]))),
        TARGETS,
    )


def words(table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with every subset of words that were covered one by one."""
    return _blocks(table, ("word",), ("words", "covered"), _counted)


def language(table: pd.DataFrame) -> list[Block]:
    """Return one block per part, with every subset of expressions."""
    return _blocks(table, ("language",), ("subset", "expressions"), _counted)


def _counted(row: Any) -> tuple[str, str]:
    return row["name"], str(row["expressions"])


def _blocks(
    table: pd.DataFrame,
    kinds: tuple[str, ...],
    heads: tuple[str, ...],
    names: Names,
    order: Sequence[str] = (),
) -> list[Block]:
    """Return one block per part that has rows of these kinds.

    Args:
        table: what `table.table` returns.
        kinds: of the rows.
        heads: headings of the first columns.
        names: returns what stands in the first columns of a row.
        order: values of `name` in the order of the rows. By default they stay as in the table.
    """
    chosen = table[table["kind"].isin(kinds)]
    return [_block(part, heads, names, order) for part in parts(chosen)]


def _block(part: Part, heads: tuple[str, ...], names: Names, order: Sequence[str]) -> Block:
    header = (*heads, "method", "strategy", "value [95 %]", "change [95 %]")
    header += (f"difference to the {labels.reference()} [95 %]",)
    lines = []
    rows = part.rows.to_dict("records")
    if order:
        rows.sort(key=lambda row: order.index(row["name"]))
    for row in rows:
        value = numbers.number(row["mean"], part.factor)
        interval = numbers.between(row["low"], row["high"], part.factor)
        changes = [
            numbers.difference(row[name], row[f"{name}_low"], row[f"{name}_high"], part.factor)
            for name in ("change", "difference")
        ]
        lines.append(
            (*names(row), row["label"], row["strategy"], f"{value} {interval}".rstrip(), *changes)
        )
    return Block(part.title, "", header, lines, names=len(header) - 3)
