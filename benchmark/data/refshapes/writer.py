"""RefShapes, the embedded synthetic data sets.

They are written in the layout of REFER, so `refer` reads them like any other.

    refshapes     all kinds of sentences, like RefCOCO
    refshapes+    appearance alone, no word of place, like RefCOCO+
    refshapesg    long sentences that relate objects, like RefCOCOg

Each set has scenes of its own, with image ids above COCO's, so all can share a root. RefCOCO's
testA holds people and testB other things. Likewise the referents of testA are round here (circle,
ring, heart, moon) and those of testB are angular (square, triangle, star, cross). Train and val
hold both. All sets use `refs(unc).p`. Two more files lie beside those of REFER:

    refshapes.json    what the set was made from
    scenes.json       `images`, which describes every object of each image, and `sentences`, which
                      names the kind of each sentence
"""

import dataclasses
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.base.errors import UserError, WorldError, choose
from benchmark.base.files import read_json
from benchmark.base.locks import locked
from benchmark.base.rng import generator
from benchmark.data.refshapes.scenes import ANGULAR, ROUND, SHAPES, Scene, compose
from benchmark.data.refshapes.sentences import MIXES, Expression, Kind, describe

NAMES = tuple(MIXES)
REVISION = 1  # must be raised when the same parameters give other files
REFERENTS = {"train": SHAPES, "val": SHAPES, "testA": ROUND, "testB": ANGULAR}
MOST_IMAGES = 100_000  # of a split, because the ids of the next split begin there
FILES = ("instances.json", "refs(unc).p", "scenes.json", "refshapes.json")
_JPEG_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class RefShapesSize:
    """Number of images of each split."""

    train: int = 2000
    val: int = 200
    testA: int = 150
    testB: int = 150

    def __post_init__(self) -> None:
        counts = dataclasses.astuple(self)
        if min(counts) < 0 or max(counts) > MOST_IMAGES or not sum(counts):
            raise UserError(
                f"RefShapes cannot have {counts} images: give 0 to {MOST_IMAGES} for each split,"
                " and at least one in all."
            )


def write_refshapes(root: Path, name: str, sizes: Mapping[str, int], seed: int = 0) -> None:
    """Write the data set `name` into the REFER folder `root`, unless it is there already.

    Image number i of a split depends on `seed`, `name`, the split and i alone, and not on how many
    images there are. The images go to their place first. The data set's folder follows when it is
    whole, so a set that was not finished is written again.

    Args:
        root: is made where it is missing. It may hold other data sets.
        name: one of NAMES.
        sizes: split -> number of images.
        seed: decides the scenes and the sentences.

    Raises:
        UserError: the name is not known, another or a damaged set of this name is there, or `root`
            cannot be written.
    """
    choose(name, NAMES, "embedded data set")
    root = Path(root)
    size = RefShapesSize(**sizes)
    made_from = {"name": name, "revision": REVISION, "seed": seed, "size": dataclasses.asdict(size)}
    try:
        # A folder that is there is whole. So reading it needs no lock, and it may be read-only.
        if not os.path.lexists(root / name):
            # If several runs want the set, the first one writes it and the others wait.
            with locked(root / f".{name}.lock"):
                if not os.path.lexists(root / name):
                    _write(root, name, made_from, size, seed)
                    return
        _require_whole(root, name, made_from, size)
    except OSError as error:
        raise WorldError(
            f"{root / name} cannot be written ({error.strerror or error}): make room or choose"
            " another folder."
        ) from error


def sentence_kinds(root: Path, name: str) -> dict[int, Kind]:
    """Return sent_id -> kind of every sentence of an embedded data set.

    Raises:
        UserError: scenes.json is missing or damaged.
    """
    path = Path(root) / name / "scenes.json"
    scenes = read_json(path)
    try:
        return {int(sent_id): entry["kind"] for sent_id, entry in scenes["sentences"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: remove that data set's folder and write it again."
        ) from error


def _require_whole(root: Path, name: str, made_from: dict[str, Any], size: RefShapesSize) -> None:
    """Check that a data set that is there was made from these parameters and lacks no file."""
    folder = root / name
    missing = [folder / file for file in FILES if not (folder / file).is_file()]
    if not missing:
        present = read_json(folder / "refshapes.json")
        if present != made_from:
            raise UserError(
                f"{folder} holds a set made from {json.dumps(present)} and not from"
                f" {json.dumps(made_from)}: remove that folder or choose another root."
            )
        images = root / "images" / "train2014"
        paths = [
            images / _file_name(_image_id(name, split, index)) for split, index in _scenes(size)
        ]
        missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} is not whole ({missing[0]} is missing): remove that folder, and it is"
            " written again."
        )


