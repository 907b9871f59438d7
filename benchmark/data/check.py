"""What `risbench data check` says: what a REFER folder holds, beside the known counts, and what is damaged."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from pycocotools import mask as coco_mask
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.data.datasets import DATASETS, Count, get
from benchmark.data.refer import DECODING_ERRORS, Ref, ReferDataset, find_datasets, read_refer

SHOWN = 3  # examples of a problem that occurs often


@dataclasses.dataclass(frozen=True)
class Row:
    """One split of one data set.

    Attributes:
        dataset, split_by, split: which; the split `all` is their union.
        found: what is there; None where nothing can be counted.
        known: what the published files hold, where that is known. A difference is a warning: a part of the data, or
            another version, is no damage.
        problems: what is missing or damaged, one sentence each.
    """

    dataset: str
    split_by: str
    split: str = "all"
    found: Count | None = None
    known: Count | None = None
    problems: tuple[str, ...] = ()

    @property
    def absent(self) -> bool:
        """Whether the data set is not there at all, which is no problem."""
        return self.found is None and not self.problems

    @property
    def differs(self) -> bool:
        """Whether the counts are others than the known ones."""
        return None not in (self.found, self.known) and self.found != self.known


def check(
    root: Path, images: Path | None = None, full: bool = False, console: Console | None = None
) -> list[Row]:
    """Return one row per split of every data set in the REFER folder `root`, and one for each standard one that is not.

    Checked are the files, the counts, that every ref's image and annotation exist, images' sizes, and that no mask is
    empty.

    Args:
        root: folder that holds the data sets' folders.
        images: folder with the images; ROOT/images/train2014 by default.
        full: also decode every image (minutes), which finds truncated ones.
        console: where to show progress, if anywhere.

    Raises:
        UserError: `root` is no folder or holds no data set.
    """
    present = find_datasets(root)
    # Sets that come from elsewhere, whether they are there or not, and whatever else lies there.
    known = [(name, split_by) for name, dataset in DATASETS.items() for split_by in dataset.counts]
    others = [(name, split_by) for name in present for split_by in present[name]]
    sizes: dict[Path, tuple[int, int] | None] = {}
    rows = []
    for name, split_by in dict.fromkeys((*known, *others)):
        if split_by not in present.get(name, ()):
            rows.append(Row(name, split_by))
            continue
        try:
            dataset = read_refer(root, name, split_by, images)
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
            path = _find(dataset, image_id)
            if path is not None and path not in sizes:  # data sets share images
                sizes[path] = _size(path, full)
        counts = get(name).counts.get(split_by, {}) if name in DATASETS else {}
        for split in dict.fromkeys((*dataset.splits, *counts, "all")):
            refs = [ref for ref in dataset.refs if split in (ref.split, "all")]
            problems = () if split == "all" else _problems(dataset, refs, sizes)
            rows.append(Row(name, split_by, split, _count(refs), counts.get(split), problems))
    return rows


def render(rows: list[Row], console: Console) -> bool:
    """Print the rows as a table, then what differs, is absent or is damaged; return whether nothing is damaged."""
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
        cells = [_cell(row, field.name) for field in dataclasses.fields(Count)]
        table.add_row(_dataset(row), "" if row.absent else row.split, *cells, _state(row))
    console.print(table)
    if different := [row for row in rows if row.differs]:
        _say(
            console,
            f"Other counts than the known ones, a warning only: {_names(different)}.",
            "yellow",
        )
    if absent := [row for row in rows if row.absent]:
        _say(console, f"Absent: {_names(absent)}.")
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


def _count(refs: list[Ref]) -> Count:
    return Count(
        len({ref.image_id for ref in refs}), len(refs), sum(len(ref.sentences) for ref in refs)
    )


def _find(dataset: ReferDataset, image_id: int) -> Path | None:
    try:
        return dataset.image_path(image_id)
    except UserError:
        return None


def _size(path: Path, full: bool) -> tuple[int, int] | None:
    """Return (width, height) of an image, None if it cannot be decoded: its header, or where `full` all of it."""
    try:
        with Image.open(path) as file:
            if full:
                file.load()
            return file.size
    except DECODING_ERRORS:
        return None


def _problems(
    dataset: ReferDataset, refs: list[Ref], sizes: dict[Path, tuple[int, int] | None]
) -> tuple[str, ...]:
    found: dict[str, list[str]] = defaultdict(list)
    for image_id in sorted({ref.image_id for ref in refs}):
        info, path = dataset.images.get(image_id), None
        if info is None:
            found["images not in instances.json"].append(str(image_id))
        elif (path := _find(dataset, image_id)) is None:
            found[f"images missing in {dataset.folder}"].append(info.path.name)
        elif sizes[path] is None:
            found["images that cannot be decoded"].append(path.name)
        elif sizes[path] != (info.width, info.height):
            found["images of another size than in instances.json"].append(path.name)
    for ref in refs:
        name = f"ref {ref.ref_id}, annotation {ref.ann_id}"
        if ref.ann_id not in dataset.segmentations:
            found["refs with an annotation that is not in instances.json"].append(name)
        elif dataset.annotation_image[ref.ann_id] != ref.image_id:
            found["refs with an annotation of another image"].append(name)
        elif ref.image_id in dataset.images:
            try:
                if not coco_mask.area(dataset.rle(ref.ann_id)):
                    found["refs with an empty mask"].append(name)
            except UserError:
                found["refs with a damaged segmentation"].append(name)
    return tuple(f"{what}: {len(names)} ({_examples(names)})." for what, names in found.items())


def _examples(names: list[str]) -> str:
    return "; ".join(names[:SHOWN]) + ("; ..." if len(names) > SHOWN else "")


def _dataset(row: Row) -> str:
    return f"{row.dataset} ({row.split_by})"


def _names(rows: Iterable[Row]) -> str:
    splits: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        splits[_dataset(row)] += [] if row.found is None else [row.split]
    return ", ".join(" ".join((name, *found)) for name, found in splits.items())


def _cell(row: Row, field: str) -> Text:
    if row.found is None:
        return Text("")
    found = getattr(row.found, field)
    if row.known is None:
        return Text(f"{found:,}")
    known = getattr(row.known, field)
    return Text(f"{found:,}", "green") if found == known else Text(f"{found:,}/{known:,}", "yellow")


def _state(row: Row) -> Text:
    if row.absent:
        return Text("absent", "dim")
    if row.problems:
        return Text("damaged", "red")
    if row.known is None:
        return Text("")
    return Text("differs", "yellow") if row.differs else Text("as known", "green")


def _say(console: Console, text: str, style: str = "") -> None:
    # As Text: names like refs[unc] are no markup.
    console.print(Text(text, style), soft_wrap=True)
