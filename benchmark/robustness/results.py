"""The results of finished runs under conditions, written and read without torch.

They are records in the directories of the runs:

    runs/<key>/robustness/<split>/<condition>.parquet         one row per expression, as in records/
                                  masks/<condition>.parquet   masks of a few expressions
                                  metrics.json                condition -> metrics, from the records
"""

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmark.base.errors import UserError, WorldError
from benchmark.base.files import atomic_write
from benchmark.base.rng import generator
from benchmark.data.refer import ReferDataset
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.robustness.conditions import Condition
from benchmark.robustness.corruptions import made_with
from benchmark.robustness.covered_words import CoveredWords, read_covered
from benchmark.runs import integrity
from benchmark.runs.rundir import RunDir

EXAMPLES = 32  # images of a split that have an expression whose masks are stored


def results_path(run: RunDir, split: str, condition: Condition | str) -> Path:
    """Return where the records of a run under a condition lie."""
    return run.path / "robustness" / split / f"{condition}.parquet"


def finished_conditions(run: RunDir, split: str) -> list[str]:
    """Return the names of the conditions of which a run has records."""
    folder = results_path(run, split, "").parent
    return sorted(path.stem for path in folder.glob("[!.]*.parquet"))


def _read(run: RunDir, path: Path) -> pd.DataFrame:
    """Return a table of a run.

    Raises:
        ValueError: it is no table, or not the one that was written.
        OSError: it cannot be read.
    """
    return pd.read_parquet(io.BytesIO(integrity.read(run.path, _name(run, path))))


def _write(run: RunDir, path: Path, table: pd.DataFrame) -> None:
    # There may be a hundred of these files, and zstd halves them.
    atomic_write(path, lambda aside: table.to_parquet(aside, index=False, compression="zstd"))
    integrity.renew(run.path, _name(run, path))


def _name(run: RunDir, path: Path) -> str:
    return path.relative_to(run.path).as_posix()


def read_results(run: RunDir, split: str, condition: Condition | str) -> pd.DataFrame:
    """Return the records of a run under a condition.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = results_path(run, split, condition)
    try:
        return _read(run, path)
    except FileNotFoundError:
        raise UserError(
            f"run {run.key} was not evaluated under {condition} on {split}: start"
            " `risbench robustness`."
        ) from None
    except (OSError, ValueError):
        raise UserError(
            f"{path} is damaged: delete it and start `risbench robustness` again."
        ) from None


def write_results(
    run: RunDir,
    split: str,
    condition: Condition,
    records: pd.DataFrame,
    left_out: Iterable[int] = (),
) -> None:
    """Write the records of a run under a condition.

    The versions of the libraries that changed its images are kept with them, as
    `attrs["made_with"]`.

    Args:
        run: the run.
        split: name of the split.
        condition: what happened to its images and sentences.
        records: one row per expression.
        left_out: ids of images that the condition could not be applied to, of which there are no
            records. They are kept as `attrs["left_out"]`.

    Raises:
        UserError: the disk is full.
    """
    records.attrs["made_with"] = made_with()
    records.attrs["left_out"] = sorted(left_out)
    _write(run, results_path(run, split, condition), records)


# --- masks ----------------------------------------------------------------------------------------


def examples(dataset: ReferDataset, split: str) -> set[int]:
    """Return the sent_ids whose masks are stored under every condition: one of each of some images.

    They are drawn from the data alone, before anything is evaluated. So no result decides which are
    shown, and all runs have masks of the same ones.
    """
    by_image: dict[int, list[int]] = {}
    for ref in dataset.refs_of(split):
        of_image = by_image.setdefault(ref.image_id, [])
        of_image += [sentence.sent_id for sentence in ref.sentences]
    rng = generator("robustness examples", dataset.name, dataset.split_by, split)
    images = rng.permutation(sorted(by_image))[:EXAMPLES]
    return {int(rng.choice(sorted(by_image[image_id]))) for image_id in images.tolist()}


def masks_path(run: RunDir, split: str, condition: Condition | str) -> Path:
    """Return where the masks of a run under a condition lie. Results of earlier versions lack them.

    There are none for covered words, where an expression has a mask for every word.
    """
    return results_path(run, split, condition).parent / "masks" / f"{condition}.parquet"


def write_masks(run: RunDir, split: str, condition: Condition, masks: pd.DataFrame) -> None:
    """Write masks of a run under a condition, a table as `evaluation.masks` describes it.

    Raises:
        UserError: the disk is full.
    """
    _write(run, masks_path(run, split, condition), masks)


def read_masks(run: RunDir, split: str, condition: Condition | str) -> pd.DataFrame:
    """Return the masks of a run under a condition.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = masks_path(run, split, condition)
    try:
        return _read(run, path)
    except (OSError, ValueError):
        raise UserError(
            f"{path} is missing or damaged: delete {results_path(run, split, condition)}, and start"
            " `risbench robustness` again."
        ) from None


# --- summary --------------------------------------------------------------------------------------


def summarize(run: RunDir, split: str) -> None:
    """Bring `metrics.json` up to date with the records that are there. A tracking store shows it.

    Raises:
        UserError: a file of records is damaged.
    """
    name = f"robustness/{split}/metrics.json"
    try:
        known = run.read_json(name)
    except WorldError:
        known = {}  # It is made again from the records.
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
    _list_all(run, split)


def _list_all(run: RunDir, split: str) -> None:
    """List the digests of results that a kill came before."""
    made = [
        path
        for condition in finished_conditions(run, split)
        for path in (results_path(run, split, condition), masks_path(run, split, condition))
        if path.exists()
    ]
    known = integrity.listed(run.path)
    integrity.renew(run.path, *({_name(run, path) for path in made} - known.keys()))
