"""A few validation images per run: sentence, ground truth and prediction, readable at a glance."""

import textwrap

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark.base.files import atomic_write
from benchmark.data.images import EvaluationImages
from benchmark.data.refer import ReferDataset
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import Prediction, overlap
from benchmark.runs.rundir import RunDir
from methods.contract import Method

TRUTH, PREDICTION = "#1f9e54", "#d6336c"
SENTENCES = 3  # per image


def tinted(image: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """Return RGB uint8 (height, width, 3): `mask` in `colour`, all else grey and dimmed, so that one colour has one meaning."""
    tint = 255 * np.array(matplotlib.colors.to_rgb(colour))
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    return np.where(mask.astype(bool)[..., None], 0.35 * grey + 0.65 * tint, 0.6 * grey + 0.4 * 255).astype(np.uint8)


def panel(axis: matplotlib.axes.Axes, image: np.ndarray, title: str, colour: str = "black") -> None:
    """Show one picture with a wrapped title."""
    axis.imshow(image)
    axis.set_title("\n".join(textwrap.wrap(title, 34)), fontsize=9, color=colour)
    axis.set_axis_off()


def draw(image: np.ndarray, prediction: Prediction) -> Figure:
    """Return a figure with a row per sentence: image and sentence, ground truth, prediction and its IoU."""
    refs, sentences = prediction.image.refs, prediction.image.sentences
    # One sentence per object first: what a reader wants to see is whether the text moves the mask.
    firsts = {ref.ann_id: number for number, ref in reversed(list(enumerate(refs)))}
    shown = sorted(firsts.values())[:SENTENCES]
    figure = Figure(figsize=(7.5, 2.6 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for row, number in zip(axes, shown, strict=True):
        truth, mask = prediction.image.masks[refs[number].ann_id], prediction.masks[number]
        both, union = overlap(mask, truth)
        panel(row[0], image, f"“{sentences[number].sent}”")
        panel(row[1], tinted(image, truth, TRUTH), "ground truth", TRUTH)
        panel(
            row[2], tinted(image, mask, PREDICTION), f"prediction, IoU {both / union if union else 0:.2f}", PREDICTION
        )
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
    """Write overlays of `count` images, spread evenly over the split, into the run directory."""
    method.eval()
    images = EvaluationImages(dataset, split, method.needs)
    for number in sorted({int(place) for place in np.linspace(0, len(images) - 1, min(count, len(images)))}):
        item = images[number]
        (prediction,) = predict(method, [item], tokenizer, device)
        figure = draw(dataset.image(item.image_id), prediction)
        atomic_write(
            run.path / "images" / f"{split}_{item.image_id}.png",
            lambda aside, f=figure: f.savefig(aside, format="png", dpi=110),
        )
