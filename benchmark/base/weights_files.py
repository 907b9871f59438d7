"""Files of weights, looked at before a library reads them.

The libraries believe what a file says of itself. A small one can make them ask for gigabytes, run
for hours or end the process, so what such a file needs is checked first. Nothing in it is run.
"""

import itertools
import os
import pickle
import pickletools
import re
import struct
import zipfile
from encodings import normalize_encoding
from encodings.aliases import aliases
from pathlib import Path
from typing import IO

from benchmark.base.errors import UserError, WorldError
from benchmark.base.files import open_regular

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

# Bounds that a checkpoint of four thousand tensors with its optimizer keeps. The published ones
# have less than a thousand.
MOST_OPERATIONS = 600_000  # of a pickle
MOST_PICKLED = 256 * 2**20  # bytes beside the weights
MOST_HEADER = 8 * 2**20  # bytes before the weights of a safetensors file
DEEPEST = 100  # containers inside each other
LONGEST_NAME = 200  # of a codec, or of a function with its module
_UNCOUNTED = re.compile(r"[^0-9A-Za-z]{3,}")
# What torch wrote before it wrote zip archives begins with these pickles: a magic number, the
# protocol, the system, the content, and the names of its storages.
OLD_PICKLES = 5
# Operations that put the uppermost values of the stack into a container below them.
_FILLING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}

# What torch's unpickler allows, no checkpoint needs, and makes gigabytes of a few bytes.
_GROWING = {
    f"{module} {name}"
    for module, name in (
        ("builtins", "bytearray"),
        ("__builtin__", "bytearray"),
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    )
}
# Pickles hold bytes as text that `_codecs.encode` turns back. With these codecs it can do so again
# and again, each time to more bytes, or takes the square of the time.
_ENCODE = "_codecs encode"
_BAD_CODECS = {"hex_codec", "base64_codec", "quopri_codec", "uu_codec", "punycode", "idna"}


def check(path: Path) -> None:
    """Check that a file of weights can be read with the memory and time that its size suggests.

    Args:
        path: a safetensors file by its suffix, or else a file that `torch.save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no regular file, or is damaged, compressed, or needs more.
    """
    with _open(path) as file:
        try:
            if path.suffix == ".safetensors":
                _check_header(file)
            elif is_archive(file):
                _check_archive(file)
            else:
                for _ in range(OLD_PICKLES):
                    check_pickle(file)
        except OSError as error:
            raise WorldError(
                f"{path} cannot be read ({error.strerror}): get the file again."
            ) from None
        except pickle.UnpicklingError as error:
            raise WorldError(
                f"{path} is not read, because it {error}: get the file again, or save its state"
                " dict alone."
            ) from None
        except (ValueError, LookupError, struct.error, zipfile.BadZipFile, NotImplementedError):
            raise WorldError(f"{path} is damaged or no checkpoint: get the file again.") from None


def check_regular(path: Path) -> None:
    """Check that a path is a regular file, since a pipe or a device may never end.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is a folder, a pipe, a socket or a device, or cannot be opened.
    """
    _open(path).close()


def _open(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened ({error.strerror}): name a regular file of weights."
        ) from None


def is_archive(file: IO[bytes]) -> bool:
    """Return whether torch takes a file for a zip archive, and go to its beginning."""
    file.seek(0)
    beginning = file.read(4)
    file.seek(0)
    return beginning == b"PK\x03\x04"


def _check_header(file: IO[bytes]) -> None:
    """Check that the header of a safetensors file is no longer than what it can describe."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > os.fstat(file.fileno()).st_size - 8:
        raise ValueError("its header is longer than the file")
    if length > MOST_HEADER:
        raise pickle.UnpicklingError(
            f"describes more than weights need ({length / 2**20:.0f} MiB of it)"
        )


def _check_archive(file: IO[bytes]) -> None:
    """Check a zip archive of torch, which stores its members as they are."""
    members = zipfile.ZipFile(file).infolist()
    # TorchScript compresses its source, which is never read.
    read = [member for member in members if "/code/" not in member.filename]
    if any(member.compress_type != zipfile.ZIP_STORED for member in read):
        raise pickle.UnpicklingError("is compressed, which torch never does")
    # Members that share bytes would be read many times.
    if sum(member.file_size for member in read) > os.fstat(file.fileno()).st_size:
        raise ValueError("its members overlap")
    # torch finds members whatever their case.
    pickles = [member for member in read if member.filename.lower().endswith(".pkl")]
    if len(pickles) > OLD_PICKLES:
        raise ValueError("torch writes one or two")
    for member in pickles:
        seek_member(file, member)
        check_pickle(file)


def seek_member(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Go to the first byte of a stored member of a zip archive.

    `ZipFile.open` would check a sum that torch need not write.
    """
    file.seek(member.header_offset)
    name, extra = struct.unpack("<26xHH", file.read(30))
    file.seek(name + extra, os.SEEK_CUR)


