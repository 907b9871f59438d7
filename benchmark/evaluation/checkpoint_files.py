"""Checkpoint files as the published code writes them.

They are read, brought into a network, and written here. Reading one never runs code from it.
"""

import argparse
import dataclasses
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import methods
from benchmark.base.errors import UserError, choose
from benchmark.base.files import atomic_write
from benchmark.evaluation import checkpoint_card
from benchmark.evaluation.checkpoint_card import Card
from benchmark.runs.execution import Places
from benchmark.runs.rundir import RunDir
from methods.contract import Method
from methods.weights import PublishedWeights

# Entries of a published checkpoint that hold weights: of CRIS and ETRIS, of LAVT and CARIS, and of
# LAVT's separate BERT.
WRAPPERS = ("state_dict", "model", "bert_model")
# Forms in which weights are written, and the suffix of their files.
FORMS = {"published": ".pth", "safetensors": ".safetensors"}
NOTES = "risbench"  # entry of an exported `.pth` that says where its weights come from

# What training scripts store beside weights and what can do nothing when it is rebuilt: their
# command line, and numpy numbers (a best score). Anything else that is not a tensor or a plain
# Python value is refused.
_SCALAR = np._core.multiarray.scalar
HARMLESS = (
    argparse.Namespace,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
)


# --- reading --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        weights: one flat state dict, under published names.
        card: what the file says of its weights where a run was exported to it, or None.
    """

    weights: dict[str, Tensor]
    card: Card | None


def read(path: Path) -> Checkpoint:
    """Return what a checkpoint file holds.

    The file is one that `torch.save` wrote, or safetensors. No code in it is run. A leading
    `module.` of names is left out.

    Raises:
        UserError: the file is missing, damaged, holds no weights, or names objects that are no
            weights.
    """
    try:
        content, notes = _load_safetensors(path) if path.suffix == ".safetensors" else _load(path)
    except FileNotFoundError:
        raise UserError(f"there is no weights file {path}.") from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not named:
            raise UserError(f"{path} is damaged or no checkpoint: get the file again.") from None
        raise UserError(
            f"{path} is not read, because it refers to {named[1]}, which could run code: save its"
            " state dict alone."
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, SafetensorError):
        raise UserError(f"{path} is damaged or no checkpoint: get the file again.") from None
    state = _flat(content)
    if not state:
        raise UserError(
            f"{path} holds no weights (looked for tensors, also under {', '.join(WRAPPERS)})."
        )
    return Checkpoint(state, checkpoint_card.read(notes, str(path)))


def _load_safetensors(path: Path) -> tuple[Any, Any]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def _load(path: Path) -> tuple[Any, Any]:
    with torch.serialization.safe_globals(list(HARMLESS)):
        content = torch.load(path, map_location="cpu", weights_only=True)
    return content, content.get(NOTES) if isinstance(content, Mapping) else None


def _flat(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a file's content, those of all its wrappers together."""
    if not isinstance(content, Mapping):
        return {}
    inside = [content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    merged = {name: value for state in inside or [content] for name, value in state.items()}
    return {
        name.removeprefix("module."): value
        for name, value in merged.items()
        if isinstance(value, Tensor)
    }


# --- fitting and loading --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fit:
    """How published weights fit a network.

    Attributes:
        weights: what the network takes, under its own names.
        unneeded: published name -> why the network has no such entry.
        unknown: names that nothing is known about.
        missing: own names that the file lacks.
        mismatch: (own name, shape in the file, shape in the network) of the first that differs.
    """

    weights: dict[str, Tensor]
    unneeded: dict[str, str]
    unknown: list[str]
    missing: list[str]
    mismatch: tuple[str, list[int], list[int]] | None


def names_of(kind: type[Method]) -> PublishedWeights:
    """Return what a method knows of published weights.

    Raises:
        UserError: nobody publishes weights of it.
    """
    if kind.weights is None:
        raise UserError(f"there is no published checkpoint format of {kind.definition.name}.")
    return kind.weights


def fit(method: Method, published: Mapping[str, Tensor]) -> Fit:
    """Compare published weights with a network.

    Args:
        method: holds the network. Its own weights do not matter, so it may be on the meta device.
        published: weights under published names, as `read` returns them.

    Raises:
        UserError: nobody publishes weights of this method.
    """
    weights = names_of(type(method))
    reasons = {name: _reason(weights, name) for name in published}
    # This leaves out what is not needed.
    given = weights.from_published(published)
    own = method.network.state_dict()
    taken = {name: value for name, value in given.items() if name in own}
    wrong = [name for name, value in taken.items() if value.shape != own[name].shape]
    # Old checkpoints lack the count of batches, which nothing reads.
    missing = [
        name for name in own if name not in given and not name.endswith("num_batches_tracked")
    ]
    return Fit(
        weights=taken,
        unneeded={name: reason for name, reason in reasons.items() if reason},
        unknown=sorted(set(given) - set(own)),
        missing=missing,
        mismatch=(wrong[0], [*taken[wrong[0]].shape], [*own[wrong[0]].shape]) if wrong else None,
    )


def _reason(weights: PublishedWeights, name: str) -> str | None:
    """Return why a network has no entry of this published name, or None if it has one."""
    reasons = (reason for pattern, reason in weights.UNNEEDED.items() if re.search(pattern, name))
    return next(reasons, None)


def load(
    method: Method, published: Mapping[str, Tensor], fitted: Fit, source: str, vocabulary_size: int
) -> None:
    """Load published weights into the network that `fit` compared them with.

    Args:
        method: holds the network.
        published: weights under published names.
        fitted: what `fit` said of the two.
        source: what messages call the file.
        vocabulary_size: number of ids of the method's tokenizer.

    Raises:
        UserError: an entry has another shape or is missing. The message names the first, and the
            variant that would fit.
    """
    name = method.definition.name
    if fitted.mismatch:
        entry, theirs, ours = fitted.mismatch
        raise UserError(
            f"{source} does not fit this variant of {name}: '{entry}' is {theirs} in the file and"
            f" {ours} in the network: {_advice(type(method), published, vocabulary_size)}."
        )
    if fitted.missing:
        raise UserError(
            f"{source} lacks {len(fitted.missing)} entries that this variant of {name} needs (first"
            f" '{fitted.missing[0]}'): {_advice(type(method), published, vocabulary_size)}."
        )
    network = method.network
    network.load_state_dict({**network.state_dict(), **fitted.weights})


def _advice(kind: type[Method], published: Mapping[str, Tensor], vocabulary_size: int) -> str:
    """Return which variants of a method the weights fit, for the end of a sentence."""
    fitting = []
    for variant, config in kind.definition.variants.items():
        with torch.device("meta"):
            candidate = fit(kind(config, vocabulary_size), published)
        if not candidate.mismatch and not candidate.missing:
            fitting.append(variant)
    if not fitting:
        return f"no variant of {kind.definition.name} fits it"
    return f"it fits --variant {' or '.join(fitting)}"


# --- writing --------------------------------------------------------------------------------------


def export(
    run: RunDir,
    places: Places,
    weights: Mapping[str, Tensor],
    form: str,
    out: Path | None = None,
) -> Path:
    """Write the chosen weights of a run under the names of its method's published checkpoints.

    What their numbers depend on besides goes into the file, too.

    Args:
        run: the run.
        places: where its data lie, in case its word pieces have to be made again.
        weights: of the chosen epoch, by their names in the method (`inference.best_weights`).
        form: one of `FORMS`.
        out: the file. By default it is called by the run key, has the suffix of the form, and lies
            in the current folder.

    Returns:
        The path of the file.

    Raises:
        UserError: the form is not known, the method has no published format, the data are not
            where they were, or the file cannot be written.
    """
    suffix = FORMS[choose(form, FORMS, "--format")]
    path = out or Path(f"{run.key}{suffix}")
    card = checkpoint_card.of_run(run, places)
    write(methods.get(card.method), weights, path, form, card.notes())
    return path


def write(
    kind: type[Method],
    state: Mapping[str, Tensor],
    path: Path,
    form: str,
    notes: Mapping[str, str],
) -> None:
    """Write a method's state dict as a checkpoint file.

    Args:
        kind: the method's class.
        state: weights by their names in the method.
        path: the file.
        form: `published` writes what the authors' code saves. `safetensors` writes a flat state
            dict under published names.
        notes: say of what the weights are, and are written into the file.

    Raises:
        UserError: the method has no published format, or the file cannot be written.
    """
    network = {name.removeprefix("network."): value for name, value in state.items()}
    content = names_of(kind).checkpoint(network)
    if form == "published":
        content = {**content, NOTES: dict(notes)}
        atomic_write(path, lambda temporary: torch.save(content, temporary))
    else:
        flat = {name: value.contiguous() for name, value in _flat(content).items()}
        atomic_write(path, lambda temporary: save_file(flat, temporary, metadata=dict(notes)))
