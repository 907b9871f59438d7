"""A finished run's network, loaded and asked."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

import methods
from benchmark.base.errors import UserError, choose
from benchmark.base.files import atomic_write
from benchmark.base.geometry import Geometry, prepare_image
from benchmark.base.rng import reseed_dropout
from benchmark.data.images import EvaluationImage
from benchmark.data.refer import Ref, ReferDataset, Sentence, default_split_by
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation import bootstrap, checkpoint_files, metrics, published
from benchmark.evaluation.overlays import PREDICTION, tinted
from benchmark.evaluation.predict import evaluate, predict
from benchmark.evaluation.published import Measurement
from benchmark.evaluation.records import Prediction
from benchmark.evaluation.text_blind import TextBlind
from benchmark.runs.execution import Place
from benchmark.runs.resolve import open_dataset, open_run, tokenizer_of
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from methods.contract import Method


def build_method(spec: RunSpec, tokenizer: Tokenizer) -> Method:
    """Return the spec's network with random weights of the spec's seed, the same for every strategy."""
    reseed_dropout(spec.seed, "starting weights")
    # Images arrive channels-last; convolutions are fastest when their weights do, too.
    return methods.get(spec.method)(spec.network, tokenizer.size).to(memory_format=torch.channels_last)


def best_weights(run: RunDir) -> dict[str, Tensor]:
    """Return the weights of the chosen epoch.

    Raises:
        UserError: there are none yet.
    """
    path = run.path / "best.safetensors"
    if not path.exists():
        raise UserError(f"run {run.key} has no weights yet ({path}); let it finish or bring the file along.")
    return load_file(path)


def load_best(run: RunDir, method: Method) -> None:
    """Load the weights of the chosen epoch; raises like `best_weights`."""
    method.load_state_dict(best_weights(run))


NAMES = {
    "oiou": "oIoU",
    "miou": "mIoU",
    "grounding_gap": "grounding gap",
    "constant": "best constant mask",
    "mean": "mean of an image's maps",
    "max": "maximum of an image's maps",
}


@dataclasses.dataclass
class Loaded:
    """A network with its data and word pieces; `name` says whose weights it has."""

    name: str
    method: Method
    dataset: ReferDataset
    tokenizer: Tokenizer
    device: torch.device


def pick_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; `cuda` without a GPU raises a UserError."""
    choose(name, ("auto", "cpu", "cuda"), "device")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device here; use --device cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load(run: RunDir, place: Callable[[RunDir], Place], device: str, dataset: ReferDataset | None = None) -> Loaded:
    """Return the network of a run with the weights of its chosen epoch; `dataset` where its data are open already.

    Raises:
        UserError: the run has no weights, or its data are not where they were.
    """
    spec, chosen = run.spec(), pick_device(device)
    dataset, tokenizer = open_run(spec, place(run), dataset)
    method = build_method(spec, tokenizer)
    load_best(run, method)
    return Loaded(run.key, method.to(chosen).eval(), dataset, tokenizer, chosen)


def load_checkpoint(
    path: Path, name: str, variant: str, dataset: str, place: Place, device: str, console: Console
) -> Loaded:
    """Return the network called `name` with the weights of a checkpoint file, and print what of the file was not used.

    Args:
        dataset: what it will be asked about, e.g. `refcocog:google`: decides the sentence length and, for variants that are
            trained from scratch, the word pieces.

    Raises:
        UserError: a name is not known, the file is damaged or holds more than weights, or its weights are another variant's.
    """
    kind, chosen = methods.get(name), pick_device(device)
    choose(variant, kind.variants, f"variant of {name}")
    published = checkpoint_files.read(path)
    dataset_name, _, split_by = dataset.partition(":")
    data = open_dataset(dataset_name, split_by or default_split_by(dataset_name), place)
    config = kind.config_for(variant, dataset_name)
    tokenizer = tokenizer_of(kind, config, data)
    method = kind(config, tokenizer.size)
    found = checkpoint_files.fit(method, published)
    _report(found, path, console)
    checkpoint_files.load(method, published, found, str(path), tokenizer.size)
    return Loaded(f"{name} {variant} of {path.name}", method.to(chosen).eval(), data, tokenizer, chosen)


def _report(found: checkpoint_files.Fit, path: Path, console: Console) -> None:
    """Print what of a file is used, and by name what is not used or missing."""
    unused = len(found.unneeded) + len(found.unknown)
    console.print(f"{path}: {len(found.weights)} entries taken, {unused} not used, {len(found.missing)} missing")
    for entry, reason in found.unneeded.items():
        console.print(f"  not needed ({reason}): {entry}", soft_wrap=True)
    for entry in found.unknown:
        console.print(f"  not used, unknown to this network: {entry}", soft_wrap=True)
    for entry in found.missing:
        console.print(f"  missing: {entry}", soft_wrap=True)


