"""Corrupted images, made ahead of the networks.

Each image is decoded and changed once per condition, for all methods that will see it.
"""

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write, open_regular
from benchmark.base.geometry import prepare_image
from benchmark.data.images import EvaluationImage, EvaluationImages, evaluation_image
from benchmark.data.loading import loader
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref
from benchmark.robustness import corruptions
from benchmark.robustness.conditions import Condition
from benchmark.robustness.corruptions import TooSmall
from methods.config import DataNeeds

# What of a method's needs decides its input: size, geometry and mean.
Preparation = tuple[int, str, tuple[float, float, float]]


def preparation(needs: DataNeeds) -> Preparation:
    """Return what two methods must share to be given the same input."""
    return needs.size, needs.geometry, needs.mean


@dataclasses.dataclass
class CorruptedImage:
    """One image under one condition.

    Attributes:
        views: preparation -> its views in order, usually a single one.
        seconds: how long each part of the work took. `decode` reads the file and `alter` changes
            the image, or `cache` reads the changed image. `prepare` makes the inputs and the ground
            truth.
    """

    views: dict[Preparation, list[EvaluationImage]]
    seconds: dict[str, float]


class Cache:
    """Corrupted images that are kept as PNG. A JPEG of a corrupted image would be another image.

    They lie at `folder/<digest>/<condition>/<image id>.png`, where the digest is that of the data
    and of the libraries' versions.

    Args:
        folder: holds the images of any number of data sets.
        dataset: the data set of the images.
    """

    def __init__(self, folder: Path, dataset: ReferDataset) -> None:
        content = f"{dataset.digest()} {corruptions.made_with()}"
        self.folder = folder / hashlib.sha256(content.encode()).hexdigest()[:12]

    def path(self, condition: Condition, image_id: int) -> Path:
        """Return where an image lies, whether it is there or not."""
        return self.folder / str(condition) / f"{image_id}.png"

    def reserve(
        self, dataset: ReferDataset, image_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> str:
        """Check that the disk has room, and return in words how much the cache will take at most.

        Args:
            dataset: the data set of the images.
            image_ids: images that will be kept.
            conditions: under which they will be kept. Only corruptions are.

        Raises:
            UserError: the disk has no room for that.
        """
        missing = [
            dataset.info(image_id)
            for condition in conditions
            if isinstance(condition, corruptions.Condition)
            for image_id in image_ids
            if not self.path(condition, image_id).exists()
        ]
        # Noise does not compress, so an image may take its plain size and a header.
        size = sum(3 * info.height * info.width + 1024 for info in missing)
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        words = (
            f"up to {size / 2**30:.2f} GiB for {len(missing)} images in {self.folder}, where"
            f" {free / 2**30:.1f} GiB are free"
        )
        if size > free:
            raise UserError(
                f"the cache would take {words}: make room, name fewer conditions, or leave --cache"
                " out."
            )
        return words

    def read(self, condition: Condition, image_id: int) -> np.ndarray | None:
        """Return a cached image, uint8 (height, width, 3), or None.

        Raises:
            UserError: the file is damaged.
        """
        path = self.path(condition, image_id)
        try:
            with open_regular(path) as content, Image.open(content) as file:
                return np.asarray(file.convert("RGB"))
        except FileNotFoundError:
            return None
        except (OSError, SyntaxError, ValueError):
            raise UserError(
                f"{path} is damaged: delete it and start the same command again."
            ) from None

    def write(self, condition: Condition, image_id: int, pixels: np.ndarray) -> None:
        """Keep an image, uint8 (height, width, 3).

        Raises:
            UserError: the disk is full.
        """
        image = Image.fromarray(pixels)
        atomic_write(
            self.path(condition, image_id),
            lambda temporary: image.save(temporary, format="PNG", compress_level=1),
        )


class CorruptedImages(Dataset):
    """The images of a split under several conditions. An index is (condition, image), two numbers.

    Args:
        dataset: holds the images.
        split: name of the split.
        conditions: by their number.
        needs: what the methods take. Methods with the same preparation share an input.
        cache: keeps corrupted images. None keeps none.
    """

    def __init__(
        self,
        dataset: ReferDataset,
        split: str,
        conditions: Sequence[Condition],
        needs: Sequence[DataNeeds],
        cache: Cache | None = None,
    ) -> None:
        self.dataset = dataset
        self.conditions = list(conditions)
        self.cache = cache
        self.needs = list({preparation(each): each for each in needs}.values())
        self.images = EvaluationImages(dataset, split, needs[0])

    def __getitem__(self, index: tuple[int, int]) -> CorruptedImage | UserError:
        # An error is returned, because one that a worker process raises arrives as a text with its
        # traceback in it.
        try:
            return self.corrupted(self.conditions[index[0]], self.images.image_ids[index[1]])
        except UserError as error:
            return error

    def corrupted(
        self, condition: Condition, image_id: int, refs: list[Ref] | None = None
    ) -> CorruptedImage:
        """Return one image under a condition, prepared for every method.

        Args:
            condition: what happens to the image.
            image_id: COCO's.
            refs: of the image, whose expressions are evaluated. None means all refs of the split.

        Raises:
            UserError: the image is missing or damaged, or the cache's disk is full.
            TooSmall: the corruption cannot take it.
        """
        refs = refs or self.images.by_image[image_id]
        start = time.perf_counter()
        cache = self.cache if isinstance(condition, corruptions.Condition) else None
        kept = cache.read(condition, image_id) if cache else None
        pixels = self.dataset.image(image_id) if kept is None else kept
        decoded = time.perf_counter()
        if kept is not None:
            pictures = [(kept, refs)]
        else:
            pictures = condition.views(self.dataset, refs, pixels)
        changed = time.perf_counter()
        if cache and kept is None:
            cache.write(condition, image_id, pictures[0][0])
        written = time.perf_counter()
        views: dict[Preparation, list[EvaluationImage]] = {}
        for picture, picture_refs in pictures:
            # The ground truth, which the first preparation makes, is the same for all.
            first = evaluation_image(self.dataset, picture_refs, picture, self.needs[0])
            for needs in self.needs:
                geometry = dataclasses.replace(first.geometry, size=needs.size, kind=needs.geometry)
                image = first.image
                if needs != self.needs[0]:
                    image = torch.tensor(prepare_image(picture, geometry, needs.mean))
                prepared = dataclasses.replace(first, image=image, geometry=geometry)
                views.setdefault(preparation(needs), []).append(prepared)
        if kept is None:
            seconds = {"decode": decoded - start, "alter": changed - decoded}
        else:
            seconds = {"cache": decoded - start}
        seconds["prepare"] = time.perf_counter() - written
        return CorruptedImage(views, seconds)


def ahead(
    images: CorruptedImages, groups: Sequence[list[tuple[int, int]]], workers: int
) -> Iterator[tuple[list[CorruptedImage], list[TooSmall]]]:
    """Yield the groups of images in order, without those that a corruption cannot take.

    What is said of each such image is yielded beside its group.

    Args:
        images: make the images.
        groups: indices of the images that are yielded together.
        workers: processes that make images ahead. With 0 this process makes them.

    Raises:
        UserError: an image is missing or damaged, the cache's disk is full, or a process was
            killed.
    """
    if workers:
        # Imported once here and not in every worker, which inherits it.
        import imagecorruptions  # noqa: F401

    try:
        for group in loader(images, groups, workers, collate=list):
            small = [item for item in group if isinstance(item, TooSmall)]
            taken = [item for item in group if not isinstance(item, TooSmall)]
            for item in taken:
                if isinstance(item, UserError):
                    raise item
            yield taken, small
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a process that prepares images was killed, most likely for want of memory: give fewer"
            " --workers. Finished conditions are kept."
        ) from None