def _write(
    root: Path, name: str, made_from: dict[str, Any], size: RefShapesSize, seed: int
) -> None:
    # The files lie one level deeper than those of a data set, so that a search for data sets does
    # not find them.
    partial = root / f".{name}.partial"
    # A run that was killed may have left it.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        folder = partial / name
        images = partial / "images"
        folder.mkdir(parents=True)
        images.mkdir()
        contents = _contents(name, size, seed, images)
        contents["refshapes.json"] = _json(made_from)
        for file in FILES:
            (folder / file).write_bytes(contents[file])
        place = root / "images" / "train2014"
        place.mkdir(parents=True, exist_ok=True)
        for image in sorted(images.iterdir()):
            image.replace(place / image.name)
        folder.rename(root / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _contents(name: str, size: RefShapesSize, seed: int, images: Path) -> dict[str, bytes]:
    """Write the images into a folder and return the contents of the annotation files."""
    categories = [
        {"supercategory": "round" if shape in ROUND else "angular", "id": number, "name": shape}
        for number, shape in enumerate(SHAPES, 1)
    ]
    category_ids = {category["name"]: category["id"] for category in categories}
    instances: dict[str, Any] = {
        "info": {"description": f"RefShapes: {name}", "version": str(REVISION)},
        "licenses": [],
        "categories": categories,
        "images": [],
        "annotations": [],
    }
    refs: list[dict[str, Any]] = []
    image_entries: dict[int, Any] = {}
    sentence_entries: dict[int, Any] = {}
    for split, index in _scenes(size):
        image_id = _image_id(name, split, index)
        scene, expressions = _draw_scene(name, split, index, seed)
        bgr = np.ascontiguousarray(scene.image[..., ::-1])
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        (images / _file_name(image_id)).write_bytes(jpeg.tobytes())
        height_width = {"height": scene.height, "width": scene.width}
        instances["images"].append(
            {"id": image_id, "file_name": _file_name(image_id), **height_width}
        )
        things = []
        for number, (thing, mask) in enumerate(zip(scene.things, scene.masks, strict=True)):
            ann_id = image_id * 10 + number
            category_id = category_ids[thing.shape]
            things.append({"ann_id": ann_id, **dataclasses.asdict(thing)})
            instances["annotations"].append(
                {
                    "segmentation": segmentation(mask),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "image_id": image_id,
                    "bbox": list(cv2.boundingRect(mask)),
                    "category_id": category_id,
                    "id": ann_id,
                }
            )
            if number not in expressions:
                continue
            sent_ids = range(
                len(sentence_entries), len(sentence_entries) + len(expressions[number])
            )
            refs.append(
                {
                    "ref_id": len(refs),
                    "ann_id": ann_id,
                    "image_id": image_id,
                    "category_id": category_id,
                    # As in REFER, this name ends with a number that the image's does not have, so
                    # it is no file.
                    "file_name": _file_name(image_id).replace(".jpg", f"_{len(refs)}.jpg"),
                    "split": split,
                    "sent_ids": list(sent_ids),
                    "sentences": [
                        {
                            "sent_id": sent_id,
                            "sent": expression.sent,
                            "raw": expression.raw,
                            "tokens": expression.sent.split(),
                        }
                        for sent_id, expression in zip(sent_ids, expressions[number], strict=True)
                    ],
                }
            )
            for sent_id, expression in zip(sent_ids, expressions[number], strict=True):
                sentence_entries[sent_id] = {
                    "kind": expression.kind,
                    "ann_id": ann_id,
                    "image_id": image_id,
                }
        image_entries[image_id] = {**height_width, "things": things}
    return {
        "instances.json": _json(instances),
        "refs(unc).p": pickle.dumps(refs, protocol=2),
        "scenes.json": _json({"images": image_entries, "sentences": sentence_entries}),
    }


def _draw_scene(
    name: str, split: str, index: int, seed: int
) -> tuple[Scene, dict[int, list[Expression]]]:
    """Return a scene and, for two to four of its objects, two or three sentences."""
    rng = generator("refshapes", REVISION, seed, name, split, index)
    while True:
        scene = compose(rng, REFERENTS[split])
        if scene is None:
            continue
        expressions: dict[int, list[Expression]] = {}
        wanted = int(rng.integers(2, 5))
        for number in rng.permutation(len(scene.things)).tolist():
            if scene.things[number].shape in REFERENTS[split] and len(expressions) < wanted:
                sentences = describe(rng, scene, number, name, int(rng.integers(2, 4)))
                if sentences:
                    expressions[number] = sentences
        if len(expressions) > 1:
            return scene, expressions


def segmentation(mask: np.ndarray) -> list[list[float]] | dict[str, Any]:
    """Return a mask as COCO polygons, or as uncompressed RLE if it has holes.

    pycocotools makes exactly the same mask of either. The polygons run a quarter of a pixel inside
    the edges of the mask's pixels.

    Args:
        mask: uint8 (height, width) in {0, 1}.
    """
    # It is padded because a contour must not run along the border.
    double = np.pad(mask.repeat(2, 0).repeat(2, 1), 1)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if (hierarchy[0, :, 3] < 0).all():
        return [((contour[:, 0] - 0.5) / 2).ravel().tolist() for contour in contours]
    flat = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(starts, prepend=0, append=flat.size)
    return {"counts": counts.tolist(), "size": list(mask.shape)}


def _scenes(size: RefShapesSize) -> Iterator[tuple[str, int]]:
    for split, count in dataclasses.asdict(size).items():
        for index in range(count):
            yield split, index


def _image_id(name: str, split: str, index: int) -> int:
    """Return an id that no other set, split or scene has. COCO's own end below 600,000."""
    return (1 + NAMES.index(name)) * 1_000_000 + list(REFERENTS).index(split) * MOST_IMAGES + index


def _file_name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012d}.jpg"


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
