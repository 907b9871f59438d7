"""Published starting weights: found in a folder of local files, else in the Hugging Face cache, else downloaded.

Which of the three it was does not enter a run key. A digest of the weights themselves does.
"""

import contextlib
import dataclasses
import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.base.errors import UserError

if TYPE_CHECKING:  # planning without weights does without torch
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Source:
    """Where published weights and vocabularies are looked for.

    Attributes:
        folder: local files, which come first; None: only the cache and the hub. offline: fetch nothing.
    """

    folder: Path | None = None
    offline: bool = False

    def local(self, *names: str) -> Path | None:
        """Return the first of `names` (files or folders) that lies in the folder; None where none does.

        Raises:
            UserError: the folder that was named does not exist.
        """
        if self.folder is None:
            return None
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder}, named by --pretrained, is not a folder: make it or name another."
            )
        return next((self.folder / name for name in names if (self.folder / name).exists()), None)

    @contextlib.contextmanager
    def obtaining(self, what: str, address: str, put_as: str) -> Iterator[None]:
        """Turn whatever a library raises when weights are missing, damaged or of another layout into one sentence.

        Args:
            what: what a sentence about it begins with. address: where they can be fetched by hand.
            put_as: name under which `local` finds them.
        """
        from safetensors import SafetensorError

        # The libraries raise these without a network, without a file, for half a file and for one of another layout.
        missing = (
            OSError,
            RuntimeError,
            ValueError,
            KeyError,
            SafetensorError,
            pickle.UnpicklingError,
            EOFError,
        )
        try:
            with _hub(self.offline):
                yield
        except missing as error:
            lines = str(error).strip().splitlines()
            reason = lines[0][:120].rstrip(" .") if lines else type(error).__name__
            raise UserError(
                f"{what} could not be loaded ({reason}): fetch {address}, put it as {put_as} into a folder and"
                " name that folder with --pretrained (or RISBENCH_PRETRAINED), or allow access to huggingface.co."
            ) from error


@contextlib.contextmanager
def _hub(offline: bool) -> Iterator[None]:
    """Keep the Hugging Face libraries from the network where that is asked for."""
    import huggingface_hub.constants as hub

    before, hub.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE or offline
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def from_environment() -> Source:
    """Return the source that RISBENCH_PRETRAINED and HF_HUB_OFFLINE describe: for scripts and parity checks."""
    folder = os.environ.get("RISBENCH_PRETRAINED")
    return Source(Path(folder) if folder else None, os.environ.get("HF_HUB_OFFLINE") == "1")


def digest(state: "Mapping[str, Tensor]") -> str:
    """Return a sha256 (16 hex digits) of named weights, whatever file they came from."""
    import torch

    content = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(value.flatten().view(torch.uint8).numpy())
    return content.hexdigest()[:16]


def start(module: "nn.Module", state: "Mapping[str, Tensor]", what: str) -> None:
    """Copy every entry of `state` into `module`; what the state lacks stays as it is.

    Raises:
        UserError: an entry is unknown to the module or has another shape; the message names the first.
    """
    import torch

    own = module.state_dict()
    if wrong := [
        name for name, value in state.items() if name not in own or own[name].shape != value.shape
    ]:
        raise UserError(
            f"the weights '{what}' do not fit this network (first at '{wrong[0]}'); choose others."
        )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
