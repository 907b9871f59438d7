"""From a segmentation of instances.json, polygons or run lengths, to compressed RLEs."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

MOST_LENGTH = 4e6  # pixels of all outlines of an annotation, for which pycocotools takes 0.3 GB


def text(value: Any) -> str:
    """Return a value of a file that has to be a string.

    Raises:
        TypeError: it is none.
        UnicodeEncodeError: it holds half a character, which no file of results can.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a string")
    value.encode()
    return value


def read_segmentation(value: Any) -> Any:
    """Return a segmentation of instances.json with its polygons as arrays.

    As Python floats the numbers of RefCOCO would take four times the memory.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise TypeError(f"segmentation {value!r:.40} is neither polygons nor RLE")
    return [part if isinstance(part, dict) else np.asarray(part, np.float64) for part in value]


def parts(segmentation: Any, height: int, width: int) -> list[dict[str, Any]]:
    """Return the parts of a segmentation, at least one, each as a compressed RLE."""
    parts = [segmentation] if isinstance(segmentation, dict) else segmentation
    rles = [_run_lengths(part, height, width) for part in parts if isinstance(part, dict)]
    # Fewer than three points enclose nothing, and pycocotools would take two for a box.
    polygons = [part for part in parts if not isinstance(part, dict) and len(_points(part)) >= 6]
    if polygons:
        if sum(_length(polygon) for polygon in polygons) > MOST_LENGTH:
            raise ValueError("its polygons are far longer than an outline in an image")
        rles += coco_mask.frPyObjects(polygons, height, width)
    if not rles:
        empty = {"size": [height, width], "counts": [height * width]}
        rles = [coco_mask.frPyObjects(empty, height, width)]
    return rles


def _points(polygon: np.ndarray) -> np.ndarray:
    # pycocotools ignores half a point and hangs on points that are far away.
    if polygon.ndim != 1 or len(polygon) % 2 or not (np.abs(polygon) < 1e6).all():
        raise ValueError("a polygon is not a list of x, y pairs in the image")
    return polygon


def _length(polygon: np.ndarray) -> float:
    """Return the length of an outline in pixels, of which pycocotools keeps each."""
    steps = np.diff(polygon.reshape(-1, 2), axis=0, append=[polygon[:2]])
    return float(np.abs(steps).max(1).sum())


def _run_lengths(rle: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return an RLE, compressed or not, as a compressed one.

    Its length is checked here, because pycocotools reads whatever lies in memory for the rest of an
    RLE that is too short.
    """
    if list(rle["size"]) != [height, width]:
        raise ValueError(f"its RLE is of size {rle['size']} and its image of {[height, width]}")
    counts = rle["counts"]
    if isinstance(counts, list):
        if sum(counts) != height * width or min(counts) < 0:
            raise ValueError("its run lengths do not add up to the image")
        return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    compressed = {"size": [height, width], "counts": text(counts).encode()}
    if coco_mask.encode(coco_mask.decode(compressed))["counts"] != compressed["counts"]:
        raise ValueError("its run lengths do not add up to the image")
    return compressed
