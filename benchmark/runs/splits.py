"""How runs name splits: those of their own data set (`testA`) and of others (`refcocog.umd.test`).

A run may be reported on splits of other sets. Networks that are trained on `combined`, for example,
are published on the splits of RefCOCO, RefCOCO+ and RefCOCOg. Presets and commands write
`refcocog:umd:test`. In a run the name is also that of a file, so it has dots.
"""

from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.names import check_name
from benchmark.data import datasets


def label(name: str, split_by: str, split: str) -> str:
    """Return the name that runs give to a split of another data set."""
    return f"{name}.{split_by}.{split}"


def parse(entry: str, root: Path | None = None) -> str:
    """Return the name that runs give to a split which a preset names.

    Args:
        entry: a split as presets write it, such as `refcoco:testA` or `refcocog:umd:test`.
        root: folder of the data, for the message about a data set that is not known.

    Raises:
        UserError: the entry names no split, or the data set is not known.
    """
    name, *parts = entry.split(":")
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise UserError(
            f"'{entry}' names no split of a data set: write DATASET:SPLIT, such as refcoco:testA."
        )
    dataset, split_by = datasets.parse(":".join([name, *parts[:-1]]), root)
    check_name(parts[-1], f"a split of {name}")
    return label(dataset, split_by, parts[-1])


def owner(split: str) -> tuple[str, str, str] | None:
    """Return the data set, way of splitting and split that the name of a split stands for.

    Args:
        split: the name of a split, as runs write it.

    Returns:
        The three parts of another set's split, or None for a split of the run's own set.
    """
    parts = split.split(".")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
