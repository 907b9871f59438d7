"""What can be had without reading the sentence: the numbers that a network must beat before it may be said to ground anything.

A weakly supervised network can look better than it is: on pictures whose objects crowd the middle, a blob in the middle overlaps
with most of them. So its mIoU is set beside

    constant     the best single mask for all images: the mean ground truth of the split itself, cut at its best level
    mean, max    the network's own maps with the text taken out: the mean, or the maximum, over an image's sentences is decided
                 once and stands for every one of them
"""

import cv2
import numpy as np
import torch

from benchmark.evaluation.records import Prediction, overlap
from methods.contract import Method

GRID = 96  # cells per side on which constant masks are compared; an image is stretched to it
LEVELS = 100


def best_constant(truths: np.ndarray) -> float:
    """Return the mIoU of the best constant mask for N ground truths, bool (N, G, G).

    The candidates are the level sets of their mean.
    """
    mean = truths.mean(0)
    areas, best = truths.sum((1, 2)), 0.0
    for level in np.unique(np.quantile(mean, np.linspace(0, 1, LEVELS))):
        constant = mean >= level
        both = truths[:, constant].sum(1)
        best = max(best, float(np.mean(both / np.maximum(areas + constant.sum() - both, 1))))
    return best


class TextBlind:
    """Collects the text-free numbers while a split is evaluated (its `on_image`)."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.truths: list[np.ndarray] = []
        self.ious: dict[str, list[float]] = {"mean": [], "max": []}

    def add(self, prediction: Prediction) -> None:
        """Take one image's maps and ground truths."""
        image, maps = prediction.image, torch.stack(prediction.logits)
        masks = {"mean": maps.mean(0), "max": maps.amax(0)}
        decided = {name: self.method.mask(logits, image.geometry) for name, logits in masks.items()}
        small = {
            ann_id: cv2.resize(truth, (GRID, GRID), interpolation=cv2.INTER_NEAREST).astype(bool)
            for ann_id, truth in image.masks.items()
        }
        for ref in image.refs:
            self.truths.append(small[ref.ann_id])
            for name, mask in decided.items():
                intersection, union = overlap(mask, image.masks[ref.ann_id])
                self.ious[name].append(intersection / union if union else 0.0)

    def numbers(self) -> dict[str, float]:
        """Return the mIoU of each, as fractions."""
        return {"constant": best_constant(np.stack(self.truths))} | {
            name: float(np.mean(values)) for name, values in self.ious.items()
        }
