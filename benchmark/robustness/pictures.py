"""Corrupted pictures of a split as files, for networks outside of the suite.

    OUT/<condition>/<name of the photograph>.png   the same bits as in the suite's own evaluation
    OUT/<split>.jsonl                              what is to be predicted: an expression a line

Masks that are predicted for them are scored with `risbench score --condition`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.data.expressions import refs_by_image
from benchmark.data.refer import ReferDataset
from benchmark.robustness.corruptions import Condition, TooSmall
from benchmark.robustness.images import ahead

AT_ONCE = 8  # pictures that a process makes before it says so


class _Pictures(Dataset):
    """Writes a picture where it is asked for one. An index is (condition, image), two numbers."""

    def __init__(
        self,
        dataset: ReferDataset,
        names: dict[int, str],
        conditions: Sequence[Condition],
        out: Path,
    ) -> None:
        self.dataset = dataset
        self.names = [*names.items()]
        self.conditions = conditions
        self.out = out

    def __getitem__(self, index: tuple[int, int]) -> UserError | None:
        condition, (image_id, name) = self.conditions[index[0]], self.names[index[1]]
        path = self.out / str(condition) / name
        if path.exists():
            return None  # An earlier call has written it, whole.
        try:
            picture = Image.fromarray(condition(self.dataset.image(image_id), image_id))
            # A JPEG of a corrupted picture would be another picture.
            atomic_write(path, lambda aside: picture.save(aside, format="PNG", compress_level=1))
        except UserError as error:
            # It is returned, because one that a worker process raises arrives with its traceback.
            return error
        return None


def picture_names(dataset: ReferDataset, split: str) -> dict[int, str]:
    """Return image_id -> the name of its corrupted pictures, of the images of a split.

    Raises:
        UserError: there is no such split, or two of its photographs have the same name.
    """
    names = {
        image_id: f"{dataset.info(image_id).path.stem}.png"
        for image_id in refs_by_image(dataset.refs_of(split))
    }
    if len({*names.values()}) < len(names):
        raise UserError(
            f"two photographs of {split} of {dataset.name} have the same name, so their pictures"
            " cannot lie in one folder."
        )
    return names


def write_expressions(dataset: ReferDataset, split: str, out: Path) -> Path:
    """Write what is to be predicted, and return the path: one JSON object an expression.

    Raises:
        UserError: there is no such split, or the file cannot be written.
    """
    names = picture_names(dataset, split)
    lines = [
        {
            "sent_id": sentence.sent_id,
            "ref_id": ref.ref_id,
            "image_id": ref.image_id,
            "file_name": names[ref.image_id],
            "sentence": sentence.sent,
            "raw": sentence.raw,
        }
        for refs in refs_by_image(dataset.refs_of(split)).values()
        for ref in refs
        for sentence in ref.sentences
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path = out / f"{split}.jsonl"
    atomic_write(path, lambda aside: aside.write_text(text))
    return path


def write_pictures(
    dataset: ReferDataset,
    split: str,
    conditions: Sequence[Condition],
    out: Path,
    workers: int = 0,
    on_pictures: Callable[[int], None] = lambda count: None,
) -> list[TooSmall]:
    """Write the corrupted pictures of a split. Those that are there already stay as they are.

    Args:
        dataset: holds the photographs.
        split: name of the split.
        conditions: corruptions and severities.
        out: the folder.
        workers: processes that make pictures. With 0 this process makes them.
        on_pictures: is called with the number of pictures that were made, for progress.

    Returns:
        What is said of each picture that a corruption cannot take.

    Raises:
        UserError: a photograph is missing or damaged, or the folder cannot be written.
    """
    pictures = _Pictures(dataset, picture_names(dataset, split), conditions, out)
    indices = [
        (number, image) for number in range(len(conditions)) for image in range(len(pictures.names))
    ]
    groups = [indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE)]
    too_small: list[TooSmall] = []
    for group, small in ahead(pictures, groups, workers):
        too_small += small
        on_pictures(len(group) + len(small))
    return too_small
