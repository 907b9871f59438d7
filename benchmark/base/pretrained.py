"""Published starting weights: found in a folder of local files, else in the Hugging Face cache, else downloaded.

Which of the three it was does not enter a run key; a digest of the weights themselves does.
"""

import contextlib
import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark.base.errors import UserError

FOLDER = "RISBENCH_PRETRAINED"
"""Environment variable that names the folder of local files; `--pretrained` sets it, and workers inherit it."""


def local(*names: str) -> Path | None:
    """Return the first of `names` (files or folders) that lies in the folder of local files; None where none does.

    Raises:
        UserError: the folder that was named does not exist.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise UserError(f"{folder}, named by --pretrained or {FOLDER}, is not a folder; make it or name another.")
    return next((Path(folder) / name for name in names if (Path(folder) / name).exists()), None)


@contextlib.contextmanager
def obtaining(what: str, address: str, put_as: str) -> Iterator[None]:
    """Turn whatever a library raises when weights are missing, damaged or of another layout into one sentence.

    Args:
        what: what a sentence about it begins with. address: where they can be fetched by hand.
        put_as: name under which `local` finds them.
    """
    try:
        yield
    # The libraries raise these without a network, without a file, for half a file and for one of another layout.
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).strip().splitlines()[0][:120].rstrip(" .") if str(error).strip() else type(error).__name__
        raise UserError(
            f"{what} could not be loaded ({reason}): fetch {address}, put it as {put_as} into a folder and"
            f" name that folder with --pretrained (or {FOLDER}), or allow access to huggingface.co."
        ) from error


def digest(state: Mapping[str, Tensor]) -> str:
    """Return a sha256 (16 hex digits) of named weights, whatever file they came from."""
    content = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(value.flatten().view(torch.uint8).numpy())
    return content.hexdigest()[:16]


def start(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy every entry of `state` into `module`; what the state lacks stays as it is.

    Raises:
        UserError: an entry is unknown to the module or has another shape; the message names the first.
    """
    own = module.state_dict()
    if wrong := [name for name, value in state.items() if name not in own or own[name].shape != value.shape]:
        raise UserError(f"the weights '{what}' do not fit this network (first at '{wrong[0]}'); choose others.")
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
