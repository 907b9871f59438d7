"""Checkpoint files as the published code writes them: read without running anything, named in our words, and written."""

import argparse
import dataclasses
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from methods.contract import Method, PublishedWeights

WRAPPERS = ("state_dict", "model", "bert_model")
"""Entries of a published checkpoint that hold weights: CRIS and ETRIS, LAVT and CARIS, LAVT's separate BERT."""

# What training scripts store beside weights and what can do nothing when it is rebuilt: their command line, and numpy
# numbers (a best score). Anything else that is not a tensor or a plain Python value is refused.
_SCALAR = np._core.multiarray.scalar
HARMLESS = (
    argparse.Namespace,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
)


def read(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's weights as one flat state dict under published names, without `module.`.

    Takes what `torch.save` wrote (read with `weights_only`: no code in it is run) and safetensors.

    Raises:
        UserError: the file is missing, damaged, holds no weights, or names objects that are no weights.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load(path)
    except FileNotFoundError:
        raise UserError(f"there is no weights file {path}.") from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not named:
            raise UserError(f"{path} is damaged or no checkpoint; get the file again.") from None
        raise UserError(
            f"{path} is not read: it refers to {named[1]}, which could run code; save its state dict alone."
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, SafetensorError):
        raise UserError(f"{path} is damaged or no checkpoint; get the file again.") from None
    state = _flat(content)
    if not state:
        raise UserError(f"{path} holds no weights (looked for tensors, also under {', '.join(WRAPPERS)}).")
    return state


def _load(path: Path) -> Any:
    with torch.serialization.safe_globals(list(HARMLESS)):
        return torch.load(path, map_location="cpu", weights_only=True)


def _flat(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    inside = [content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    merged = {name: value for state in inside or [content] for name, value in state.items()}
    return {name.removeprefix("module."): value for name, value in merged.items() if isinstance(value, Tensor)}


@dataclasses.dataclass(frozen=True)
class Fit:
    """How published weights fit a network.

    Attributes:
        weights: what the network takes, under its own names.
        unneeded: published name -> why the network has no such entry. unknown: names nothing is known about. missing: own names
            that the file lacks. mismatch: (own name, shape in the file, shape in the network) of the first that differs.
    """

    weights: dict[str, Tensor]
    unneeded: dict[str, str]
    unknown: list[str]
    missing: list[str]
    mismatch: tuple[str, list[int], list[int]] | None


def names_of(kind: type[Method]) -> PublishedWeights:
    """Return what a method knows of published weights; a method without any raises a UserError."""
    if kind.weights is None:
        raise UserError(f"there is no published checkpoint format of {kind.name}.")
    return kind.weights


def fit(method: Method, published: Mapping[str, Tensor]) -> Fit:
    """Compare published weights with a network, whose own weights do not matter (it may be on the meta device)."""
    weights = names_of(type(method))
    reasons = {name: reason for name in published for reason in [_reason(weights, name)] if reason}
    given = weights.from_published(published)  # drops them itself
    own = method.network.state_dict()
    taken = {name: value for name, value in given.items() if name in own}
    wrong = [name for name, value in taken.items() if value.shape != own[name].shape]
    # Old checkpoints lack the count of batches, which nothing reads.
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    return Fit(
        taken,
        reasons,
        sorted(set(given) - set(own)),
        missing,
        (wrong[0], list(taken[wrong[0]].shape), list(own[wrong[0]].shape)) if wrong else None,
    )


def _reason(weights: PublishedWeights, name: str) -> str | None:
    return next((reason for pattern, reason in weights.UNNEEDED.items() if re.search(pattern, name)), None)


def load(method: Method, published: Mapping[str, Tensor], found: Fit, source: str, vocabulary_size: int) -> None:
    """Load published weights, of which `fit` said how they fit, into a network.

    Raises:
        UserError: an entry has another shape or is missing; the message names the first and the variant that would fit.
    """
    if found.mismatch:
        name, theirs, ours = found.mismatch
        raise UserError(
            f"{source} does not fit this variant of {method.name}: '{name}' is {theirs} in the file and {ours} in the"
            f" network; {_advice(type(method), published, vocabulary_size)}."
        )
    if found.missing:
        raise UserError(
            f"{source} lacks {len(found.missing)} entries that this variant of {method.name} needs (first"
            f" '{found.missing[0]}');"
            f" {_advice(type(method), published, vocabulary_size)}."
        )
    network = method.network
    network.load_state_dict({**network.state_dict(), **found.weights})


def _advice(kind: type[Method], published: Mapping[str, Tensor], vocabulary_size: int) -> str:
    fitting = []
    for variant, config in kind.variants.items():
        with torch.device("meta"):
            candidate = fit(kind(config, vocabulary_size), published)
        if not candidate.mismatch and not candidate.missing:
            fitting.append(variant)
    return f"it fits --variant {' or '.join(fitting)}" if fitting else f"no variant of {kind.name} fits it"


def write(kind: type[Method], state: Mapping[str, Tensor], path: Path, form: str, notes: Mapping[str, str]) -> None:
    """Write a method's state dict: `published` as the authors' code saves it, `safetensors` flat under published names.

    Args:
        notes: where the weights come from: text that is written into the file.

    Raises:
        UserError: the method has no published format, or the file cannot be written.
    """
    network = {name.removeprefix("network."): value for name, value in state.items()}
    content = names_of(kind).checkpoint(network)
    if form == "published":
        atomic_write(path, lambda aside: torch.save({**content, "risbench": dict(notes)}, aside))
    else:
        flat = {name: value.contiguous() for name, value in _flat(content).items()}
        atomic_write(path, lambda aside: save_file(flat, aside, metadata=dict(notes)))
