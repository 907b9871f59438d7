"""Weights out of a TorchScript archive, without the code that it holds.

OpenAI published CLIP so. `torch.jit.load` would build the archive's classes from their source. Here
an object of such a class is what it holds, by name, and no source is read.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.base.weights_files import is_archive, seek_member

# Planning a run without pretrained weights must not import torch.
if TYPE_CHECKING:
    from torch import Tensor

_CONSTANTS = "constants.pkl"  # a member that these archives have, and no other ones of torch


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive."""
    with path.open("rb") as file:
        return is_archive(file) and any(
            name.rpartition("/")[2] == _CONSTANTS for name in zipfile.ZipFile(file).namelist()
        )


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a TorchScript archive, by their names in its module.

    Args:
        path: the archive, which `weights_files.check` has looked at.

    Raises:
        pickle.UnpicklingError: it refers to something that is neither a module nor a tensor.
        RuntimeError: a tensor lies outside of its storage.
        ValueError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            members = {info.filename: info for info in zipfile.ZipFile(file).infolist()}

            def content(name: str) -> bytes:
                seek_member(file, members[name])
                return file.read(members[name].file_size)

            (pickled,) = (name for name in members if name.rpartition("/")[2] == "data.pkl")
            folder = pickled.removesuffix("data.pkl")
            pickled = content(pickled)
            module = _Unpickler(pickled, lambda key: content(f"{folder}data/{key}")).load()
    except (AttributeError, EOFError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the archive is damaged: {error}") from error
    if not isinstance(module, _Part):
        raise ValueError("the archive holds no module")
    return dict(_tensors(module, "", set()))


class _Part(dict):
    """What a module of the archive holds: name -> tensor, part or plain value."""

    def __setstate__(self, state: Any) -> None:
        self.update(state)


# A pickle may set attributes of what it refers to, so these have none.
class _Tensor:
    """Makes a tensor of a storage."""

    __slots__ = ()

    def __call__(self, storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        # It refuses what lies outside of the storage.
        return storage.as_strided(size, stride, offset)


class _Plain:
    """Leaves out of what type the values of a list are."""

    __slots__ = ()

    def __call__(self, value: Any, *_: Any) -> Any:
        return value


class _Unpickler(pickle.Unpickler):
    """Makes parts and tensors, and refuses whatever else a pickle refers to.

    Args:
        pickled: the pickle.
        storage: returns the bytes of a storage by its key.
    """

    def __init__(self, pickled: bytes, storage: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._storage = storage
        self._storages: dict[tuple[str, Any], Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        import torch

        if module.partition(".")[0] == "__torch__":
            return _Part
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor()
        if module == "torch.jit._pickle":
            return _Plain()
        if module == "torch" and name.endswith("Storage"):
            return torch.serialization.StorageType(name).dtype
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        import torch

        _, dtype, key, _, _ = pid
        if (key, dtype) not in self._storages:
            # torch warns of tensors in memory that cannot be written.
            content = bytearray(self._storage(key))
            self._storages[key, dtype] = torch.frombuffer(content, dtype=dtype)
        return self._storages[key, dtype]


def _tensors(part: _Part, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    import torch

    seen.add(id(part))
    for name, value in part.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        # A part may hold itself, or the same one under many names.
        elif isinstance(value, _Part) and id(value) not in seen:
            yield from _tensors(value, f"{prefix}{name}.", seen)
