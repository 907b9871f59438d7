"""Published starting weights, and where they come from.

They are looked for in a folder of local files and then in the Hugging Face cache. If they are in
neither, they are downloaded. Which of the three it was does not enter a run key, but a digest of
the weights themselves does.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.base import weights_files
from benchmark.base.errors import UserError

# Planning a run without pretrained weights must not import torch.
if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Source:
    """Where published weights and vocabularies are looked for.

    Attributes:
        folder: holds local files, which come first. With None only the cache and the hub are used.
        offline: whether nothing may be downloaded.
    """

    folder: Path | None = None
    offline: bool = False

    def local(self, *names: str) -> Path | None:
        """Return the first of `names` (files or folders) that lies in the folder, or None.

        Raises:
            UserError: the folder does not exist, or what is found is no file that can be read with
                the memory and time that its size suggests.
        """
        if self.folder is None:
            return None
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder}, named by --pretrained, is not a folder: make it or name another."
            )
        paths = (self.folder / name for name in names)
        found = next((path for path in paths if path.exists()), None)
        inside = [found] if found and not found.is_dir() else found.iterdir() if found else []
        for path in sorted(path for path in inside if path.exists()):
            if path.suffix in weights_files.SUFFIXES:
                weights_files.check(path)
            elif not path.is_dir():
                weights_files.check_regular(path)
        return found

    @contextlib.contextmanager
    def obtaining(self, what: str, address: str, put_as: str) -> Iterator[None]:
        """Turn what a library raises for missing or unfit weights into one sentence.

        What it reports besides stays out of the terminal.

        Args:
            what: names the weights at the beginning of the sentence.
            address: where the user can fetch them by hand.
            put_as: name under which `local` finds them.

        Raises:
            UserError: the library could not load the weights.
        """
        from safetensors import SafetensorError

        # The libraries raise these without a network, without a file, for a part of a file and for
        # a file of another layout.
        load_errors = (
            OSError,
            RuntimeError,
            ValueError,
            KeyError,
            SafetensorError,
            pickle.UnpicklingError,
            EOFError,
        )
        try:
            with _hub(self.offline), _quiet():
                yield
        except load_errors as error:
            lines = str(error).strip().splitlines()
            reason = lines[0][:120].rstrip(" .") if lines else type(error).__name__
            raise UserError(
                f"{what} could not be loaded ({reason}): fetch {address}, put it as {put_as} into"
                " a folder and name that folder with --pretrained (or RISBENCH_PRETRAINED), or"
                " allow access to huggingface.co."
            ) from error


@contextlib.contextmanager
def _hub(offline: bool) -> Iterator[None]:
    """Keep the Hugging Face libraries from the network while `offline` is true."""
    import huggingface_hub.constants as hub

    # The libraries read the environment variable once, at import, and this constant at each call.
    previous = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = previous or offline
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = previous


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries say while they load out of the terminal.

    They list entries that another network would have, and advise. What is missing is an error.
    """
    previous = logging.root.manager.disable
    logging.disable(max(previous, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def from_environment() -> Source:
    """Return the source that RISBENCH_PRETRAINED and HF_HUB_OFFLINE describe.

    Scripts and parity checks use it. Commands take the folder from their options.
    """
    folder = os.environ.get("RISBENCH_PRETRAINED")
    return Source(Path(folder) if folder else None, os.environ.get("HF_HUB_OFFLINE") == "1")


def digest(state: "Mapping[str, Tensor]") -> str:
    """Return a sha256 of named weights, 16 hex digits, which does not depend on their file."""
    import torch

    content = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(value.flatten().view(torch.uint8).numpy())
    return content.hexdigest()[:16]


def start(module: "nn.Module", state: "Mapping[str, Tensor]", what: str) -> None:
    """Copy every entry of `state` into `module`. What the state lacks stays as it is.

    Args:
        module: the network, or a part of it.
        state: entries by the names that the module gives them.
        what: names the weights in the message.

    Raises:
        UserError: the module does not have an entry, or has it in another shape. The message names
            the first such entry.
    """
    import torch

    own = module.state_dict()
    unfit = [
        name for name, value in state.items() if name not in own or own[name].shape != value.shape
    ]
    if unfit:
        raise UserError(
            f"the weights '{what}' do not fit this network (first at '{unfit[0]}'): choose others."
        )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
