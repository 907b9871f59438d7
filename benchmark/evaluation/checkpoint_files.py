"""Weights as the published code has them: brought into a network, and written into files."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import methods
from benchmark.base.errors import UserError, choose
from benchmark.base.files import atomic_write
from benchmark.evaluation import checkpoint_card
from benchmark.evaluation.checkpoint_reading import NOTES, flat
from benchmark.runs.execution import Places
from benchmark.runs.rundir import RunDir
from methods.contract import Method
from methods.weights import PublishedWeights

# Forms in which weights are written, and the suffix of their files.
FORMS = {"published": ".pth", "safetensors": ".safetensors"}


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
        published: weights under published names, as `checkpoint_reading.read` returns them.

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
        weights, _ = flat(content, str(path))
        weights = {name: value.contiguous() for name, value in weights.items()}
        atomic_write(path, lambda temporary: save_file(weights, temporary, metadata=dict(notes)))
