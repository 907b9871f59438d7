"""Pseudo masks are the masks that a weakly supervised run predicts for the training split.

A second network is trained on them. They lie in the directory of the finished run:

    runs/<key>/pseudo.json    ref_id -> run-length code of its mask, in COCO's compressed form
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry, normalize, prepare_image
from benchmark.base.pretrained import Source
from benchmark.data.datasets import TRAIN
from benchmark.data.refs import Ref
from benchmark.evaluation import masks
from benchmark.evaluation.inference import Loaded
from benchmark.runs.rundir import RunDir
from benchmark.training import auxiliary
from methods.precision import computed_in

FILE = "pseudo.json"


@torch.no_grad()
def make(run: RunDir, loaded: Loaded, source: Source, console: Console) -> Path:
    """Write the pseudo masks of all training refs, for which no annotated mask is read.

    Args:
        run: the directory of the finished run.
        loaded: the network of the run, with its data set and tokenizer.
        source: where published weights are looked for.
        console: the console that shows the progress.

    Returns:
        The path of the file.

    Raises:
        UserError: the method makes no pseudo masks, or the file cannot be written.
    """
    method = loaded.method
    dataset = loaded.dataset
    tokenizer = loaded.tokenizer
    needs = method.needs
    auxiliary.restore(
        method, run.spec(), dataset, tokenizer, run.path.parent, source, loaded.device
    )
    codes = {}
    refs = dataset.refs_of(TRAIN)
    for ref in track(
        refs, "pseudo masks", console=console, transient=True, disable=not console.is_terminal
    ):
        pixels = dataset.image(ref.image_id)
        geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
        prepared = torch.tensor(prepare_image(pixels, geometry, needs.mean))[None].to(loaded.device)
        sentences = [getattr(sentence, needs.text_field) for sentence in ref.sentences]
        text = tokenizer.encode(sentences, needs.max_length, needs.keep_end).to(loaded.device)
        with computed_in(method.precision, loaded.device):
            mask = method.pseudo_mask(normalize(prepared, needs.mean, needs.std), text, geometry)
        codes[ref.ref_id] = masks.encode(mask)
    run.write_json(FILE, codes)
    return run.path / FILE


def reader(runs: Path, key: str) -> Callable[[Ref], np.ndarray]:
    """Return a function that reads the pseudo mask of a ref.

    Args:
        runs: the folder of the run directories.
        key: the key of the run that has made the masks.

    Returns:
        A function from a ref to its mask, uint8 of shape (height, width) with values in {0, 1}. It
        raises a UserError for a ref of other data and for a damaged mask.

    Raises:
        UserError: `key` is empty, or the run has made no pseudo masks.
    """
    if not key:
        raise UserError(
            "this method is trained on pseudo masks: make them with `risbench pseudo-masks RUN` of"
            " a finished weakly supervised run, and name that run with --pseudo-masks"
            " (recipe.pseudo_masks in a preset)."
        )
    run = RunDir(runs / key)
    codes = run.read_json(FILE, f"make it again with `risbench pseudo-masks {key}`")
    if not codes:
        raise UserError(
            f"run {key}, whose pseudo masks are the targets, has made none yet: make them with"
            f" `risbench matrix` or, once that run is finished, with `risbench pseudo-masks {key}`."
        )

    def read(ref: Ref) -> np.ndarray:
        if str(ref.ref_id) not in codes:
            raise UserError(
                f"run {key} has no pseudo mask of ref {ref.ref_id}: it was trained on other data."
            )
        try:
            return masks.decode(codes[str(ref.ref_id)]).astype(np.uint8)
        except ValueError:
            raise UserError(
                f"{run.path / FILE} is damaged: make it again with `risbench pseudo-masks {key}`."
            ) from None

    return read