def measure(
    loaded: Loaded,
    split: str,
    protocol: str | None,
    out: Path | None,
    console: Console,
    text_blind: bool = False,
    noise_seeds: int = 1,
) -> None:
    """Evaluate a split and print the suite's numbers with intervals and what else is asked for.

    Args:
        protocol: also the numbers of a published protocol.
        out: where the records are written.
        text_blind: also what can be had without reading the sentence (`floors`).
        noise_seeds: how often a method with noise of its own (SaG) is evaluated; several are averaged and their spread is shown.
    """
    if protocol and loaded.method.weakly_supervised:
        raise UserError(
            f"{loaded.method.name} was published with masks decided at the original size, which is what the suite measures;"
            " leave --protocol out."
        )
    as_published = protocol and Measurement(published.get(protocol, loaded.method.needs.geometry), loaded.dataset)
    floors = TextBlind(loaded.method) if text_blind else None
    collectors = [collector.add for collector in (as_published, floors) if collector]
    records = _evaluate(loaded, split, 0, collectors, console)
    if out:
        atomic_write(out, lambda aside: records.to_parquet(aside, index=False))
    show(metrics.metrics(records), bootstrap.intervals(records), f"{loaded.name} on {split}", console)
    if as_published:
        show(as_published.numbers(), {}, f"as published ({protocol})", console)
    if floors:
        show(floors.numbers(), {}, "mIoU without reading the sentence", console)
    if noise_seeds > 1:
        others = [_evaluate(loaded, split, seed, [], console) for seed in range(1, noise_seeds)]
        points = pd.DataFrame([metrics.metrics(found) for found in (records, *others)])
        table = Table("metric, %", "mean", "standard deviation", box=None)
        for name in points:
            mean, deviation = points[name].mean(), points[name].std(ddof=1)
            table.add_row(_label(name), f"{100 * mean:.2f}", f"{100 * deviation:.2f}")
        console.print(f"over {noise_seeds} noise seeds", style="italic")
        console.print(table)


def _evaluate(
    loaded: Loaded, split: str, draw_seed: int, collectors: list[Callable[[Prediction], None]], console: Console
) -> pd.DataFrame:
    """Return the records of a split under a progress bar; every collector sees every prediction."""
    total = len({ref.image_id for ref in loaded.dataset.refs_of(split)})
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"evaluating {split}", total=total)

        def on_image(prediction: Prediction) -> None:
            progress.advance(bar)
            for collect in collectors:
                collect(prediction)

        return evaluate(
            loaded.method,
            loaded.dataset,
            split,
            loaded.tokenizer,
            loaded.device,
            draw_seed=draw_seed,
            on_image=on_image,
        )


def export(run: RunDir, form: str, out: Path | None) -> Path:
    """Write the chosen weights of a run as `published` or `safetensors` and return the path.

    Raises:
        UserError: the form is not known, the run has no weights, or the file cannot be written.
    """
    suffix = {"published": ".pth", "safetensors": ".safetensors"}[
        choose(form, ("published", "safetensors"), "--format")
    ]
    spec, path = run.spec(), out or Path(f"{run.key}{suffix}")
    notes = {"run": run.key, "method": spec.method, "variant": spec.variant, "dataset": spec.dataset}
    checkpoint_files.write(methods.get(spec.method), best_weights(run), path, form, notes)
    return path


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
    (prediction,) = predict(loaded.method, [item], loaded.tokenizer, loaded.device)
    (mask,) = prediction.masks
    pictures = {"mask.png": mask.astype(np.uint8) * 255, "overlay.png": tinted(pixels, mask, PREDICTION)}
    for name, picture in pictures.items():
        atomic_write(out / name, lambda aside, picture=picture: Image.fromarray(picture).save(aside, format="PNG"))
    return [out / name for name in pictures], float(mask.mean())


def _label(metric: str) -> str:
    return NAMES.get(metric, metric.replace("p_", "P@0.").removesuffix("0"))


def show(numbers: dict[str, float], intervals: dict[str, tuple[float, float]], title: str, console: Console) -> None:
    """Print numbers (percent) with their intervals."""
    columns = ["metric, %", "value"] + (["95 % interval (images resampled)"] if intervals else [])
    console.print(title, style="italic", soft_wrap=True)
    table = Table(*columns, box=None)
    for name, value in numbers.items():
        low, high = intervals.get(name, (None, None))
        row = [
            _label(name),
            "-" if value is None or value != value else f"{100 * value:.2f}",
        ]
        if intervals:
            row.append("" if low is None else f"[{100 * low:.2f}, {100 * high:.2f}]")
        table.add_row(*row)
    console.print(table)
