"""A finished run's network, loaded and asked."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmark import evaluation
from benchmark.data.geometry import Geometry, prepare_image
from benchmark.data.refer import Ref, ReferDataset, Sentence
from benchmark.data.samples import EvaluationImage
from benchmark.data.vocabulary import Tokeniser
from benchmark.errors import UserError, choose
from benchmark.matrix import Place, open_run
from benchmark.overlays import PREDICTION, tinted
from benchmark.rundir import RunDir, write_aside
from benchmark.training import build_method, load_best
from methods.protocol import Method

NAMES = {"oiou": "oIoU", "miou": "mIoU", "grounding_gap": "grounding gap"}


@dataclasses.dataclass
class Loaded:
    """A run's chosen network with its data and word pieces."""

    run: RunDir
    method: Method
    dataset: ReferDataset
    tokeniser: Tokeniser
    device: torch.device


def pick_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; `cuda` without a GPU raises a UserError."""
    choose(name, ("auto", "cpu", "cuda"), "device")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device here; use --device cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load(run: RunDir, place: Callable[[RunDir], Place], device: str) -> Loaded:
    """Return the network of a run with the weights of its chosen epoch.

    Raises:
        UserError: the run has no weights, or its data are not where they were.
    """
    spec = run.spec()
    dataset, tokeniser = open_run(spec, place(run))
    method = build_method(spec, tokeniser).to(pick_device(device)).eval()
    load_best(run, method)
    return Loaded(run, method, dataset, tokeniser, pick_device(device))


@torch.no_grad()
def predict_file(loaded: Loaded, path: Path, sentence: str, out: Path) -> tuple[list[Path], float]:
    """Segment one photograph; write `mask.png` (0 and 255, original size) and `overlay.png`; return their paths and the marked
    share of the image.

    Raises:
        UserError: the photograph is missing or damaged, the sentence empty, the folder not writable.
    """
    if not sentence.strip():
        raise UserError('the sentence is empty; name the object, e.g. "the red circle on the left".')
    try:
        pixels = np.asarray(Image.open(path).convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"there is no image {path}.") from None
    except OSError:
        raise UserError(f"{path} is no image that can be decoded; give a JPEG or PNG file.") from None
    needs = loaded.method.needs
    geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
    prepared = torch.tensor(prepare_image(pixels, geometry, needs.mean))
    words = Sentence(sent_id=0, sent=sentence.lower().strip(), raw=sentence)
    ref = Ref(ref_id=0, ann_id=0, image_id=0, category_id=0, split="", sentences=(words,))
    item = EvaluationImage(0, prepared, geometry, [ref], [words], {})
    (prediction,) = evaluation.predict(loaded.method, [item], loaded.tokeniser, loaded.device)
    (mask,) = prediction.masks
    pictures = {"mask.png": mask.astype(np.uint8) * 255, "overlay.png": tinted(pixels, mask, PREDICTION)}
    for name, picture in pictures.items():
        write_aside(out / name, lambda aside, picture=picture: Image.fromarray(picture).save(aside, format="PNG"))
    return [out / name for name in pictures], float(mask.mean())


def show(numbers: dict[str, float], intervals: dict[str, tuple[float, float]], title: str, console: Console) -> None:
    """Print numbers (percent) with their intervals."""
    table = Table("metric, %", "value", "95 % interval (images resampled)", title=title, box=None)
    for name, value in numbers.items():
        low, high = intervals.get(name, (None, None))
        table.add_row(
            NAMES.get(name, name.replace("p_", "P@0.").removesuffix("0")),
            "-" if value is None or value != value else f"{100 * value:.2f}",
            "" if low is None else f"[{100 * low:.2f}, {100 * high:.2f}]",
        )
    console.print(table)
