"""Both tables of the report have one part per supervision and data set."""

from collections.abc import Iterator

import pandas as pd

from reports import labels

WEAK_NOTE = "Training saw no mask, but the epoch of these runs was selected on masks of val."


def parts(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield title, note and rows of every part. The rows have a `label` and are sorted by split."""
    places = ["supervision", "dataset", "split_by"]
    for (supervision, dataset, by), rows in labels.with_method_labels(table).groupby(places):
        is_weak = supervision == "weak"
        title = f"{dataset} (split by {by})" + (", weakly supervised" if is_weak else "")
        order = {split: number for number, split in enumerate(dict.fromkeys(rows["split"]))}
        rows = rows.sort_values(
            "split", key=lambda names, order=order: names.map(order), kind="stable"
        )
        yield title, WEAK_NOTE if is_weak else "", rows
