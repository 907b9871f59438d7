"""Files: written whole or not at all, and read with one sentence for what is wrong with them."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from benchmark.base.errors import UserError


def read_bytes(path: Path) -> bytes:
    """Return the content of a file. Raises UserError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check the path and its permissions."
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError where it cannot be read or is damaged."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({describe_error(error)}): get it again.") from error


def describe_error(error: BaseException) -> str:
    """Return what an error says, for the middle of a sentence (a KeyError says only the key)."""
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def read_yaml(path: Path, what: str, shipped: Iterable[str]) -> Any:
    """Return the content of a user's or shipped YAML file.

    Raises:
        UserError: there is none (`shipped` are listed), it cannot be read, or it is no YAML.
    """
    return parse_yaml(read_text(path, what, shipped), f"{what} {path}")


def read_text(path: Path, what: str, shipped: Iterable[str]) -> str:
    """Return the text of a user's or shipped file.

    Raises:
        UserError: there is none (`shipped` are listed), or it cannot be read as text.
    """
    try:
        return path.read_text()
    except FileNotFoundError:
        raise UserError(
            f"there is no {what} file {path}: shipped ones are {', '.join(shipped)}."
        ) from None
    except OSError as error:
        raise UserError(
            f"{what} {path} cannot be read ({error.strerror}): check the path and its permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is no text file ({error.reason}): mend it.") from None


def parse_yaml(text: str, where: str) -> Any:
    """Return what a YAML text holds. `where` says in messages what it is.

    Raises:
        UserError: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{where} is no valid YAML ({said}): mend it.") from None


def read_model(model: type[BaseModel], values: Any, where: str) -> Any:
    """Return `values` as `model`.

    Raises:
        UserError: they do not fit; the message names the first wrong field and what was expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        known = (
            f"; fields are {', '.join(model.model_fields)}"
            if first["type"] == "extra_forbidden"
            else ""
        )
        raise UserError(f"{where}: {field}: {first['msg'].lower()}{known}.") from None


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a neighbour of `path`, make it durable and rename it into place.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing that was there is lost.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); make room or choose another --runs folder, then start"
            " the same command again: it goes on from the last saved state."
        ) from None
