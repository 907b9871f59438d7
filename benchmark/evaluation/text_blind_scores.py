"""What `text_blind` measures, and where a run keeps it.

    runs/<key>/text_blind/<split>.json   mIoU without reading the sentence, as fractions

Reading it needs no torch.
"""

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write, open_regular
from benchmark.evaluation.published_scores import fingerprint
from benchmark.runs.rundir import RunDir

HEADINGS = {
    "constant": "best constant mask",
    "mean": "mean of an image's maps",
    "max": "maximum of an image's maps",
}
Fraction = Annotated[float, Field(ge=0, le=1)]


class _File(BaseModel):
    """The content of a file. `records` says with which weights the numbers were made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: str
    constant: Fraction
    mean: Fraction
    max: Fraction


def scores_path(run: RunDir, split: str) -> Path:
    """Return where the text-blind numbers of a run lie."""
    return run.path / "text_blind" / f"{split}.json"


def write_scores(run: RunDir, split: str, numbers: dict[str, float], records: pd.DataFrame) -> None:
    """Write the text-blind numbers of a run.

    Args:
        run: the run.
        split: as the run reports it.
        numbers: what `TextBlindBaseline.numbers` returns, as fractions.
        records: of the run on this split, which say with which weights the numbers were made.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    text = json.dumps({"records": fingerprint(records), **numbers}, indent=2) + "\n"
    atomic_write(scores_path(run, split), lambda temporary: temporary.write_text(text))


def read_scores(run: RunDir, split: str) -> dict[str, float] | None:
    """Return the text-blind numbers of a run as fractions, or None where they were not measured.

    Numbers that were made with other weights than the run's records count as not measured.

    Args:
        run: the run.
        split: as the run reports it.

    Raises:
        UserError: the file or the records are damaged.
    """
    path = scores_path(run, split)
    try:
        with open_regular(path) as file:
            content = _File.model_validate_json(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise UserError(
            f"{path} is damaged: delete it and run `risbench evaluate {run.key} --split {split}"
            " --text-blind` again."
        ) from None
    if content.records != fingerprint(run.records(split)):
        return None
    return {name: getattr(content, name) for name in HEADINGS}
