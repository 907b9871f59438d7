"""What papers print: the rows of `reports/published.csv`, in the words of the suite."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.evaluation import metrics

FILE = Path(__file__).parent / "published.csv"
COLUMNS = (
    "paper",
    "place",
    "system",
    "condition",
    "dataset",
    "split",
    "metric",
    "value",
    "note",
)
HOURS = "hours"  # what the file calls the time of a training


def read(path: Path | None = None) -> pd.DataFrame:
    """Return published numbers, one row each, with the columns `COLUMNS`.

    Values are as printed, so a metric's are percent.

    Args:
        path: of the file [the suite's own].

    Raises:
        UserError: the file is missing or damaged.
    """
    remedy = "mend it" if path else "install risbench again"
    path = path or FILE
    try:
        known = pd.read_csv(path, encoding="utf-8", keep_default_na=False, dtype=str)
        if tuple(known.columns) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        values = pd.to_numeric(known["value"], errors="coerce")
        for number in known.index[~np.isfinite(values)]:
            text = known["value"][number]
            raise ValueError(f"the value '{text}' of line {number + 2} is no number")
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UserError(f"{path} {reason}: {remedy}.") from None
    except ValueError as error:
        # The errors of pandas are ValueErrors, too.
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}): {remedy}.") from None
    return known.assign(value=values)


def metric_names() -> dict[str, str]:
    """Return heading -> name of the metrics, as `published.csv` and the suite call them."""
    return {metrics.get(name).heading: name for name in metrics.names()}


def dataset(name: str) -> tuple[str, str]:
    """Return the data set and way of splitting that `published.csv` calls `name`.

    It writes `refcocog-umd` for what is `refcocog:umd` here.

    Raises:
        UserError: the data set is not known.
    """
    head, hyphen, split_by = name.rpartition("-")
    return datasets.parse(f"{head}:{split_by}" if hyphen else name)
