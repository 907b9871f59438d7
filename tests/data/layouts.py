"""Small folders in the layouts in which gRefCOCO, RefCLEF and RRSIS-D are published.

Each has images of 60 x 40 pixels and the boxes BOXES as annotations of its first image.
"""

import json
import pickle

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from tests.data.refer_files import HEIGHT, WIDTH, box, ref

BOXES = ((2, 3, 12, 13), (30, 5, 50, 25))  # left, top, right, bottom


def mask_of(*boxes):
    """The union of boxes, bool (40, 60)."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def run_lengths(mask):
    """What RefCLEF and RRSIS-D have for a segmentation: a list of one compressed RLE."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return [{"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}]


def write_instances(folder, images, annotations):
    """Write instances.json, from id -> file name and id -> (image_id, segmentation)."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for number, name in images.items()
        ],
        "annotations": [
            {"id": number, "image_id": image_id, "category_id": 3, "segmentation": segmentation}
            for number, (image_id, segmentation) in annotations.items()
        ],
        "categories": [{"id": 3, "name": "box"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))


def write_images(folder, names):
    """Write grey images, each of another level."""
    for level, name in enumerate(names, start=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (9 * level,) * 3).save(path)


def generalized(ref_id, ann_ids, image_id=1, split="train", sentences=("the boxes",)):
    """A ref of gRefCOCO, about any number of annotations."""
    entry = ref(ref_id, ann_ids or [-1], image_id, split, sentences)
    entry["category_id"] = [3] * len(ann_ids) or [-1]
    return entry | {"no_target": not ann_ids}


def write_grefcoco(root, splits=("train", "val", "testA", "testB"), per_split=1):
    """Write a gRefCOCO of some images a split, each with refs to one box, to both and to none."""
    refs, images, annotations = [], {}, {}
    for split in splits:
        for _ in range(per_split):
            image_id = len(images) + 1
            images[image_id] = f"COCO_train2014_{image_id:012d}.jpg"
            boxes = [10 * image_id, 10 * image_id + 1]
            annotations |= {
                number: (image_id, [box(*corners)])
                for number, corners in zip(boxes, BOXES, strict=True)
            }
            # A ref to one object is RefCOCO's, whose ann_id and category_id are numbers.
            refs.append(ref(len(refs), boxes[0], image_id, split, ("the left box",)))
            refs.append(generalized(len(refs), boxes, image_id, split, ("both", "all boxes")))
            refs.append(generalized(len(refs), [], image_id, split, ("the red dog",)))
    write_images(root / "images" / "train2014", images.values())
    write_instances(root / "grefcoco", images, annotations)
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    return root


def write_refclef(root):
    """Write a RefCLEF split by unc and by berkeley, whose ids of annotations are texts."""
    images = {number: f"{number}.jpg" for number in (112, 113, 114, 115)}
    annotations = {f"{number}_{1}": (number, run_lengths(mask_of(BOXES[0]))) for number in images}
    annotations["112_2"] = (112, run_lengths(mask_of(BOXES[1])))
    unc = [("train", "112_2"), ("val", "113_1"), ("testAB", "114_1"), ("testC", "115_1")]
    berkeley = [("train", "112_1"), ("train", "112_2"), ("val", "113_1"), ("test", "114_1")]
    write_images(root / "images" / "saiapr_tc-12", images.values())
    write_instances(root / "refclef", images, annotations)
    for split_by, named in (("unc", unc), ("berkeley", berkeley)):
        refs = [
            ref(number, ann_id, int(ann_id.partition("_")[0]), split)
            for number, (split, ann_id) in enumerate(named)
        ]
        for entry in refs:
            del entry["file_name"]
        path = root / "refclef" / f"refs({split_by}).p"
        path.write_bytes(pickle.dumps(refs, protocol=2))
    return root


def write_rrsisd(root):
    """Write an RRSIS-D of one image, expression and mask a split."""
    images = {number: f"{number:05d}.jpg" for number in (0, 1, 2)}
    write_images(root / "images" / "rrsisd" / "JPEGImages", images.values())
    annotations = {number: (number, run_lengths(mask_of(BOXES[1]))) for number in images}
    write_instances(root / "rrsisd", images, annotations)
    refs = [
        ref(number, number, number, split, ("a vehicle on the right",))
        for number, split in enumerate(("train", "val", "test"))
    ]
    (root / "rrsisd" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return root
