"""The data sets by name.

An entry says who reads the set, how it is split, what its files hold, and what is odd about it. A
further set is one entry here or in a plugin. A folder in REFER's layout whose name is not known is
read, too, if its way of splitting is named as in `mine:unc`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmark.base.errors import UserError, choose
from benchmark.base.names import check_name
from benchmark.base.registry import Registry
from benchmark.data.combined import PARTS, read_combined
from benchmark.data.folders import COCO, find_datasets, present_datasets, require_dataset
from benchmark.data.refer import ReferDataset, read_refer

Reader = Callable[[Path, str, Path | None], ReferDataset]  # root, split_by, images
TRAIN = "train"
SELECT = "val"


@dataclasses.dataclass(frozen=True)
class Count:
    """Images, refs and expressions of a split. None stands for what is not known."""

    images: int | None = None
    refs: int | None = None
    expressions: int | None = None


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
        images: folder of its photographs in a REFER folder, from there.
        metrics: names of the metrics that such a set has beside those of every set.
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
    images: str = COCO
    metrics: tuple[str, ...] = ()
    quirks: str = ""
    write: Callable[[Path, Mapping[str, int], int], None] | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "a data set")

    @property
    def split_by(self) -> str:
        """The way of splitting that is used where none is named."""
        return next(iter(self.tests))

    def images_in(self, root: Path, images: Path | None) -> Path | None:
        """Return the folder of its photographs, or None for that of COCO's in `root`.

        Args:
            root: folder that holds the data sets' folders.
            images: the folder that the user names, or None. A folder of photographs is COCO's for
                most sets. So another set has its own in `root`, if that is there.
        """
        own = Path(root) / self.images
        if self.images != COCO and (images is None or own.is_dir()):
            return own
        return images


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


# These are the counts of the published files, as far as a source says them: REFER's notebook,
# TensorFlow Datasets' catalogue and CRIS' table of data sets. The totals in the literature differ
# from some of them.
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
    DataSet(
        "grefcoco",
        _refer("grefcoco"),
        {"unc": ("testA", "testB")},
        # The images are those of RefCOCO. The paper has 278,232 expressions, of which some are held
        # back: https://github.com/henghuiding/gRefCOCO/issues/6
        counts={
            "unc": {
                "val": Count(images=1500),
                "testA": Count(images=750),
                "testB": Count(images=750),
                "all": Count(images=19994, expressions=259859),
            }
        },
        metrics=("giou", "n_acc", "t_acc"),
        quirks=(
            "An expression may name several objects or none. Its cIoU is oIoU. mIoU and P@X count"
            " an expression without a target as a miss, whatever is predicted, and gIoU does not."
        ),
    ),
    DataSet(
        "refclef",
        _refer("refclef"),
        {"unc": ("testA", "testB", "testC"), "berkeley": ("test",)},
        # REFER's README says that berkeley lacks two training images of 9,000 and one test image of
        # 10,000. No source was found for refs and expressions.
        counts={
            "unc": {
                "val": Count(images=2000),
                "testA": Count(images=485),
                "testB": Count(images=490),
                "testC": Count(images=465),
            },
            "berkeley": {
                "train": Count(images=8998),
                "val": Count(images=1000),
                "test": Count(images=9999),
                "all": Count(images=19997),
            },
        },
        images="images/saiapr_tc-12",
        quirks="Its photographs are SAIAPR TC-12's. A ref may be in several test splits of unc.",
    ),
    DataSet(
        "rrsisd",
        _refer("rrsisd"),
        {"unc": ("test",)},
        # The paper counts triplets of an image, an expression and a mask.
        counts={
            "unc": {
                "train": Count(refs=12181, expressions=12181),
                "val": Count(refs=1740, expressions=1740),
                "test": Count(refs=3481, expressions=3481),
                "all": Count(refs=17402, expressions=17402),
            }
        },
        images="images/rrsisd/JPEGImages",
        quirks="Its photographs are taken from above.",
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


def parse(entry: str, root: Path | None = None) -> tuple[str, str]:
    """Return name and way of splitting of `refcocog`, `refcocog:google` or `mine:unc`.

    Args:
        entry: what a preset or command calls the data set.
        root: folder that holds the data sets' folders, for the message about a name that is not
            known.

    Raises:
        UserError: the name is not known and no way of splitting is given (if it is a folder in
            `root`, the message says how it is named), or the known set is not split this way.
    """
    name, _, split_by = entry.partition(":")
    if name not in DATASETS and split_by:
        check_name(name, "a data set")
        check_name(split_by, f"the way of splitting {name}")
        return name, split_by
    if name not in DATASETS and root and (full := named_in(root, name)):
        raise UserError(
            f"data set '{name}' is not one that the suite knows, so its way of splitting must be"
            f" named: write {' or '.join(full)}."
        )
    dataset = get(name)
    if not split_by:
        return name, dataset.split_by
    return name, choose(split_by, dataset.tests, f"way of splitting {name}:")


def images_folder(name: str) -> str:
    """Return where a data set's photographs lie in a REFER folder, if the user names no folder."""
    return get(name).images if name in DATASETS else COCO


def named_in(root: Path, name: str) -> list[str]:
    """Return how commands and presets name a folder of `root` that is not a known data set.

    There is one name for each of its ways of splitting.
    """
    return [f"{name}:{split_by}" for split_by in present_datasets(root).get(name, ())]


def read(name: str, split_by: str, root: Path, images: Path | None = None) -> ReferDataset:
    """Return a data set of a REFER folder.

    Args:
        name: of the data set, or of a folder in REFER's layout.
        split_by: its way of splitting.
        root: folder that holds the data sets' folders.
        images: folder with the photographs, by default the set's own in ROOT (see
            `DataSet.images_in`).

    Raises:
        UserError: a folder, name or file is missing, or a file is damaged.
    """
    if name in DATASETS:
        dataset = get(name)
        return dataset.read(Path(root), split_by, dataset.images_in(root, images))
    known = {*names(), *find_datasets(root)}
    return read_refer(root, choose(name, known, "data set"), split_by, images)


def test_splits(name: str, split_by: str, present: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the splits `present` that neither train a run nor choose its epoch."""
    if name in DATASETS:
        return tuple(split for split in get(name).tests.get(split_by, ()) if split in present)
    return tuple(split for split in present if split not in (TRAIN, SELECT))
