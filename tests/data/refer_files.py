"""Small REFER folders, written by hand."""

import json
import pickle
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import SHARED

MINI = SHARED / "data" / "coco_mini"
needs_mini = pytest.mark.skipif(not MINI.is_dir(), reason="shared/data/coco_mini is not here")
HEIGHT, WIDTH = 40, 60


def box(left, top, right, bottom):
    """The polygon that covers the pixels [left, right) x [top, bottom)."""
    return [left, top, right, top, right, bottom, left, bottom]


def ref(ref_id=0, ann_id=10, image_id=1, split="train", sentences=("the box",)):
    entries = [
        {
            "sent_id": 100 * ref_id + number,
            "sent": text,
            "raw": text.upper(),
            "tokens": text.split(),
        }
        for number, text in enumerate(sentences)
    ]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 3,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "split": split,
        "sent_ids": [entry["sent_id"] for entry in entries],
        "sentences": entries,
    }


def write(
    root,
    refs=None,
    segmentations=None,
    name="refcoco",
    split_by="unc",
    file_name=None,
    image_ids=(1,),
):
    """Write a REFER folder of gray images of 60 x 40 pixels.

    Annotation ids are counted from 10 on the first image.
    """
    folder, images = root / name, root / "images" / "train2014"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    segmentations = [[box(5, 6, 20, 30)]] if segmentations is None else segmentations
    entries = []
    for image_id in image_ids:
        named = file_name or f"COCO_train2014_{image_id:012d}.jpg"
        Image.new("L", (WIDTH, HEIGHT), 7 * image_id).save(images / Path(named).name)
        entries.append({"id": image_id, "file_name": named, "height": HEIGHT, "width": WIDTH})
    annotations = [
        {"id": 10 + number, "image_id": image_ids[0], "category_id": 3, "segmentation": value}
        for number, value in enumerate(segmentations)
    ]
    categories = [{"id": 3, "name": "box"}]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / f"refs({split_by}).p").write_bytes(
        pickle.dumps([ref()] if refs is None else refs, protocol=2)
    )
    return root
