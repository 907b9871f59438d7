"""The auxiliary is the frozen network that a weakly supervised loss uses.

Where none is published, it is trained once per data set and kept. It sees whole training images
and their sentences, but no box and no mask. All seeds and strategies of a method share it, as they
would share a published one. The time that it took stands in the timing of each of these runs.
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

FOLDER = ".auxiliary"  # The folder lies beside the run directories.
PREFIX = "auxiliary."  # Its entries among published starting weights begin like this.
Progress = Callable[[int, int], None]  # Takes the number of steps done and of all steps.


def quiet(done: int, steps: int) -> None:
    """Show no progress."""


def _obtain(method: AuxiliaryMethod, path: Path, train: Callable[[], dict[str, Tensor]]) -> float:
    """Load the auxiliary of the file `path` into `method`, and train it first if it is not there.

    Runs that need the same auxiliary at the same time wait for the first of them.

    Returns:
        The time that its training took, in seconds.
    """
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            started = time.monotonic()
            state = train()
            notes = {"seconds": f"{time.monotonic() - started:.2f}"}
            atomic_write(path, lambda temporary: save_file(state, temporary, metadata=notes))
    try:
        with safe_open(path, "pt") as file:
            method.load_auxiliary({name: file.get_tensor(name) for name in file.keys()})
            return float(file.metadata()["seconds"])
    except (SafetensorError, RuntimeError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged: delete it and start the same command again, which makes it anew."
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
    """Load the auxiliary of a run into its method, if the method has one.

    Args:
        method: the method of the run.
        spec: the spec of the run.
        dataset: the data set that the run is trained on.
        tokenizer: the tokenizer of the run.
        runs: the folder of the run directories, which share the auxiliary.
        source: where published weights are looked for.
        device: the device that the auxiliary is trained on.
        on_progress: called with the number of steps done and of all steps while it is trained.

    Returns:
        The time that its training took, in seconds. It is 0 where nothing was trained.

    Raises:
        UserError: the folder cannot be written, or the file in it is damaged.
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
        if weights := {
            name.removeprefix(PREFIX): value for name, value in published if name.startswith(PREFIX)
        }:
            method.load_auxiliary(weights)
    return 0.0


def _digest(spec: RunSpec) -> str:
    """Return the digest of what decides the weights.

    This is the network, the data, the word pieces and the code. It is not the seed, the strategy
    or the recipe.
    """
    fields = {"method", "method_revision", "network", "data_sha256", "tokenizer"}
    content = json.dumps(spec.model_dump(mode="json", include=fields), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


# Pseudo masks are made without gradients, and an auxiliary that is gone is trained again for them.
@torch.enable_grad()
def _train(
    method: AuxiliaryMethod,
    dataset: ReferDataset,
    tokenizer: Tokenizer,
    device: torch.device,
    on_progress: Progress,
) -> dict[str, Tensor]:
    """Return the weights of an auxiliary that is trained on the training split.

    Its seed is 0 whatever the run's is, so that all runs share it.
    """
    epochs, batch_size = method.auxiliary_passes
    needs = dataclasses.replace(method.needs, negatives=0, masks="none")
    samples = TrainingSamples(dataset, "train", needs, tokenizer, seed=0)
    orders = [samples.order(epoch, batch_size, drop_last=True) for epoch in range(epochs)]
    steps = sum(map(len, orders))

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        batches = ((epoch, units) for epoch, order in enumerate(orders) for units in order)
        for done, (epoch, units) in enumerate(batches):
            on_progress(done, steps)
            batch = samples.batch(units, epoch).prepare(needs, device)
            yield batch.images, batch.text.ids

    return method.train_auxiliary(pairs(), steps, device)
