"""The data sets by name.

An entry says who reads the set, how it is split, what its files hold, and what is odd about it. A
further set is one entry here or in a plugin. A folder in REFER's layout whose name is not known is
read, too, if its way of splitting is named as in `mine:unc`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmark.base.errors import choose
from benchmark.base.names import check_name
from benchmark.base.registry import Registry
from benchmark.data.combined import PARTS, read_combined
from benchmark.data.folders import find_datasets, require_dataset
from benchmark.data.refer import ReferDataset, read_refer

Reader = Callable[[Path, str, Path | None], ReferDataset]  # root, split_by, images
TRAIN = "train"
SELECT = "val"


@dataclasses.dataclass(frozen=True)
class Count:
    """Images, refs and expressions of a split."""

    images: int
    refs: int
    expressions: int


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What the suite knows of a data set.

    Attributes:
        name: what commands, presets and keys call it.
        read: returns the data set of a REFER folder, a way of splitting and an images folder.
        tests: way of splitting -> splits that neither train a run nor choose its epoch. The first
            way is the default.
        train: split that a run is trained on.
        select: split whose numbers choose a run's epoch.
        counts: way of splitting -> split -> counts of the published files. The split `all` is the
            union of the others.
        joins: names and ways of splitting of the sets that it is made of, if it joins some.
        selects_on: name and way of splitting of the set whose `select` split is its own, too.
        quirks: what a user must know of it.
        write: writes an embedded set into a REFER folder, given the number of images of each split
            and a seed. It is None for a set whose files come from elsewhere.
    """

    name: str
    read: Reader
    tests: Mapping[str, tuple[str, ...]]
    train: str = TRAIN
    select: str = SELECT
    counts: Mapping[str, Mapping[str, Count]] = dataclasses.field(default_factory=dict)
    joins: tuple[tuple[str, str], ...] = ()
    selects_on: tuple[str, str] | None = None
    quirks: str = ""
    write: Callable[[Path, Mapping[str, int], int], None] | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "a data set")

    @property
    def split_by(self) -> str:
        """The way of splitting that is used where none is named."""
        return next(iter(self.tests))


def _refer(name: str) -> Reader:
    def read(root: Path, split_by: str, images: Path | None) -> ReferDataset:
        require_dataset(root, name)
        return read_refer(root, name, split_by, images)

    return read


def _embedded(name: str, sentences: str) -> DataSet:
    def write(root: Path, sizes: Mapping[str, int], seed: int) -> None:
        # Imported here because it needs OpenCV, and many commands only read the names of the sets.
        from benchmark.data.refshapes.writer import write_refshapes

        write_refshapes(root, name, sizes, seed)

    quirks = f"Synthetic scenes that the suite writes itself. {sentences}"
    return DataSet(name, _refer(name), {"unc": ("testA", "testB")}, quirks=quirks, write=write)


# These are the counts of REFER's own files, whose sources docs/refcoco.md names. The totals in the
# literature differ from some of them.
_SHIPPED = (
    DataSet(
        "refcoco",
        _refer("refcoco"),
        {"unc": ("testA", "testB")},
        counts={
            "unc": {
                "train": Count(16994, 42404, 120624),
                "val": Count(1500, 3811, 10834),
                "testA": Count(750, 1975, 5657),
                "testB": Count(750, 1810, 5095),
                "all": Count(19994, 50000, 142210),
            }
        },
        quirks="testA's referents are people, testB's are other things.",
    ),
    DataSet(
        "refcoco+",
        _refer("refcoco+"),
        {"unc": ("testA", "testB")},
        counts={
            "unc": {
                "train": Count(16992, 42278, 120191),
                "val": Count(1500, 3805, 10758),
                "testA": Count(750, 1975, 5726),
                "testB": Count(750, 1798, 4889),
                "all": Count(19992, 49856, 141564),
            }
        },
        quirks="Its sentences may not say where something is.",
    ),
    DataSet(
        "refcocog",
        _refer("refcocog"),
        {"umd": ("test",), "google": ()},
        counts={
            "umd": {
                "train": Count(21899, 42226, 80512),
                "val": Count(1300, 2573, 4896),
                "test": Count(2600, 5023, 9602),
                "all": Count(25799, 49822, 95010),
            },
            "google": {"train": Count(24698, 44822, 85474), "val": Count(4650, 5000, 9536)},
        },
        quirks="google's train and val share images, and it has no test split. umd splits images.",
    ),
    DataSet(
        "combined",
        lambda root, split_by, images: read_combined(root, images),
        {"unc": ()},
        joins=PARTS,
        selects_on=("refcoco", "unc"),
        quirks=(
            "It joins the train splits of the three RefCOCO sets without any image of a val or test"
            " split. Its val is RefCOCO's."
        ),
    ),
    _embedded("refshapes", "All kinds of sentences, as in RefCOCO."),
    _embedded("refshapes+", "No sentence says where something is, as in RefCOCO+."),
    _embedded("refshapesg", "Long sentences that relate objects, as in RefCOCOg."),
)


def _shipped() -> Mapping[str, Callable[[], DataSet]]:
    return {dataset.name: lambda dataset=dataset: dataset for dataset in _SHIPPED}


DATASETS: Registry[DataSet] = Registry("datasets", "data set", _shipped, lambda: DataSet)


def names() -> list[str]:
    """Return the names of all known data sets."""
    return DATASETS.names()


def get(name: str) -> DataSet:
    """Return what is known of the data set `name`.

    Raises:
        UserError: the name is not known.
    """
    return DATASETS.get(name)


def parse(entry: str) -> tuple[str, str]:
    """Return name and way of splitting of `refcocog`, `refcocog:google` or `mine:unc`.

    Raises:
        UserError: the name is not known and no way of splitting is given, or the known set is not
            split this way.
    """
    name, _, split_by = entry.partition(":")
    if name not in DATASETS and split_by:
        check_name(name, "a data set")
        check_name(split_by, f"the way of splitting {name}")
        return name, split_by
    dataset = get(name)
    if not split_by:
        return name, dataset.split_by
    return name, choose(split_by, dataset.tests, f"way of splitting {name}:")


def read(name: str, split_by: str, root: Path, images: Path | None = None) -> ReferDataset:
    """Return a data set of a REFER folder.

    Args:
        name: of the data set, or of a folder in REFER's layout.
        split_by: its way of splitting.
        root: folder that holds the data sets' folders.
        images: folder with the images, ROOT/images/train2014 by default.

    Raises:
        UserError: a folder, name or file is missing, or a file is damaged.
    """
    if name in DATASETS:
        return get(name).read(Path(root), split_by, images)
    known = {*names(), *find_datasets(root)}
    return read_refer(root, choose(name, known, "data set"), split_by, images)


def test_splits(name: str, split_by: str, present: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the splits `present` that neither train a run nor choose its epoch."""
    if name in DATASETS:
        return tuple(split for split in get(name).tests.get(split_by, ()) if split in present)
    return tuple(split for split in present if split not in (TRAIN, SELECT))
