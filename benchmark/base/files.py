"""Reading and writing of files.

A file is written whole or not at all. Whatever is wrong with a file that is read becomes one
sentence for the user.
"""

import contextlib
import errno
import glob
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, get_args

import yaml
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from benchmark.base.errors import UserError, WorldError, choose

YAML_CHARACTERS = 2**20  # those of the largest shipped file are a hundredth of that
YAML_NODES = 10**5  # values of a YAML file, where what an alias repeats counts anew
YAML_DEPTH = 50
MOST_BYTES = 2**30  # of a file that is read whole, three times those of COCO's annotations
# Lists and objects of a JSON file, twice those of COCO's annotations. Each takes up to 200 bytes.
MOST_JSON = 6 * 10**6
LEFT_SECONDS = 3600.0  # a temporary file that is older has no writer any more
# Words of what torch raises when its archive cannot be written.
TORCHS = ("PytorchStreamWriter", "inline_container", "iostream")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    A pipe would be waited for, and a device may never end.

    Args:
        path: the file, or a link to it.

    Raises:
        OSError: it cannot be opened, or it is a folder, a pipe, a socket or a device.
    """
    # Without this flag the opening of a pipe waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        UserError: the file cannot be read, is no regular file, or is larger.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > most:
                raise OSError(errno.EFBIG, f"it has more than {most / 1e6:,.0f} MB")
            return file.read()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check the path and its permissions."
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: the file cannot be read or is damaged, or holds far more lists and objects than
            any of the suite's data. Nothing is made of those then.
    """
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, path: Path) -> Any:
    """Return what a JSON text holds. `path` says in messages which file it is of.

    Raises:
        UserError: as `read_json`.
    """
    if content.count(b"[") + content.count(b"{") > MOST_JSON:
        raise UserError(
            f"{path} holds more than {MOST_JSON:,} lists and objects, which no annotations need:"
            " get it again."
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} is damaged ({describe_error(error)}): get it again.") from error


def describe_error(error: BaseException) -> str:
    """Return what an error says, worded for the middle of a sentence."""
    # The message of a KeyError is the key alone.
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def read_yaml(path: Path, what: str, shipped: Iterable[str]) -> Any:
    """Return the content of a YAML file, which is the user's or a shipped one.

    Args:
        path: the file.
        what: what the messages call such a file, e.g. `preset`.
        shipped: names of the shipped files, for the message about a missing one.

    Raises:
        UserError: there is none (`shipped` are listed), it cannot be read, or it is no YAML.
    """
    return parse_yaml(read_text(path, what, shipped), f"{what} {path}")


def read_text(path: Path, what: str, shipped: Iterable[str]) -> str:
    """Return the text of a user's or shipped file.

    Raises:
        UserError: there is none (`shipped` are listed), or it cannot be read as text.
    """
    if not os.path.exists(path):
        raise UserError(
            f"there is no {what} file {path}. The shipped ones are {', '.join(shipped)}."
        )
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is no text file ({error.reason}): mend it.") from None


def parse_yaml(text: str, where: str) -> Any:
    """Return what a YAML text holds. `where` says in messages what it is.

    Raises:
        UserError: it is no YAML.
    """
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{where} is no valid YAML ({said}): mend it.") from None


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds, which is plain data and never an object.

    Raises:
        yaml.YAMLError: it is no YAML, or it is deeper or larger than any such file needs to be.
    """
    _check_yaml(text)
    # libyaml's safe loader reads ten times as fast as the one in Python, where it is at hand.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _check_yaml(text: str) -> None:
    """Check that a YAML text is neither so deep nor so large that to load it ends the process.

    Aliases make a short text as large as one likes, and depth overflows the stack of libyaml.

    Raises:
        yaml.YAMLError: it is, or it is no YAML.
    """
    if len(text) > YAML_CHARACTERS:
        raise yaml.YAMLError(f"more than {YAML_CHARACTERS:,} characters")
    sizes: dict[str, int] = {}  # of what has an anchor
    open_nodes: list[tuple[str | None, int]] = []  # anchor and nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor or ""] = nodes - before
        elif isinstance(event, yaml.AliasEvent):
            # An alias inside of what it names is not in `sizes` yet.
            nodes += sizes.get(event.anchor, YAML_NODES)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor or ""] = 1
            nodes += 1
        if len(open_nodes) > YAML_DEPTH or nodes > YAML_NODES:
            raise yaml.YAMLError("it is deeper or larger than any such file needs to be")


def dump_yaml(values: Any) -> str:
    """Return plain data as YAML, with the fields in their order."""
    return yaml.dump(values, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


def read_model(model: type[BaseModel], values: Any, where: str) -> Any:
    """Return `values` as an instance of `model`.

    Args:
        model: the class to make.
        values: usually a dict from a YAML file.
        where: where the values stand, which begins the message.

    Raises:
        UserError: the values do not fit. The message names the first wrong field and what was
            expected of it, which are the nearest names first where no field is called so.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] == "extra_forbidden":
            *outer, unknown = first["loc"]
            owner = _model_at(model, outer)
            inside = f"{where}: {'.'.join(map(str, outer))}" if outer else where
            if owner is not None:
                choose(str(unknown), owner.model_fields, f"{inside}: field")
        raise UserError(f"{where}: {field}: {first['msg'].lower()}.") from None


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model that is nested in another at a path of fields, or None where none is."""
    for name in path:
        field = model.model_fields.get(str(name))
        # The annotation may be a model, or a model or None.
        found = [] if field is None else [field.annotation, *get_args(field.annotation)]
        models = [kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file so that a reader finds either the old content or the new one, never a part.

    The file has the permissions that the umask gives. What a killed writer of it left is deleted.

    Args:
        path: the file. Its folder is made where it is missing.
        write: writes the content to the path that it is given, a temporary file beside `path`.

    Raises:
        WorldError: the disk is full or the folder cannot be written. The old content is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary.touch()
        # Some libraries make a file of their own, which nobody else may read.
        mode = stat.S_IMODE(temporary.stat().st_mode)
        write(temporary)
        temporary.chmod(mode)
        # The content must reach the disk before the name does, or a power cut leaves an empty file.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException as error:
        said = _unwritten(error, temporary)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if said is None:
            raise
        raise WorldError(
            f"cannot write {path} ({said}): make room or choose another folder, and start the same"
            " command again. It goes on from what is saved."
        ) from None


def _sweep(path: Path) -> None:
    """Delete what writers of a file left that were killed."""
    prefix = f".{path.name}."
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            # A living writer, who may be on another machine, is faster than that.
            is_old = time.time() - left.stat().st_mtime > LEFT_SECONDS
            if is_old and left.name.removeprefix(prefix).isdigit():
                left.unlink()


def _unwritten(error: BaseException, temporary: Path) -> str | None:
    """Return why a file could not be written, or None where the error is about something else.

    torch and safetensors have errors of their own for a disk that is full.
    """
    if isinstance(error, OSError):
        said = error.strerror or str(error)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    else:
        is_torchs = any(words in str(error) for words in TORCHS)
        if not isinstance(error, SafetensorError) and not is_torchs:
            return None
        said, is_full = "the disk is full, or fails", True
    if not is_full:
        return said
    try:
        free, reached = shutil.disk_usage(temporary.parent).free, temporary.stat().st_size
    except OSError:
        return said
    return f"{said}: {reached / 1e6:.1f} MB were written, and {free / 1e6:.1f} MB were free then"


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk of a folder, which need not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
