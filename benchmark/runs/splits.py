"""Names of splits in a run: its own data set's (`testA`), and those of others (`refcocog.umd.test`).

A run may be reported on splits of other sets: networks that are trained on `combined` are published on RefCOCO's, RefCOCO+'s and
RefCOCOg's. Presets and commands write `refcocog:umd:test`. In a run, where the name is also that of a file, it has dots.
"""

from benchmark.base.errors import UserError
from benchmark.data import datasets


def label(name: str, split_by: str, split: str) -> str:
    """Return how runs name a split of another data set."""
    return f"{name}.{split_by}.{split}"


def parse(entry: str) -> str:
    """Return how runs name what a preset writes: `refcoco:testA`, or `refcocog:umd:test`.

    Raises:
        UserError: it is no such name, or the data set is not known.
    """
    name, *parts = entry.split(":")
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise UserError(
            f"'{entry}' names no split of a data set: write DATASET:SPLIT, such as refcoco:testA."
        )
    set_name, split_by = datasets.parse(":".join([name, *parts[:-1]]))
    return label(set_name, split_by, parts[-1])


def owner(split: str) -> tuple[str, str, str] | None:
    """Return data set, way of splitting and split of another set's split; None for one of the run's own set."""
    parts = split.split(".")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
