"""The robustness table, which has a row per setting, split, condition, strategy and metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap
from reports import labels
from reports.compare import difference_columns
from reports.robustness.lines import Line, lines
from reports.robustness.quantities import Quantity, quantities
from reports.robustness.results import WORDS, Results
from reports.verdicts import with_verdicts


def table(
    every: Sequence[Results], reference: str | None = None, comparisons: int = 0
) -> pd.DataFrame:
    """Return one row per setting x split x kind x name x level x strategy x metric.

    `mean` (over seeds), `deviation` (sample) and `points` are the number, `runs` the keys of the
    runs that it is of, and [`low`, `high`] its 95 % interval. `change` is the number minus the same
    without the condition. `difference` is the strategy minus the reference strategy on the seeds of
    both. Both have intervals. `undefined` is the number of resamples in which one of these does not
    exist.

    `kind` is one of these, and `name` says which:

        clean              without a condition
        corruption         a corruption, whose severity is the `level`
        corruption mean    a corruption, over its severities
        family, set        a family or a named set of corruptions
        summary            `mpc`, `rpc`, `corruption_error` or `relative_corruption_error`
        occlusion          a target, whose percent is the `level`
        word               covered words of a subset
        language           expressions of a subset

    Args:
        every: runs and their records.
        reference: key of the run that corruption errors are relative to.
        comparisons: number of planned ones of methods, strategies and test splits. Each makes as
            many tests as there are summaries, so a run that is missing counts with p = 1.

    Raises:
        UserError: the reference is not among the runs.
    """
    rows: list[dict[str, Any]] = []
    for results in every:
        for line in lines(results, _reference(every, results, reference)):
            for label in line.values:
                rows += _rows(results, line, label)
    table = pd.DataFrame(rows)
    judged = (table["kind"] == "summary") & table["difference"].notna() & (table["role"] == "test")
    judged &= table["metric"] == table["supervision"].map(every[0].group.primary)
    family = max(comparisons * table[judged]["name"].nunique(), int(judged.sum()))
    return with_verdicts(table, every[0].group, family, table["kind"] == "summary")


def _reference(
    every: Sequence[Results], results: Results, key: str | None
) -> Mapping[str, Quantity] | None:
    """Return condition -> quantity of the declared run on the same split and data.

    It is None if no run is declared, or if the run has no records of this split and data.
    """
    if key is None:
        return None
    known = [
        (other, label, seed)
        for other in every
        for label, by_seed in other.setting.strategies.items()
        for seed, run in by_seed.items()
        if run.key == key
    ]
    if not known:
        raise UserError(
            f"the reference run {key} is not among the runs of this report: name it, too."
        )
    columns = results.setting.columns
    for other, label, seed in known:
        theirs = other.setting.columns
        same = all(theirs[name] == columns[name] for name in ("dataset", "split_by", "data_sha256"))
        if same and other.split == results.split and seed in other.records[label]:
            records = other.records[label][seed]
            names = [name for name in records if name != WORDS]
            drawn = quantities([records[name] for name in names], results.metrics)
            return dict(zip(names, drawn[:, None], strict=True))
    return None


def _rows(results: Results, line: Line, label: str) -> list[dict[str, Any]]:
    """Return the rows of one line and strategy, one per metric."""
    value = line.values[label]
    seeds = list(results.records[label])
    reference = labels.reference()
    partners = list(results.records.get(reference, ()))
    # Either all seeds of a strategy have a partner or none has.
    has_partner = label != reference and seeds[0] in partners
    change = value - line.before[label] if line.before else None
    difference = None
    if has_partner:
        difference = value - line.values[reference][[partners.index(seed) for seed in seeds]]
    rows = []
    for number, metric in enumerate(results.metrics):
        row = results.setting.columns | {
            "split": results.split,
            "role": results.setting.splits[results.split],
            "kind": line.kind,
            "name": line.name,
            "level": line.level,
            "strategy": label,
            "metric": metric,
            "expressions": line.expressions,
            "seeds": tuple(seeds),
            "runs": tuple(results.setting.strategies[label][seed].key for seed in seeds),
        }
        row |= _numbers(("mean", "low", "high"), value[:, number])
        row["deviation"] = float(value[:, number, 0].std(ddof=1)) if len(seeds) > 1 else np.nan
        row["points"] = tuple(value[:, number, 0].tolist())
        row |= _change("change", None if change is None else change[:, number])
        row |= difference_columns(
            None if difference is None else _difference(seeds, difference[:, number])
        )
        given = [its[:, number] for its in (value, change, difference) if its is not None]
        row["undefined"] = max(bootstrap.undefined(its[:, 1:].mean(axis=0)) for its in given)
        rows.append(row)
    return rows


def _difference(seeds: Sequence[int], values: np.ndarray) -> bootstrap.Mean:
    per_seed = dict(zip(seeds, values[:, 0].tolist(), strict=True))
    return bootstrap.mean(per_seed, values[:, 1:].mean(axis=0))


def _change(name: str, values: np.ndarray | None) -> dict[str, float]:
    return _numbers((name, f"{name}_low", f"{name}_high"), values)


def _numbers(names: tuple[str, str, str], values: np.ndarray | None) -> dict[str, float]:
    """Return by name the mean over seeds and its interval, of (seeds, 1 + B), all NaN for None."""
    if values is None:
        return dict.fromkeys(names, np.nan)
    interval = bootstrap.percentile_interval(values[:, 1:].mean(axis=0))
    return dict(zip(names, (float(values[:, 0].mean()), *interval), strict=True))
