"""The resume point is one file with everything from which an interrupted run goes on."""

import pickle
from typing import Any

import torch

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.runs.rundir import RunDir

FILE = "state/latest.pt"


def save(run: RunDir, state: dict[str, Any]) -> None:
    """Write the resume point of a run, whole or not at all.

    Args:
        run: the directory of the run.
        state: tensors and plain values, by name.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    atomic_write(run.path / FILE, lambda temporary: torch.save(state, temporary))


def remove(run: RunDir) -> None:
    """Delete the resume point of a run that is done, which is the largest of its files."""
    (run.path / FILE).unlink(missing_ok=True)


def load(run: RunDir) -> dict[str, Any] | None:
    """Return the resume point of a run, or None where there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    path = run.path / FILE
    if not path.exists():
        return None
    try:
        # The loader accepts tensors and plain values alone, so it never runs code from the file.
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        raise UserError(
            f"{path} is damaged: delete it, and the run starts from its beginning."
        ) from None
