"""The results of finished runs under conditions, written and read without torch.

They are records in the directories of the runs:

    runs/<key>/robustness/<split>/<condition>.parquet   one row per expression, as in records/
                                  metrics.json          condition -> metrics, from those files
"""

from pathlib import Path

import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.robustness.conditions import Condition
from benchmark.robustness.corruptions import made_with
from benchmark.robustness.covered_words import CoveredWords, read_covered
from benchmark.runs.rundir import RunDir


def results_path(run: RunDir, split: str, condition: Condition | str) -> Path:
    """Return where the records of a run under a condition lie."""
    return run.path / "robustness" / split / f"{condition}.parquet"


def finished_conditions(run: RunDir, split: str) -> list[str]:
    """Return the names of the conditions of which a run has records."""
    folder = results_path(run, split, "").parent
    return sorted(path.stem for path in folder.glob("[!.]*.parquet"))


def read_results(run: RunDir, split: str, condition: Condition | str) -> pd.DataFrame:
    """Return the records of a run under a condition.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = results_path(run, split, condition)
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(
            f"run {run.key} was not evaluated under {condition} on {split}: start"
            " `risbench robustness`."
        ) from None
    except (OSError, ValueError):
        raise UserError(
            f"{path} is damaged: delete it and start `risbench robustness` again."
        ) from None


def write_results(run: RunDir, split: str, condition: Condition, records: pd.DataFrame) -> None:
    """Write the records of a run under a condition.

    The versions of the libraries that changed its images are kept with them, as
    `attrs["made_with"]`.

    Raises:
        UserError: the disk is full.
    """
    records.attrs["made_with"] = made_with()
    # There may be a hundred of these files, and zstd halves them.
    atomic_write(
        results_path(run, split, condition),
        lambda aside: records.to_parquet(aside, index=False, compression="zstd"),
    )


def summarize(run: RunDir, split: str) -> None:
    """Bring `metrics.json` up to date with the records that are there. A tracking store shows it.

    Raises:
        UserError: a file of records is damaged.
    """
    name = f"robustness/{split}/metrics.json"
    known = run.read_json(name)
    written = (run.path / name).stat().st_mtime_ns if known else 0

    def numbers(condition: str) -> dict[str, float | None]:
        is_old = results_path(run, split, condition).stat().st_mtime_ns <= written
        if condition in known and is_old:
            return known[condition]
        records = read_results(run, split, condition)
        if condition == str(CoveredWords()):
            # The file also holds every sentence with no word covered, which is no result of it.
            records = read_covered(records).query("position >= 0")
        return canonical(metrics.compute(records)) if len(records) else {}

    new = {condition: numbers(condition) for condition in finished_conditions(run, split)}
    if new != known:
        run.write_json(name, new)
