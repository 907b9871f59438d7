"""Pseudo masks: what a finished, weakly supervised run says of the training split, for a second network to be trained on.

runs/<key>/pseudo.json    ref_id -> run-length code of its mask, in COCO's compressed form
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.progress import track

from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry, normalize, prepare_image
from benchmark.data.refer import Ref, ReferDataset
from benchmark.data.tokenizers import Tokenizer
from benchmark.runs.rundir import RunDir, find_run
from benchmark.training import auxiliary
from methods.contract import Method

FILE = "pseudo.json"


@torch.no_grad()
def make(
    run: RunDir, method: Method, dataset: ReferDataset, tokenizer: Tokenizer, device: torch.device, console: Console
) -> Path:
    """Write the pseudo masks that a run's network makes of all training refs; return the path. No annotated mask is read.

    Raises:
        UserError: the method makes none, or the file cannot be written.
    """
    needs = method.needs
    auxiliary.restore(method, run.spec(), dataset, tokenizer, run.path.parent, device)
    refs, masks = dataset.refs_of("train"), {}
    for ref in track(refs, "pseudo masks", console=console, transient=True, disable=not console.is_terminal):
        pixels = dataset.image(ref.image_id)
        geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
        prepared = torch.tensor(prepare_image(pixels, geometry, needs.mean))[None].to(device)
        sentences = [getattr(sentence, needs.text_field) for sentence in ref.sentences]
        text = tokenizer.encode(sentences, needs.max_length, needs.keep_end).to(device)
        mask = method.pseudo_mask(normalize(prepared, needs.mean, needs.std), text, geometry)
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        masks[ref.ref_id] = {"size": code["size"], "counts": code["counts"].decode()}
    run.write_json(FILE, masks)
    return run.path / FILE


def reader(runs: Path, key: str) -> Callable[[Ref], np.ndarray]:
    """Return ref -> its pseudo mask, uint8 (height, width) in {0, 1}, as the run called `key` made them.

    Raises:
        UserError: no run is named, or it has made none.
    """
    if not key:
        raise UserError(
            "this method is trained on pseudo masks: make them with `risbench pseudo-masks RUN` of a finished weakly"
            " supervised run and name that run with --pseudo-masks (recipe.pseudo_masks in a preset)."
        )
    path = find_run(runs, key).path / FILE
    try:
        masks = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"run {key} has made no pseudo masks yet: `risbench pseudo-masks {key}` does.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path} is damaged: make it again with `risbench pseudo-masks {key}`.") from None

    def read(ref: Ref) -> np.ndarray:
        if str(ref.ref_id) not in masks:
            raise UserError(f"run {key} has no pseudo mask of ref {ref.ref_id}: it was trained on other data.")
        return np.ascontiguousarray(coco_mask.decode(masks[str(ref.ref_id)]))

    return read
