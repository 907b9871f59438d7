"""Tries at the beginning of a run what could fail at its end, when the training would be lost."""

from collections.abc import Callable

import torch

from benchmark.data.datasets import TRAIN
from benchmark.data.images import evaluation_image
from benchmark.data.soundness import require_sound
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation import masks, metrics, overlays
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import frame, records_of
from benchmark.runs.opened import Opened
from benchmark.runs.spec import RunSpec
from methods.contract import Method


def rehearse(
    spec: RunSpec,
    opened: Opened,
    method: Method,
    tokenizer: Tokenizer,
    device: torch.device,
    tell: Callable[[str], None],
) -> None:
    """Decode whatever the run will read, and evaluate and draw one image of every split.

    Args:
        spec: the spec of the run.
        opened: reads its data sets.
        method: the network, whatever its weights are.
        tokenizer: of its sentences.
        device: of the network.
        tell: called with what is being done.

    Raises:
        UserError: an image or a mask is missing or damaged.
    """
    reported = dict.fromkeys((spec.selection.split, *spec.selection.report))
    for name in (TRAIN, *reported):
        dataset, split = opened.split(spec, name)
        require_sound(
            dataset,
            split,
            lambda done, images, name=name: tell(f"reading {name}, image {done}/{images}"),
        )
    training = method.training
    method.eval()
    for name in reported:
        tell(f"trying {name}")
        _evaluate_one(spec, opened, name, method, tokenizer, device)
    method.train(training)


@torch.no_grad()
def _evaluate_one(
    spec: RunSpec,
    opened: Opened,
    name: str,
    method: Method,
    tokenizer: Tokenizer,
    device: torch.device,
) -> None:
    """Evaluate and draw the refs of the image that has the longest sentence of a split."""
    dataset, split = opened.split(spec, name)
    refs = dataset.refs_of(split)
    longest = max(refs, key=lambda ref: max(len(sentence.raw) for sentence in ref.sentences))
    of_image = [ref for ref in refs if ref.image_id == longest.image_id]
    pixels = dataset.image(longest.image_id)
    image = evaluation_image(dataset, of_image, pixels, method.needs)
    (prediction,) = predict(method, [image], tokenizer, device)
    metrics.compute(frame(records_of(prediction)))
    masks.frame(masks.rows_of(prediction))
    if name == spec.selection.split:
        overlays.draw(pixels, prediction)
