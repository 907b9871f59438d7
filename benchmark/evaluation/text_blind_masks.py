"""The text-blind baselines of masks, whatever has made them. `text_blind` says what they mean.

A network has maps for them. Masks that were made elsewhere are all that there is: the pixels that
most of an image's masks mark, and those that any of them marks. Nothing here needs torch.
"""

import cv2
import numpy as np

from benchmark.evaluation.masks import overlap
from benchmark.evaluation.records import Prediction

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


class TextBlindMasks:
    """Collects the text-blind numbers of masks while a split is evaluated.

    Its `add` is an `on_image` of an evaluation.
    """

    def __init__(self) -> None:
        self.truths: list[np.ndarray] = []  # bool (GRID, GRID), one per expression
        self.ious: dict[str, list[float]] = {"mean": [], "max": []}

    def decided(self, prediction: Prediction) -> dict[str, np.ndarray]:
        """Return the masks, bool (height, width), that stand for every sentence of an image."""
        every = np.stack(prediction.masks)
        return {"mean": every.mean(axis=0) > 0.5, "max": every.any(axis=0)}

    def add(self, prediction: Prediction) -> None:
        """Take one image's masks and ground truths."""
        decided = self.decided(prediction)
        for number in range(len(prediction.image.refs)):
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
