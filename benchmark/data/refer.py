"""The only reader of REFER folders. It gives annotations, expressions, images and masks.

    ROOT/<name>/instances.json         COCO annotations of the images
    ROOT/<name>/refs(<split_by>).p     the refs, or grefs(<split_by>).json (see `refs`)
    ROOT/images/train2014/*.jpg        the photographs

The format is that of Kazemzadeh et al. (2014), Yu et al. (2016) and Mao et al. (2016), as REFER
distributes their data. gRefCOCO (Liu et al., 2023) and RRSIS-D (Liu et al., 2024) have it, too.
"""

import dataclasses
import functools
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from benchmark.base.errors import UserError, choose
from benchmark.base.files import describe_error, read_json
from benchmark.base.names import check_name
from benchmark.data.digests import content_digest
from benchmark.data.folders import COCO, find_datasets, refs_path
from benchmark.data.pictures import DECODING_ERRORS, decode
from benchmark.data.refs import Ref, read_refs
from benchmark.data.segmentations import parts, read_segmentation, text

MOST_PIXELS = 178_956_970  # of an image, as many as Pillow decodes
SPLIT_ORDER = ("train", "val", "testA", "testB", "testC", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image as instances.json describes it.

    Attributes:
        image_id: COCO's.
        path: where it should lie. It may lie there under COCO's 2017 name instead, see
            `ReferDataset.image_path`.
        height: in pixels.
        width: in pixels.
    """

    image_id: int
    path: Path
    height: int
    width: int


@dataclasses.dataclass
class ReferDataset:
    """One data set with one way of splitting it.

    Attributes:
        name: e.g. `refcocog`.
        split_by: e.g. `umd`.
        images: image_id -> its path and size.
        refs: all refs, in file order.
        segmentations: ann_id -> a list of polygons (float64, x1 y1 x2 y2 ... in pixels), a list of
            RLEs, or one RLE. It holds all annotations of the images, crowd ones included.
        annotation_image: ann_id -> image_id.
        annotation_category: ann_id -> category_id.
        categories: category_id -> name.
        folder: folder of the images.
        sources: (label, path) of each file that decides the annotations. `digest` hashes them.
        skipped: number of refs that were left out because they have no sentence.
    """

    name: str
    split_by: str
    images: dict[int, ImageInfo]
    refs: tuple[Ref, ...]
    segmentations: dict[int, Any]
    annotation_image: dict[int, int]
    annotation_category: dict[int, int]
    categories: dict[int, str]
    folder: Path
    sources: tuple[tuple[str, Path], ...]
    skipped: int = 0

    def __post_init__(self) -> None:
        # Runs write files and folders of these names, whoever has read the data set.
        check_name(self.name, "a data set")
        check_name(self.split_by, f"the way of splitting {self.name}")
        for split in self.splits:
            check_name(split, f"a split of {self.name} ({self.split_by})")

    @functools.cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that have refs: train first, then val, then the test splits."""
        present = {split for ref in self.refs for split in ref.splits}
        known = [split for split in SPLIT_ORDER if split in present]
        return (*known, *sorted(present - set(SPLIT_ORDER)))

    @functools.cached_property
    def annotations_of(self) -> dict[int, list[int]]:
        """image_id -> all its annotations, with those that no sentence is about."""
        annotations: dict[int, list[int]] = {}
        for ann_id, image_id in self.annotation_image.items():
            annotations.setdefault(image_id, []).append(ann_id)
        return annotations

    def refs_of(self, split: str) -> list[Ref]:
        """Return the refs of `split` in file order.

        Raises:
            UserError: the data set does not have the split.
        """
        choose(split, self.splits, f"split of {self.name} ({self.split_by})")
        return [ref for ref in self.refs if split in ref.splits]

    def info(self, image_id: int) -> ImageInfo:
        """Return path and size of an image.

        Raises:
            UserError: instances.json does not list the image.
        """
        if image_id not in self.images:
            raise UserError(
                f"Image {image_id} is not in instances.json of {self.name}: get the complete file."
            )
        return self.images[image_id]

    def rle(self, ann_id: int) -> dict[str, Any]:
        """Return the union of an annotation's parts as one compressed RLE of the image's size.

        Raises:
            UserError: the annotation is missing, or its segmentation is damaged or of another size
                than its image.
        """
        return coco_mask.merge(self.parts(ann_id))

    def parts(self, ann_id: int) -> list[dict[str, Any]]:
        """Return an annotation's parts, at least one, each as a compressed RLE of the image's size.

        Raises:
            UserError: as `rle`.
        """
        if ann_id not in self.segmentations:
            raise UserError(
                f"Annotation {ann_id} is not in instances.json of {self.name}: get the complete"
                " file."
            )
        info = self.info(self.annotation_image[ann_id])
        try:
            return parts(self.segmentations[ann_id], info.height, info.width)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"Annotation {ann_id} of {self.name} has a damaged segmentation ({error}): get"
                " instances.json again."
            ) from error

    def mask(self, ann_id: int) -> np.ndarray:
        """Return the mask of an annotation, uint8 (height, width) in {0, 1}.

        It is the union of the annotation's parts. A pixel of several parts is inside, where REFER's
        original code took it for background.

        Raises:
            UserError: as `rle`.
        """
        return np.ascontiguousarray(coco_mask.decode(self.rle(ann_id)))

    def target(self, ref: Ref) -> np.ndarray:
        """Return the mask of a ref, uint8 (height, width) in {0, 1}.

        It is the union of the ref's annotations, and empty where there is none.

        Raises:
            UserError: as `rle`.
        """
        if not ref.ann_ids:
            info = self.info(ref.image_id)
            return np.zeros((info.height, info.width), np.uint8)
        parts = [part for ann_id in ref.ann_ids for part in self.parts(ann_id)]
        return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(parts)))

    def image_path(self, image_id: int) -> Path:
        """Return where an image lies.

        It may lie under its name in instances.json, with or without that name's folders, or under
        COCO's 2017 name.

        Raises:
            UserError: it lies under none of them.
        """
        path = self.info(image_id).path
        name_2017 = f"{image_id:012d}.jpg"
        # Unlike Path.is_file, os.path.isfile does not raise for a folder that cannot be read. An
        # image in it counts as missing.
        for candidate in (path, self.folder / path.name, self.folder / name_2017):
            if os.path.isfile(candidate):
                return candidate
        raise UserError(
            f"Image {image_id} is missing: put {path.name} or {name_2017} into {self.folder}."
        )

    def image(self, image_id: int) -> np.ndarray:
        """Return an image as RGB, uint8 (height, width, 3).

        Its pixels are those that are stored, also where EXIF would have them turned. They are
        turned only where that alone gives the annotated size.

        Raises:
            UserError: the file is missing, cannot be decoded, or has another size than
                instances.json says.
        """
        info = self.info(image_id)
        path = self.image_path(image_id)
        try:
            pixels = decode(path, (info.height, info.width))
        except DECODING_ERRORS as error:
            raise UserError(f"{path} is damaged ({error}): get this image again.") from error
        if pixels.shape[:2] != (info.height, info.width):
            raise UserError(
                f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels and instances.json says"
                f" {info.width} x {info.height}: use the original images, not resized ones."
            )
        return pixels

    def digest(self) -> str:
        """Return the sha256 (hex) of the annotation files and of the images that refs use.

        Where the files lie does not matter. Hashing 20,000 images takes a while, so the result is
        kept in the user's cache folder (see `digests`). Even then each file is looked at, so this
        is done once for what was read.

        Raises:
            UserError: a file is missing.
        """
        return self._files_digest

    @functools.cached_property
    def _files_digest(self) -> str:
        used = sorted({ref.image_id for ref in self.refs})
        labels = [label for label, _ in self.sources] + [f"image {image_id}" for image_id in used]
        paths = [path for _, path in self.sources] + [
            self.image_path(image_id) for image_id in used
        ]
        return content_digest(labels, paths)


