"""Pictures of a few validation images per run, with sentence, ground truth and prediction."""

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark.base.files import atomic_write
from benchmark.data.images import EvaluationImages
from benchmark.data.refer import ReferDataset
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation import drawn_text
from benchmark.evaluation.masks import overlap
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import Prediction
from benchmark.evaluation.tint import PREDICTION, TRUTH, tinted
from benchmark.runs.rundir import RunDir
from methods.contract import Method

SENTENCES = 3  # per image


def panel(axis: matplotlib.axes.Axes, image: np.ndarray, title: str, color: str = "black") -> None:
    """Show one picture with a wrapped title."""
    axis.imshow(image)
    # A sentence may hold a dollar sign, which is no formula.
    text = "\n".join(drawn_text.wrapped(title, 34))
    axis.set_title(text, fontsize=9, color=color, parse_math=False, fontfamily=drawn_text.fonts())
    axis.set_axis_off()


def draw(image: np.ndarray, prediction: Prediction) -> Figure:
    """Return a figure with a row per sentence: image and sentence, ground truth, and prediction.

    Args:
        image: RGB, uint8 (height, width, 3), at its original size.
        prediction: the masks of the image's expressions.
    """
    refs = prediction.image.refs
    sentences = prediction.image.sentences
    # It shows one sentence per object, because a reader wants to see whether the text moves the
    # mask.
    firsts = {ref.ann_ids: number for number, ref in reversed(list(enumerate(refs)))}
    shown = sorted(firsts.values())[:SENTENCES]
    figure = Figure(figsize=(7.5, 2.6 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for row, number in zip(axes, shown, strict=True):
        truth = prediction.truth(number)
        mask = prediction.masks[number]
        intersection, union = overlap(mask, truth)
        iou = intersection / union if union else 0
        panel(row[0], image, f"“{sentences[number].sent}”")
        panel(row[1], tinted(image, truth, TRUTH), "ground truth", TRUTH)
        panel(row[2], tinted(image, mask, PREDICTION), f"prediction, IoU {iou:.2f}", PREDICTION)
    return figure


@torch.no_grad()
def write(
    run: RunDir,
    method: Method,
    dataset: ReferDataset,
    split: str,
    tokenizer: Tokenizer,
    device: torch.device,
    count: int,
) -> None:
    """Write overlays of `count` images, spread evenly over the split, into the run directory.

    Args:
        run: the run directory.
        method: the network.
        dataset: holds the images.
        split: name of the split.
        tokenizer: of the method's sentences.
        device: of the network.
        count: number of images. A smaller split has fewer.

    Raises:
        UserError: an image is missing or damaged, or the disk is full.
    """
    method.eval()
    images = EvaluationImages(dataset, split, method.needs)
    places = np.linspace(0, len(images) - 1, min(count, len(images)))
    for number in sorted({int(place) for place in places}):
        item = images[number]
        (prediction,) = predict(method, [item], tokenizer, device)
        figure = draw(dataset.image(item.image_id), prediction)
        with drawn_text.quiet_glyphs():
            atomic_write(
                run.path / "images" / f"{split}_{item.image_id}.png",
                lambda temporary, figure=figure: figure.savefig(temporary, format="png", dpi=110),
            )
