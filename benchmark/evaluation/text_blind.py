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

import numpy as np
import torch

from benchmark.evaluation.records import Prediction
from benchmark.evaluation.text_blind_masks import TextBlindMasks
from methods.contract import Method


class TextBlindBaseline(TextBlindMasks):
    """Collects the text-blind numbers of a network while a split is evaluated.

    Its `add` is an `on_image` of `predict.evaluate`.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def decided(self, prediction: Prediction) -> dict[str, np.ndarray]:
        """Return the masks, bool (height, width), that stand for every sentence of an image."""
        maps = torch.stack(prediction.logits)
        blind = {"mean": maps.mean(0), "max": maps.amax(0)}
        geometry = prediction.image.geometry
        return {name: self.method.mask(logits, geometry) for name, logits in blind.items()}
