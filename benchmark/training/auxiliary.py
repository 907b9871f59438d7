"""The frozen network that a weakly supervised loss asks, where none is published: trained once per data set and kept.

It sees whole training images and their sentences, no box and no mask. All seeds and strategies of a method share it, as they
would share a published one; what it cost stands in every run's timing.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.base.locks import locked
from benchmark.base.pretrained import Source
from benchmark.data.refer import ReferDataset
from benchmark.data.samples import TrainingSamples
from benchmark.data.tokenizers import Tokenizer
from benchmark.runs.spec import RunSpec
from methods.contract import AuxiliaryMethod, Method

FOLDER = ".auxiliary"  # beside the run directories
Progress = Callable[[int, int], None]  # told steps done and all steps
PREFIX = "auxiliary."  # of its names among published starting weights


def quiet(done: int, steps: int) -> None:
    """Tell nobody."""


def _obtain(method: AuxiliaryMethod, path: Path, train: Callable[[], dict[str, Tensor]]) -> float:
    """Give `method` the auxiliary in the file `path`, trained now or earlier; return the seconds that its training took.

    Runs that need the same one at the same time wait for the first.
    """
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            started = time.monotonic()
            state = train()
            notes = {"seconds": f"{time.monotonic() - started:.2f}"}
            atomic_write(path, lambda aside: save_file(state, aside, metadata=notes))
    try:
        with safe_open(path, "pt") as file:
            method.load_auxiliary({name: file.get_tensor(name) for name in file.keys()})
            return float(file.metadata()["seconds"])
    except (SafetensorError, RuntimeError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged; delete it and start the same command again: it is made anew."
        ) from None


def restore(
    method: Method,
    spec: RunSpec,
    dataset: ReferDataset,
    tokenizer: Tokenizer,
    runs: Path,
    source: Source,
    device: torch.device,
    on_progress: Progress = quiet,
) -> float:
    """Give `method` the auxiliary of a run's spec, if it has one, published or trained; return the seconds of its training.

    Args:
        runs: folder of the run directories, which shares it. source: of published weights.
        on_progress: told steps done and all steps while it is trained.

    Raises:
        UserError: the folder cannot be written, or what lies there is damaged.
    """
    if not isinstance(method, AuxiliaryMethod):
        return 0.0
    if method.auxiliary_passes:
        path = runs / FOLDER / f"{spec.method}-{_digest(spec)}.safetensors"
        return _obtain(
            method, path, lambda: _train(method, dataset, tokenizer, device, on_progress)
        )
    if spec.weights != "scratch":
        published = method.weights.starting_weights(spec.network, source).items()
        if found := {
            name.removeprefix(PREFIX): value for name, value in published if name.startswith(PREFIX)
        }:
            method.load_auxiliary(found)
    return 0.0


def _digest(spec: RunSpec) -> str:
    """Return what decides the weights: network, data, word pieces and code, but not seed, strategy or recipe."""
    fields = {"method", "method_revision", "network", "data_sha256", "tokenizer"}
    content = json.dumps(spec.model_dump(mode="json", include=fields), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _train(
    method: AuxiliaryMethod,
    dataset: ReferDataset,
    tokenizer: Tokenizer,
    device: torch.device,
    on_progress: Progress,
) -> dict[str, Tensor]:
    epochs, batch_size = method.auxiliary_passes
    needs = dataclasses.replace(method.needs, negatives=0, masks="none")
    samples = TrainingSamples(dataset, "train", needs, tokenizer, seed=0)
    orders = [samples.order(epoch, batch_size, drop_last=True) for epoch in range(epochs)]

    steps = sum(map(len, orders))

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        everything = ((epoch, units) for epoch, order in enumerate(orders) for units in order)
        for done, (epoch, units) in enumerate(everything):
            on_progress(done, steps)
            batch = samples.batch(units, epoch).prepare(needs, device)
            yield batch.images, batch.text.ids

    return method.train_auxiliary(pairs(), steps, device)
