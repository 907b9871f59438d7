"""Tables of records that tests make from counts."""

import numpy as np
import pandas as pd


def table_of(intersection, union, image=None, swapped=None):
    """Return records as they were before `target_pixels`: by default of one expression per image,
    without a second object in any image.
    """
    rows = len(intersection)
    numbers = np.arange(rows)
    image = numbers if image is None else np.asarray(image)
    swapped_intersection, swapped_union = swapped or ([None] * rows, [None] * rows)
    return pd.DataFrame(
        {
            "image_id": image,
            "ref_id": numbers,
            "ann_id": numbers,
            "sent_id": numbers,
            "sentence": [f"thing {number}" for number in numbers],
            "intersection": np.asarray(intersection, np.int64),
            "union": np.asarray(union, np.int64),
            "swapped_intersection": pd.array(swapped_intersection, "Int64"),
            "swapped_union": pd.array(swapped_union, "Int64"),
        }
    )


def random_table(seed, images=40, most=5, shift=0.0):
    """Return images with 1 .. `most` expressions, all with a swap. `shift` raises every IoU."""
    stream = np.random.default_rng(99)  # the same expressions whatever the predictions
    image = np.repeat(np.arange(images), stream.integers(1, most + 1, images))
    quality = stream.uniform(0.2, 0.8, images)[image]
    union = stream.integers(1, 100_000, len(image))
    noise = np.random.default_rng(seed)
    share = np.clip(quality + shift + noise.normal(0, 0.1, len(image)), 0, 1)
    worse = np.clip(share - noise.uniform(0, 0.3, len(image)), 0, 1)
    swapped = ((worse * union).astype(int), union)
    return table_of((share * union).astype(int), union, image, swapped)


def seeds(*numbers, shift=0.0):
    """Return seed -> random table, one per number."""
    return {seed: random_table(number, shift=shift) for seed, number in enumerate(numbers)}
