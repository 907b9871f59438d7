"""The resume point: everything from which an interrupted run goes on, in one file."""

import pickle
from typing import Any

import torch

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.runs.rundir import RunDir

FILE = "state/latest.pt"


def save(run: RunDir, state: dict[str, Any]) -> None:
    """Write the resume point of a run, whole or not at all."""
    atomic_write(run.path / FILE, lambda aside: torch.save(state, aside))


def load(run: RunDir) -> dict[str, Any] | None:
    """Return the resume point of a run, or None where there is none yet.

    Raises:
        UserError: it is damaged.
    """
    path = run.path / FILE
    if not path.exists():
        return None
    try:
        # Tensors and plain values alone: nothing in the file is run.
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        raise UserError(
            f"{path} is damaged; delete it and the run starts from its beginning."
        ) from None
