"""The findings of `risbench data check`.

They say what a REFER folder holds, how that compares with the known counts, and what is damaged.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.data import soundness
from benchmark.data.datasets import DATASETS, Count, get, read
from benchmark.data.folders import INSTANCES, find_datasets, present_datasets
from benchmark.data.pictures import Stored, stored
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref
from benchmark.data.soundness import find_image

NO_REFS = "refs(...).p or grefs(...).json"


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found of one split of one data set.

    Attributes:
        dataset: its name.
        split_by: its way of splitting, or nothing for a folder without refs.
        split: name of the split, or `all` for their union.
        found: counts of what is there, or None where nothing can be counted.
        known: counts of the published files, or None where they are not known. A difference is
            only a warning, because a part of the data or another version is no damage.
        problems: what is missing or damaged, one sentence each.
        turned: number of images that have the annotated size once they are turned as EXIF says.
        skipped: number of refs without sentences, which nothing reads.
    """

    dataset: str
    split_by: str
    split: str = "all"
    found: Count | None = None
    known: Count | None = None
    problems: tuple[str, ...] = ()
    turned: int = 0
    skipped: int = 0

    @property
    def absent(self) -> bool:
        """Whether the data set is not there at all, which is no problem."""
        return self.found is None and not self.problems

    @property
    def differs(self) -> bool:
        """Whether the counts differ from the known ones."""
        if self.found is None or self.known is None:
            return False
        return any(
            known not in (None, getattr(self.found, name))
            for name, known in vars(self.known).items()
        )


def check(
    root: Path, images: Path | None = None, full: bool = False, console: Console | None = None
) -> list[Row]:
    """Check every data set in the REFER folder `root`.

    These are the known data sets and every other folder of the same layout. The check compares the
    files and the counts. It also finds refs whose image or annotation is
    missing, images of another size than the annotations say, and empty masks.

    Args:
        root: folder that holds the data sets' folders.
        images: folder with the photographs, by default each set's own in ROOT.
        full: whether to decode every image, too. This takes minutes and finds truncated images.
        console: where to show progress. None shows none.

    Returns:
        One row per split of every data set that is there, and one row for each standard data set
        that is not.

    Raises:
        UserError: `root` is no folder or holds no data set.
    """
    present = find_datasets(root)
    incomplete = sorted(present_datasets(root).keys() - present.keys())
    # The standard sets come first, whether they are there or not. Whatever else is there follows.
    standard = [
        (name, split_by) for name, dataset in DATASETS.items() for split_by in dataset.counts
    ]
    others = [(name, split_by) for name in present for split_by in present[name]]
    sizes: dict[Path, Stored | None] = {}
    rows: list[Row] = []
    for name, split_by in dict.fromkeys((*standard, *others)):
        if split_by not in present.get(name, ()):
            rows += [] if name in incomplete else [Row(name, split_by)]
            continue
        try:
            dataset = read(name, split_by, root, images)
        except UserError as error:
            rows.append(Row(name, split_by, problems=(str(error),)))
            continue
        for image_id in track(
            sorted({ref.image_id for ref in dataset.refs} & dataset.images.keys()),
            f"{name} ({split_by}): images",
            console=console,
            transient=True,
            disable=console is None,
        ):
            path = find_image(dataset, image_id)
            # Data sets share images, and each image is looked at once.
            if path is not None and path not in sizes:
                sizes[path] = stored(path, full)
        counts = get(name).counts.get(split_by, {}) if name in DATASETS else {}
        for split in dict.fromkeys((*dataset.splits, *counts, "all")):
            refs = [ref for ref in dataset.refs if split in (*ref.splits, "all")]
            problems = () if split == "all" else soundness.problems(dataset, refs, sizes)
            turned = 0 if split == "all" else _turned(dataset, refs, sizes)
            found = Count(
                images=len({ref.image_id for ref in refs}),
                refs=len(refs),
                expressions=sum(len(ref.sentences) for ref in refs),
            )
            skipped = dataset.skipped if split == "all" else 0
            rows.append(
                Row(name, split_by, split, found, counts.get(split), problems, turned, skipped)
            )
    for name in incomplete:
        problem = f"{Path(root) / name} has {INSTANCES} and no {NO_REFS}: get this file, too."
        rows.append(Row(name, "", problems=(problem,)))
    return rows


