"""Pseudo masks: what a finished, weakly supervised run says of the training split, for a second network to be trained on.

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
from benchmark.data.refer import Ref
from benchmark.evaluation import masks
from benchmark.evaluation.inference import Loaded
from benchmark.runs.rundir import RunDir
from benchmark.training import auxiliary

FILE = "pseudo.json"


@torch.no_grad()
def make(run: RunDir, loaded: Loaded, source: Source, console: Console) -> Path:
    """Write the pseudo masks that a run's network makes of all training refs, and return the path.

    No annotated mask is read.

    Raises:
        UserError: the method makes none, or the file cannot be written.
    """
    method, dataset, tokenizer = loaded.method, loaded.dataset, loaded.tokenizer
    needs = method.needs
    auxiliary.restore(
        method, run.spec(), dataset, tokenizer, run.path.parent, source, loaded.device
    )
    found = {}
    refs = dataset.refs_of(TRAIN)
    for ref in track(
        refs, "pseudo masks", console=console, transient=True, disable=not console.is_terminal
    ):
        pixels = dataset.image(ref.image_id)
        geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
        prepared = torch.tensor(prepare_image(pixels, geometry, needs.mean))[None].to(loaded.device)
        sentences = [getattr(sentence, needs.text_field) for sentence in ref.sentences]
        text = tokenizer.encode(sentences, needs.max_length, needs.keep_end).to(loaded.device)
        mask = method.pseudo_mask(normalize(prepared, needs.mean, needs.std), text, geometry)
        found[ref.ref_id] = masks.encode(mask)
    run.write_json(FILE, found)
    return run.path / FILE


def reader(runs: Path, key: str) -> Callable[[Ref], np.ndarray]:
    """Return ref -> its pseudo mask, uint8 (height, width) in {0, 1}, as the run called `key` made them.

    Raises:
        UserError: no run is named, or it has made none. The reader raises one for a ref of other data.
    """
    if not key:
        raise UserError(
            "this method is trained on pseudo masks: make them with `risbench pseudo-masks RUN` of a finished weakly"
            " supervised run and name that run with --pseudo-masks (recipe.pseudo_masks in a preset)."
        )
    run = RunDir(runs / key)
    codes = run.read_json(FILE)
    if not codes:
        raise UserError(
            f"run {key}, whose pseudo masks are the targets, has made none yet: `risbench matrix` makes them first, or, once"
            f" that run is finished, `risbench pseudo-masks {key}`."
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
