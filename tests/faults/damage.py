"""Kinds of damage that a file can suffer."""

import shutil
from collections.abc import Callable
from pathlib import Path


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


def _deep(path: Path) -> None:
    path.write_text("[" * 100_000)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": _cut,
    "flipped": _flip,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a list": lambda path: path.write_text("[1, 2]\n"),
    "a text": lambda path: path.write_text("no more than a text"),
    "another version": lambda path: path.write_text('{"version": 99, "state": 7}\n'),
    "deep": _deep,
    "a folder": _folder,
    "missing": Path.unlink,
}


def restore(path: Path, content: bytes) -> None:
    """Bring a damaged file back."""
    if path.is_dir():
        shutil.rmtree(path)
    path.write_bytes(content)
