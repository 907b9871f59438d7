"""Altered images ahead of the network: each decoded and changed once per condition, for all methods that will see it."""

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.base.geometry import prepare_image
from benchmark.data.images import EvaluationImage, EvaluationImages, evaluation_image
from benchmark.data.refer import Ref, ReferDataset
from benchmark.robustness import corruptions
from benchmark.robustness.conditions import Condition
from methods.config import DataNeeds

Preparation = tuple[
    int, str, tuple[float, float, float]
]  # what of a method's needs decides its input: size, geometry, mean


def preparation(needs: DataNeeds) -> Preparation:
    """Return what two methods must share to be fed with the same picture."""
    return needs.size, needs.geometry, needs.mean


@dataclasses.dataclass
class CorruptedImage:
    """One image under one condition.

    Attributes:
        views: preparation -> its views in order, usually a single one.
        seconds: what it took to `decode` the file and to `alter` it, or to read it from the `cache`, and to `prepare` it with
            its ground truth.
    """

    views: dict[Preparation, list[EvaluationImage]]
    seconds: dict[str, float]


class Cache:
    """Corrupted images kept as PNG: lossless, since a JPEG of a corrupted image is another image.

    `folder/<digest of the data and of the libraries' versions>/<condition>/<image id>.png`
    """

    def __init__(self, folder: Path, dataset: ReferDataset) -> None:
        content = f"{dataset.digest()} {corruptions.made_with()}"
        self.folder = folder / hashlib.sha256(content.encode()).hexdigest()[:12]

    def path(self, condition: Condition, image_id: int) -> Path:
        """Return where an image lies, or would."""
        return self.folder / str(condition) / f"{image_id}.png"

    def reserve(
        self, dataset: ReferDataset, image_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> str:
        """Return in words how much the cache will take at most.

        Raises:
            UserError: the disk has no room for that.
        """
        new = [
            dataset.info(image_id)
            for condition in conditions
            if isinstance(condition, corruptions.Condition)
            for image_id in image_ids
            if not self.path(condition, image_id).exists()
        ]
        # Noise does not compress: what an image takes at most is its plain size.
        size = sum(3 * info.height * info.width + 1024 for info in new)
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        words = f"up to {size / 2**30:.2f} GiB for {len(new)} images in {self.folder}, where {free / 2**30:.1f} GiB are free"
        if size > free:
            raise UserError(
                f"the cache would take {words}: make room, name fewer conditions, or leave --cache out."
            )
        return words

    def read(self, condition: Condition, image_id: int) -> np.ndarray | None:
        """Return a cached image, uint8 (height, width, 3), or None. Raises UserError where it is damaged."""
        path = self.path(condition, image_id)
        try:
            with Image.open(path) as file:
                return np.asarray(file.convert("RGB"))
        except FileNotFoundError:
            return None
        except (OSError, SyntaxError, ValueError):
            raise UserError(
                f"{path} is damaged; delete it and start the same command again."
            ) from None

    def write(self, condition: Condition, image_id: int, pixels: np.ndarray) -> None:
        """Keep an image. Raises UserError where the disk is full."""
        image = Image.fromarray(pixels)
        atomic_write(
            self.path(condition, image_id),
            lambda aside: image.save(aside, format="PNG", compress_level=1),
        )


class CorruptedImages(Dataset):
    """The images of a split under several conditions; an index is (condition number, image number)."""

    def __init__(
        self,
        dataset: ReferDataset,
        split: str,
        conditions: Sequence[Condition],
        needs: Sequence[DataNeeds],
        cache: Cache | None = None,
    ) -> None:
        self.dataset, self.conditions, self.cache = dataset, list(conditions), cache
        self.needs = list({preparation(its): its for its in needs}.values())
        self.images = EvaluationImages(dataset, split, needs[0])

    def __getitem__(self, index: tuple[int, int]) -> CorruptedImage | UserError:
        # Returned, since what a worker process raises arrives as a text with its traceback in it.
        try:
            return self.altered(self.conditions[index[0]], self.images.image_ids[index[1]])
        except UserError as error:
            return error

    def altered(
        self, condition: Condition, image_id: int, refs: list[Ref] | None = None
    ) -> CorruptedImage:
        """Return one image under a condition, prepared for every method, with all its expressions or those of `refs`."""
        refs = refs or self.images.by_image[image_id]
        start = time.perf_counter()
        cache = self.cache if isinstance(condition, corruptions.Condition) else None
        kept = cache.read(condition, image_id) if cache else None
        pixels = self.dataset.image(image_id) if kept is None else kept
        decoded = time.perf_counter()
        pictures = (
            [(kept, refs)] if kept is not None else condition.views(self.dataset, refs, pixels)
        )
        changed = time.perf_counter()
        if cache and kept is None:
            cache.write(condition, image_id, pictures[0][0])
        written = time.perf_counter()
        views: dict[Preparation, list[EvaluationImage]] = {}
        for picture, asked in pictures:
            first = evaluation_image(self.dataset, asked, picture, self.needs[0])
            for its in self.needs:
                geometry = dataclasses.replace(first.geometry, size=its.size, kind=its.geometry)
                image = (
                    torch.tensor(prepare_image(picture, geometry, its.mean))
                    if its != self.needs[0]
                    else first.image
                )
                prepared = dataclasses.replace(first, image=image, geometry=geometry)
                views.setdefault(preparation(its), []).append(prepared)
        before = (
            {"decode": decoded - start, "alter": changed - decoded}
            if kept is None
            else {"cache": decoded - start}
        )
        return CorruptedImage(views, before | {"prepare": time.perf_counter() - written})


def ahead(
    images: CorruptedImages, groups: Sequence[list[tuple[int, int]]], workers: int
) -> Iterator[list[CorruptedImage]]:
    """Yield the groups of images in order, made ahead by `workers` processes (0: in this one).

    Raises:
        UserError: an image is missing, damaged or too small, the cache's disk is full, or a process was killed.
    """
    if workers:
        import imagecorruptions  # noqa: F401 - once here, and not in every process

    try:
        for group in DataLoader(images, batch_sampler=groups, num_workers=workers, collate_fn=list):
            for item in group:
                if isinstance(item, UserError):
                    raise item
            yield group
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a process that prepares images was killed, most likely for want of memory: give fewer --workers; finished conditions"
            " are kept."
        ) from None
