"""Small data and small networks that several tests use."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.base.rng import generator
from benchmark.runs.execution import Places
from benchmark.runs.preset import read_preset
from benchmark.runs.resolve import Matrix, resolve_preset
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared"
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 220)}


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process that asks for it makes, under a lock."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f"{folder.name}.made")
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            # What a failed attempt has left is no start for the next one.
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


def copied(folder: Path, *runs: RunDir) -> list[RunDir]:
    """Return copies of runs in another folder, for a test that changes them."""
    return [RunDir(shutil.copytree(run.path, folder / run.key)) for run in runs]


def write_boxes(root: Path, images: int = 10, name: str = "refcoco") -> Path:
    """Write a REFER folder of grey pictures with three coloured boxes each, split 6:2:1:1."""
    folder, photos = root / name, root / "images" / "train2014"
    folder.mkdir(parents=True)
    photos.mkdir(parents=True, exist_ok=True)
    instances = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
    refs = []
    splits = ["train"] * 6 + ["val", "val", "testA", "testB"]
    for image_id in range(1, images + 1):
        draw = generator("boxes", image_id)
        height, width = 60 + 4 * (image_id % 3), 72 - 4 * (image_id % 2)
        pixels = np.full((height, width, 3), 128, np.uint8)
        file_name = f"COCO_train2014_{image_id:012d}.jpg"
        instances["images"].append(
            {"id": image_id, "file_name": file_name, "height": height, "width": width}
        )
        for number, colour in enumerate(draw.permutation(list(COLOURS))):
            top, left, side = int(draw.integers(4, 30)), 4 + 22 * number, int(draw.integers(12, 20))
            pixels[top : top + side, left : left + side] = COLOURS[colour]
            truth = np.zeros((height, width), np.uint8, order="F")
            truth[top : top + side, left : left + side] = 1
            ann_id = 10 * image_id + number
            right, bottom = left + side, top + side
            polygon = [left, top, right, top, right, bottom, left, bottom]
            instances["annotations"].append(
                {
                    "id": ann_id,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "segmentation": [polygon],
                    "area": int(coco_mask.area(coco_mask.encode(truth))),
                    "bbox": [left, top, side, side],
                }
            )
            texts = [f"{colour} box", f"the {colour} one"]
            sentences = [
                {
                    "sent_id": 2 * ann_id + place,
                    "sent": text,
                    "raw": text.capitalize(),
                    "tokens": text.split(),
                }
                for place, text in enumerate(texts)
            ]
            refs.append(
                {
                    "ref_id": ann_id,
                    "ann_id": ann_id,
                    "image_id": image_id,
                    "category_id": 1,
                    "split": splits[(image_id - 1) % len(splits)],
                    "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "sentences": sentences,
                }
            )
        Image.fromarray(pixels).save(photos / file_name, quality=95)
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return root


def tiny_matrix(root: Path, runs: Path | None = None, **changes: object) -> Matrix:
    """Return the quick preset on the data in `root`, narrowed to what a test needs."""
    preset = read_preset("quick")
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4}
    update = {
        "datasets": ("refcoco",),
        "recipes": dict.fromkeys({*preset.methods, *changes.get("methods", ())}, recipe),
        "selection": preset.selection.model_copy(update={"every": 1}),
        **changes,
    }
    return resolve_preset(
        "test", preset.model_copy(update=update), Places(root, runs=runs or root.parent / "runs")
    )


def tiny_spec(
    root: Path, method: str = "cris", name: str = "maskris", /, **changes: object
) -> tuple[RunSpec, Places]:
    """Return one run of `tiny_matrix` and where its data lie."""
    found = tiny_matrix(root, methods=(method,), strategies=(name,), **changes)
    return found.specs[0], found.places