class _Bounded:
    """Reads a file until it has read more than is pickled beside weights.

    A pickle can say that a string in it is as long as the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MOST_PICKLED

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end."""
        self._left -= size
        self._check()
        return self._file.read(size)

    def readline(self) -> bytes:
        """Return the next line."""
        line = self._file.readline(self._left + 1)
        self._left -= len(line)
        self._check()
        return line

    def _check(self) -> None:
        if self._left < 0:
            raise pickle.UnpicklingError(
                f"holds more than {MOST_PICKLED // 2**20} MiB beside its weights"
            )


def check_pickle(file: IO[bytes]) -> None:
    """Go through a pickle without making anything of it, and stop behind it.

    Unpicklers follow operations that make objects, and are as deep in the end as the objects lie
    inside each other. A tuple that is deep enough overflows the stack of the process when it
    becomes a key.

    Raises:
        pickle.UnpicklingError: it has more operations, or is deeper, than weights need, or it
            refers to what makes much of little.
        ValueError: it is damaged.
    """
    texts: set[str] = set()
    # How deep each value on the stack is, and each value that the pickle refers to by number. A
    # mark is None.
    stack: list[int | None] = []
    memo: dict[int, int] = {}
    for number, (operation, argument, _) in enumerate(pickletools.genops(_Bounded(file))):
        if number >= MOST_OPERATIONS:
            raise pickle.UnpicklingError("makes more objects than weights need")
        if isinstance(argument, str):
            # A name of a codec may hold any number of other characters, which do not count.
            text = _UNCOUNTED.sub("_", argument.encode("ascii", "ignore").decode())
            if len(text) < LONGEST_NAME:
                texts.add(text)
        name = operation.name
        if name == "MARK":
            stack.append(None)
        elif "GET" in name:
            stack.append(memo[argument])
        elif "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        else:
            taken = _taken(stack, operation)
            # A container is as deep as before where nothing that is put into it is deeper.
            below = taken.pop(0) if name in _FILLING else 0
            depth = max(below, 1 + max(taken, default=0))
            if depth > DEEPEST:
                raise pickle.UnpicklingError("holds objects that lie too deep inside each other")
            stack += [depth] * len(operation.stack_after)
    _check_names(texts)


def _check_names(texts: set[str]) -> None:
    """Check that a pickle with these texts and names refers to nothing that makes much of little.

    Raises:
        pickle.UnpicklingError: it does.
    """
    if named := sorted(texts & _GROWING):
        raise pickle.UnpicklingError(f"refers to {named[0].replace(' ', '.')}")
    if _ENCODE in texts:
        codecs = {normalize_encoding(text).lower().replace(".", "_") for text in texts}
        if bad := sorted({aliases.get(codec, codec) for codec in codecs} & _BAD_CODECS):
            raise pickle.UnpicklingError(f"encodes with {bad[0]}")


def _taken(stack: list[int | None], operation: pickletools.OpcodeInfo) -> list[int]:
    """Take the values off the stack that an operation takes, and return how deep they are."""
    before = operation.stack_before
    if pickletools.markobject not in before:
        return [stack.pop() or 0 for _ in before][::-1]
    above = list(itertools.takewhile(lambda depth: depth is not None, reversed(stack)))
    del stack[len(stack) - len(above) - 1 :]
    below = [stack.pop() or 0 for _ in before[: before.index(pickletools.markobject)]]
    return [*below[::-1], *above[::-1]]