def read_refer(root: Path, name: str, split_by: str, images: Path | None = None) -> ReferDataset:
    """Read the data set `name`, split by `split_by`, of the REFER folder `root`.

    Args:
        root: folder that holds the data sets' folders.
        name: of a folder, such as `refcoco`.
        split_by: says which refs file is read, e.g. `unc`, `umd` or `google`.
        images: folder with the images, ROOT/images/train2014 by default. COCO's images have their
            names of 2014 or 2017.

    Raises:
        UserError: a folder, name or file is missing, or a file is damaged.
    """
    root = Path(root)
    present = find_datasets(root)
    choose(name, present, f"{root}: data set")
    choose(split_by, present[name], f"{root / name}: split_by")
    instances_path = root / name / "instances.json"
    path = refs_path(root, name, split_by)
    folder = root / COCO if images is None else Path(images)
    instances = read_json(instances_path)
    text_ids = _text_ids(instances)
    refs, skipped = read_refs(path, text_ids)
    try:
        infos = _used(
            instances["images"],
            {ref.image_id for ref in refs},
            {},
            lambda entry: _image_info(entry, folder),
        )
        annotations = _used(
            instances["annotations"],
            {ann_id for ref in refs for ann_id in ref.ann_ids},
            text_ids,
            lambda entry: (
                operator.index(entry["image_id"]),
                operator.index(entry["category_id"]),
                read_segmentation(entry["segmentation"]),
            ),
        )
        categories = {entry["id"]: text(entry["name"]) for entry in instances["categories"]}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{instances_path} is not a COCO instances file ({describe_error(error)}): get it"
            " again."
        ) from error
    return ReferDataset(
        name=name,
        split_by=split_by,
        images=infos,
        refs=refs,
        segmentations={ann_id: entry[2] for ann_id, entry in annotations.items()},
        annotation_image={ann_id: entry[0] for ann_id, entry in annotations.items()},
        annotation_category={ann_id: entry[1] for ann_id, entry in annotations.items()},
        categories=categories,
        folder=folder,
        sources=(
            (f"{name}/instances.json", instances_path),
            (f"{name}/{path.name}", path),
        ),
        skipped=skipped,
    )


