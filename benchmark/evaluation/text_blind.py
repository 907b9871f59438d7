"""The text-blind baseline, which is the mIoU that can be had without reading the sentence.

A network must beat these numbers before it may be said to ground anything. A weakly supervised
network can look better than it is: on pictures whose objects crowd the middle, a blob in the middle
overlaps with most of them. So its mIoU is set beside these:

    constant     the best single mask for all images, which is the mean ground truth of the split
                 itself, cut at its best level
    mean, max    the network's own maps with the text taken out, where the mean or the maximum over
                 an image's sentences is decided once and stands for every one of them

A run keeps them (`text_blind_scores`).
"""

import cv2
import numpy as np
import torch

from benchmark.evaluation.masks import overlap
from benchmark.evaluation.records import Prediction
from methods.contract import Method

GRID = 96  # cells per side on which constant masks are compared, to which images are stretched
LEVELS = 100


def best_constant(truths: np.ndarray) -> float:
    """Return the mIoU, a fraction, of the best constant mask for N ground truths, bool (N, G, G).

    The candidates are the level sets of their mean.
    """
    mean = truths.mean(0)
    areas = truths.sum((1, 2))
    best = 0.0
    for level in np.unique(np.quantile(mean, np.linspace(0, 1, LEVELS))):
        constant = mean >= level
        intersections = truths[:, constant].sum(1)
        unions = np.maximum(areas + constant.sum() - intersections, 1)
        best = max(best, float(np.mean(intersections / unions)))
    return best


class TextBlindBaseline:
    """Collects the text-blind numbers of a network while a split is evaluated.

    Its `add` is an `on_image` of `predict.evaluate`.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.truths: list[np.ndarray] = []  # bool (GRID, GRID), one per expression
        self.ious: dict[str, list[float]] = {"mean": [], "max": []}

    def add(self, prediction: Prediction) -> None:
        """Take one image's maps and ground truths."""
        image = prediction.image
        maps = torch.stack(prediction.logits)
        blind = {"mean": maps.mean(0), "max": maps.amax(0)}
        decided = {name: self.method.mask(logits, image.geometry) for name, logits in blind.items()}
        for number in range(len(image.refs)):
            truth = prediction.truth(number)
            small = cv2.resize(truth, (GRID, GRID), interpolation=cv2.INTER_NEAREST)
            self.truths.append(small.astype(bool))
            for name, mask in decided.items():
                intersection, union = overlap(mask, truth)
                self.ious[name].append(intersection / union if union else 0.0)

    def numbers(self) -> dict[str, float]:
        """Return the mIoU of each, as fractions."""
        means = {name: float(np.mean(values)) for name, values in self.ious.items()}
        return {"constant": best_constant(np.stack(self.truths))} | means
