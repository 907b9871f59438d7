"""What is wrong with the refs of a data set, their images and their masks.

It is found before a run is trained, since a damaged image of a test split would otherwise be found
after the training.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pycocotools import mask as coco_mask

from benchmark.base import cache
from benchmark.base.errors import UserError, WorldError
from benchmark.data.pictures import Stored, stored
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref

SHOWN = 3  # examples that are listed of a problem
KIND = "sound"
AT_ONCE = 64  # images that are decoded between two looks at the progress


def find_image(dataset: ReferDataset, image_id: int) -> Path | None:
    """Return where an image lies, or None where it is missing."""
    try:
        return dataset.image_path(image_id)
    except UserError:
        return None


def problems(
    dataset: ReferDataset, refs: Iterable[Ref], sizes: dict[Path, Stored | None]
) -> tuple[str, ...]:
    """Return what is wrong with refs and with their images, one sentence for each kind.

    Every mask is decoded.

    Args:
        dataset: holds them.
        refs: of one split.
        sizes: path -> how the image is stored, or None where it cannot be decoded.
    """
    refs = list(refs)
    found: dict[str, list[str]] = defaultdict(list)
    for image_id in sorted({ref.image_id for ref in refs}):
        info = dataset.images.get(image_id)
        if info is None:
            found["images not in instances.json"].append(str(image_id))
        elif (path := find_image(dataset, image_id)) is None:
            found[f"images missing in {dataset.folder}"].append(info.path.name)
        elif sizes[path] is None:
            found["images that cannot be decoded"].append(path.name)
        elif sizes[path].shown_as((info.height, info.width)) != (info.height, info.width):
            found["images of another size than in instances.json"].append(path.name)
    for ref in refs:
        for ann_id in ref.ann_ids:
            name = f"ref {ref.ref_id}, annotation {ann_id}"
            if problem := _problem_of_mask(dataset, ref, ann_id):
                found[problem].append(name)
    sentences = []
    for problem, names in found.items():
        examples = "; ".join(names[:SHOWN]) + ("; ..." if len(names) > SHOWN else "")
        sentences.append(f"{problem}: {len(names)} ({examples}).")
    return tuple(sentences)


def _problem_of_mask(dataset: ReferDataset, ref: Ref, ann_id: int) -> str | None:
    """Return what is wrong with one annotation of a ref, or None."""
    if ann_id not in dataset.segmentations:
        return "refs with an annotation that is not in instances.json"
    if dataset.annotation_image[ann_id] != ref.image_id:
        return "refs with an annotation of another image"
    if ref.image_id not in dataset.images:
        return None  # That is said of the image.
    try:
        return None if coco_mask.area(dataset.rle(ann_id)) else EMPTY
    except UserError:
        return "refs with a damaged segmentation"


EMPTY = "refs with an empty mask"


def require_sound(
    dataset: ReferDataset, split: str, on_image: Callable[[int, int], None] = lambda done, of: None
) -> None:
    """Check that every image and mask of a split can be read.

    What was found sound once is remembered by the digest of its content, for all runs of this user.
    Refs with an empty mask stop nothing, since they can be trained and evaluated.

    Args:
        dataset: holds the split.
        split: its name.
        on_image: called with the number of images that were decoded, of all.

    Raises:
        UserError: some are missing or damaged. The message names the first ones.
    """
    key = cache.key_of(dataset.digest(), split)
    if cache.recall(KIND, key):
        return
    refs = dataset.refs_of(split)
    paths = sorted(
        {
            path
            for image_id in {ref.image_id for ref in refs} & dataset.images.keys()
            if (path := find_image(dataset, image_id))
        }
    )
    sizes: dict[Path, Stored | None] = {}
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            on_image(start, len(paths))
            sizes |= zip(some, pool.map(lambda path: stored(path, True), some), strict=True)
    serious = [each for each in problems(dataset, refs, sizes) if not each.startswith(EMPTY)]
    if serious:
        raise WorldError(
            f"{dataset.name} ({dataset.split_by}) {split} is damaged, so nothing is trained:"
            f" {' '.join(serious)} Get these files again."
        )
    cache.keep(KIND, key, "yes")
