"""From a checkpoint file, as people have it, to weights under published names.

Reading one never runs code from it.
"""

import argparse
import dataclasses
import pathlib
import pickle
import re
import types
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from benchmark.base import torchscript, weights_files
from benchmark.base.errors import UserError, WorldError
from benchmark.evaluation import checkpoint_card
from benchmark.evaluation.checkpoint_card import Card

NOTES = "risbench"  # entry of an exported `.pth` that says of what its weights are

# What wraps weights, as an entry of a file or at the beginning of names: of CRIS and ETRIS, of LAVT
# and CARIS, of LAVT's separate BERT, of DDP, and of the usual training frameworks.
WRAPPERS = frozenset(
    "state_dict model bert_model module net network model_state_dict weights".split()
)
# The same of weights that are averaged over steps: of timm, of torch's AveragedModel as a module of
# a larger one, and of the usual training scripts.
AVERAGES = frozenset("ema ema_model model_ema state_dict_ema ema_state_dict averaged_model".split())
DEEPEST = 8  # wrappers inside each other that are looked through
# Parts of names that compile, DDP and checkpointing put anywhere, and no network of ours has.
SHELLS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

# What training scripts store beside weights and what can do nothing when it is rebuilt: their
# command line, paths, and numpy's numbers and arrays (a best score, a confusion matrix). Anything
# else that is not a tensor or a plain Python value is refused.
_ARRAYS = {
    "scalar": np._core.multiarray.scalar,
    "_reconstruct": np._core.multiarray._reconstruct,
}
HARMLESS = (
    argparse.Namespace,
    types.SimpleNamespace,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefdFDSUOMm"),
    *_ARRAYS.values(),
    # As numpy 1 called them.
    *((function, f"numpy.core.multiarray.{name}") for name, function in _ARRAYS.items()),
    # Paths of one system cannot be made on another one, and Python 3.13 has other names.
    *(
        (pure, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for pure, names in (
            (pathlib.PurePosixPath, ("PosixPath", "PurePosixPath")),
            (pathlib.PureWindowsPath, ("WindowsPath", "PureWindowsPath")),
        )
        for name in names
    ),
    # Lightning keeps hyperparameters in a kind of dict, which need not be installed here.
    (OrderedDict, "lightning.fabric.utilities.data.AttributeDict"),
    (OrderedDict, "lightning_fabric.utilities.data.AttributeDict"),
    (OrderedDict, "pytorch_lightning.utilities.parsing.AttributeDict"),
)

# torch and safetensors raise these on a file that is not whole, and on objects that are none.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        weights: one flat state dict, under published names.
        averaged: whether the weights are averages over steps (EMA). They are taken where a file has
            both, since they are what such a training is evaluated with.
        card: what the file says of its weights where a run was exported to it, or None.
    """

    weights: dict[str, Tensor]
    averaged: bool
    card: Card | None


def read(path: Path) -> Checkpoint:
    """Return what a checkpoint file holds.

    The file is one that `torch.save` wrote, or safetensors. No code in it is run. Whatever wraps
    the weights or their names is left out.

    Raises:
        UserError: the file is missing, damaged, holds no weights or others under the same name, or
            names objects that are no weights.
    """
    damage = f"{path} is damaged or no checkpoint: get the file again."
    try:
        weights_files.check(path)
        content, notes = _load_safetensors(path) if path.suffix == ".safetensors" else _load(path)
    except FileNotFoundError:
        raise UserError(f"there is no weights file {path}.") from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not named:
            raise WorldError(damage) from None
        raise UserError(
            f"{path} is not read, because it refers to {named[1]}, which could run code: save its"
            " state dict alone."
        ) from None
    except DAMAGE:
        raise WorldError(damage) from None
    weights, averaged = flat(content, str(path))
    if not weights:
        wrappers = ", ".join(sorted(WRAPPERS | AVERAGES))
        raise UserError(
            f"{path} holds no weights (looked for tensors, also under {wrappers}): name a file of"
            " weights."
        )
    return Checkpoint(weights, averaged, checkpoint_card.read(notes, str(path)))


def _load_safetensors(path: Path) -> tuple[Any, Any]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def _load(path: Path) -> tuple[Any, Any]:
    if torchscript.is_torchscript(path):
        return torchscript.read(path), None
    with torch.serialization.safe_globals(list(HARMLESS)), warnings.catch_warnings():
        # torch says how it reads the file, and what it cannot read becomes an error.
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=True)
    return content, content.get(NOTES) if isinstance(content, Mapping) else None


def flat(content: Any, source: str) -> tuple[dict[str, Tensor], bool]:
    """Return the weights in a file's content under one name each, and whether they are averages.

    The parts of a checkpoint that lie under several wrappers are put together.

    Args:
        content: what the file holds.
        source: what messages call the file.

    Raises:
        UserError: two different weights have the same name, or one is no plain tensor.
    """
    found: dict[bool, dict[str, Tensor]] = {False: {}, True: {}}
    for place, value in _tensors(content, (), set()):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise UserError(
                f"{source} holds {'.'.join(place)} as a sparse, quantized or empty tensor: save its"
                " weights as plain ones."
            )
        averaged, name = _unwrapped(place)
        known = found[averaged].setdefault(name, value)
        if known is not value and not _same(known, value):
            raise UserError(
                f"{source} holds two different weights '{name}' (one as {'.'.join(place)}): save"
                " the state dict that you mean alone."
            )
    # What is not averaged, such as a frozen encoder, lies among the others.
    return found[False] | found[True], bool(found[True])


def _tensors(
    content: Any, place: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield each tensor of a state dict, or of what wraps state dicts, with the names to it."""
    # A file may hold itself, or the same part under many names.
    if not isinstance(content, Mapping) or id(content) in seen or len(place) > DEEPEST:
        return
    seen.add(id(content))
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    inside = {
        name: value
        for name, value in named.items()
        if name in WRAPPERS | AVERAGES and isinstance(value, Mapping)
    }
    for name, value in inside.items():
        yield from _tensors(value, (*place, name), seen)
    for name, value in named.items():
        if not inside and isinstance(value, Tensor):
            yield (*place, name), value


def _unwrapped(place: tuple[str, ...]) -> tuple[bool, str]:
    """Return whether a weight is an average, and its name without what wraps it."""
    *wrappers, name = place
    parts = [part for part in name.split(".") if part not in SHELLS]
    while len(parts) > 1 and parts[0] in WRAPPERS | AVERAGES:
        wrappers.append(parts.pop(0))
    return not AVERAGES.isdisjoint(wrappers), ".".join(parts)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