def _text_ids(instances: Any) -> dict[str, int]:
    """Return the number of each annotation whose id is a text, as all of RefCLEF's are.

    It is the annotation's place in the file, since records and other sets have numbers.
    """
    entries = instances.get("annotations") if isinstance(instances, dict) else None
    return {
        entry["id"]: place
        for place, entry in enumerate(entries if isinstance(entries, list) else [], start=1)
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }


def _used(
    entries: list[dict[str, Any]],
    used: set[int],
    text_ids: Mapping[str, int],
    read: Callable[[dict[str, Any]], Any],
) -> dict[int, Any]:
    """Return id -> entry of instances.json. One that no ref uses is left out where it is damaged.

    Args:
        entries: images or annotations.
        used: ids that refs name.
        text_ids: the number of each entry whose id is a text.
        read: returns what is kept of an entry.

    Raises:
        KeyError, TypeError, ValueError: an entry that a ref uses is damaged, or there are two.
    """
    found: dict[int, Any] = {}
    for entry in entries:
        number = entry["id"] if isinstance(entry, dict) and "id" in entry else None
        number = text_ids.get(number, number) if isinstance(number, str) else number
        is_used = isinstance(number, int) and number in used
        if is_used and number in found:
            raise ValueError(f"two entries have the id {number}")
        try:
            found[operator.index(number)] = read(entry)
        except (KeyError, TypeError, ValueError):
            if is_used:
                raise
    return found


def _image_info(entry: dict[str, Any], folder: Path) -> ImageInfo:
    image_id, height, width = (operator.index(entry[key]) for key in ("id", "height", "width"))
    if not (1 <= height and 1 <= width and height * width <= MOST_PIXELS):
        raise ValueError(f"image {image_id} cannot have {width} x {height} pixels")
    # The refs have a file_name, too, but theirs has a suffix and is no file.
    file_name = PurePosixPath(text(entry["file_name"]))
    # A name that leads out of the folder is cut to its last part.
    inside = not file_name.is_absolute() and ".." not in file_name.parts
    return ImageInfo(image_id, folder / (file_name if inside else file_name.name), height, width)