def render(rows: list[Row], console: Console) -> bool:
    """Print the rows as a table, and below it what differs, what is absent and what is damaged.

    Returns:
        Whether nothing is missing or damaged.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="found/known, where they differ",
    )
    for title in ("data set", "split", "images", "refs", "expressions", "state"):
        table.add_column(
            title,
            justify="right" if title in ("images", "refs", "expressions") else "left",
            no_wrap=True,
        )
    for row in rows:
        if row.absent:
            continue
        cells = [_cell(row, field.name) for field in dataclasses.fields(Count)]
        table.add_row(_dataset(row), row.split, *cells, _state(row))
    console.print(table)
    if different := [row for row in rows if row.differs]:
        _say(
            console,
            f"Other counts than the known ones, a warning only: {_names(different)}.",
            "yellow",
        )
    if absent := [row for row in rows if row.absent]:
        _say(console, f"Absent: {_names(absent)}.")
    others = [row for row in rows if row.found is not None and row.dataset not in DATASETS]
    if others:
        named = dict.fromkeys(f"{row.dataset}:{row.split_by}" for row in others)
        _say(
            console,
            "Without an entry in the suite, and named in commands and presets as"
            f" {', '.join(named)}.",
        )
    for row in (row for row in rows if row.turned):
        images = "image is" if row.turned == 1 else "images are"
        _say(console, f"{_names([row])}: {row.turned} {images} turned as EXIF says.", "yellow")
    for row in (row for row in rows if row.skipped):
        refs = "ref without sentences is" if row.skipped == 1 else "refs without sentences are"
        _say(console, f"{_dataset(row)}: {row.skipped} {refs} left out.", "yellow")
    problems = [f"{_names([row])}: {problem}" for row in rows for problem in row.problems]
    for problem in problems:
        _say(console, problem, "red")
    _say(
        console,
        f"Missing or damaged: {len(problems)} problems, listed above."
        if problems
        else "Nothing is missing or damaged.",
    )
    return not problems


def _turned(dataset: ReferDataset, refs: list[Ref], sizes: dict[Path, Stored | None]) -> int:
    """Return how many images of refs are turned to have the annotated size."""
    count = 0
    for image_id in {ref.image_id for ref in refs} & dataset.images.keys():
        info, path = dataset.images[image_id], find_image(dataset, image_id)
        known = sizes[path] if path is not None else None
        count += known is not None and known.fits_turned((info.height, info.width))
    return count


def _dataset(row: Row) -> str:
    return f"{row.dataset} ({row.split_by})" if row.split_by else row.dataset


def _names(rows: Iterable[Row]) -> str:
    splits: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        splits[_dataset(row)] += [] if row.found is None else [row.split]
    return ", ".join(" ".join((dataset, *names)) for dataset, names in splits.items())


def _cell(row: Row, field: str) -> Text:
    if row.found is None:
        return Text("")
    count = getattr(row.found, field)
    if row.known is None:
        return Text(f"{count:,}")
    known = getattr(row.known, field)
    if known is None:
        return Text(f"{count:,}")
    return Text(f"{count:,}", "green") if count == known else Text(f"{count:,}/{known:,}", "yellow")


def _state(row: Row) -> Text:
    if row.problems:
        return Text("damaged", "red")
    if row.known is None:
        return Text("")
    return Text("differs", "yellow") if row.differs else Text("as known", "green")


def _say(console: Console, text: str, style: str = "") -> None:
    # As a Text, because rich would take a name like refs[unc] for markup.
    console.print(Text(text, style), soft_wrap=True)
