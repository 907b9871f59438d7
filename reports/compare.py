"""Finished runs -> numbers to compare: which runs enter, what differs between them, what each strategy changes.

Only runs of exactly the given specs enter, and only where their state is `done`. Numbers are averaged over seeds alone:
whatever else differs between two specs makes another row.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import methods
from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.records import validate_records
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.runs.spec import RunSpec
from benchmark.strategies.strategy import Strategy

BASELINE = "baseline"
COMPARED = ("oiou", "miou")  # what is judged and tested; the other metrics are described
CHECKPOINTS = "these two checkpoints"


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        spec: its configuration. records: split -> one row per referring expression.
        epoch: the selected one. commit, dirty: git state of the code that made it (dirty None: not known).
    """

    spec: RunSpec
    records: dict[str, pd.DataFrame]
    epoch: int
    commit: str
    dirty: bool | None


@dataclasses.dataclass(frozen=True)
class Collected:
    """What a table is made from.

    Attributes:
        specs: all that were asked for. runs: those that are done.
        unfinished: (run key, state, reason) of the others. unused: keys of finished runs that the specs do not list.
    """

    specs: tuple[RunSpec, ...]
    runs: tuple[Run, ...]
    unfinished: tuple[tuple[str, str, str], ...]
    unused: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Finished runs that differ in strategy and seed alone.

    Attributes:
        columns: what their rows have in common. splits: reported ones, in the order of the spec.
        strategies: label -> seed -> run, the baseline first.
    """

    columns: dict[str, Any]
    splits: tuple[str, ...]
    strategies: dict[str, dict[int, Run]]


# --- collect ----------------------------------------------------------------------------------------------------------


def collect(
    specs: Sequence[RunSpec], runs: Path, remedy: str = "run `risbench matrix` with the same options first"
) -> Collected:
    """Return the finished runs of exactly `specs` in the folder `runs`, with their records.

    Args:
        remedy: what to do where none is finished, for the message.

    Raises:
        UserError: none of them is finished, or a finished one is damaged (the message names it).
    """
    wanted = {spec.key: spec for spec in sorted(specs, key=lambda spec: spec.key)}
    states = {key: RunDir(runs / key).status() for key in wanted}
    done = [key for key in wanted if states[key]["state"] == "done"]
    if not done:
        raise UserError(
            f"none of the {len(wanted)} runs of this table is finished in {runs}: {remedy} (`risbench runs` shows how"
            " far they are)."
        )
    others = [run for run in all_runs(runs) if run.key not in wanted]
    return Collected(
        specs=tuple(wanted.values()),
        runs=tuple(_load(wanted[key], RunDir(runs / key)) for key in done),
        unfinished=tuple(
            (key, status["state"], " ".join(status.get("reason", "").split()))
            for key, status in states.items()
            if key not in done
        ),
        unused=tuple(run.key for run in others if run.status()["state"] == "done"),
    )


def _load(spec: RunSpec, run: RunDir) -> Run:
    """Read a finished run, checking that its files belong together."""
    if run.spec().key != spec.key:
        raise UserError(f"run {run.key} is damaged: its spec.yaml is another run's; delete the folder, run it again.")
    result, environment = run.read_json("result.json"), run.read_json("environment.json")
    records = {}
    for split in spec.selection.report:
        records[split] = run.records(split)
        validate_records(records[split], f"split '{split}' of run {run.key}")
        found, noted = metrics.metrics(records[split]), result.get(split, {})
        if any(not np.isclose(found[name], noted.get(name, np.nan), rtol=0, atol=1e-9) for name in COMPARED):
            raise UserError(
                f"run {run.key} is damaged: its records of split '{split}' do not give the numbers of its result.json;"
                " delete the run's status.json and run it again."
            )
    try:
        git = environment["git"]
        return Run(spec, records, int(result["selected"]["epoch"]), str(git["commit"]), git["dirty"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"run {run.key} is damaged: its result.json or environment.json lacks the selected epoch or the git state;"
            " delete the run's status.json and run it again."
        ) from None


# --- group ------------------------------------------------------------------------------------------------------------


def settings(collected: Collected) -> list[Setting]:
    """Return the finished runs by supervision, data set, method, variant and what else their specs differ in."""
    rest = {_rest(spec): spec for spec in collected.specs}
    names = {text: f"{spec.dataset}/{spec.split_by}/{spec.method}/{spec.variant}" for text, spec in rest.items()}
    fields = {text: spec.model_dump(exclude={"seed", "strategy"}) for text, spec in rest.items()}
    differing, labels = _differing(names, fields), strategy_labels(collected)
    found = []
    for text, spec in rest.items():
        by_strategy: dict[str, dict[int, Run]] = {}
        for run in (run for run in collected.runs if _rest(run.spec) == text):
            by_strategy.setdefault(labels[_text(run.spec.strategy)], {})[run.spec.seed] = run
        columns = {
            "supervision": "weak" if methods.get(spec.method).weakly_supervised else "full",
            "dataset": spec.dataset,
            "split_by": spec.split_by,
            "data_sha256": spec.data_sha256,
            "method": spec.method,
            "stage": methods.get(spec.method).stage,
            "variant": spec.variant,
            "settings": differing[text],
        }
        strategies = {
            label: dict(sorted(by_strategy[label].items())) for label in labels.values() if label in by_strategy
        }
        if strategies:
            found.append(Setting(columns, spec.selection.report, strategies))
    return sorted(found, key=lambda setting: [*setting.columns.values()])


def strategy_labels(collected: Collected) -> dict[str, str]:
    """Return what tables call each strategy of the specs, keyed by its JSON; the baseline comes first."""
    strategies = {_text(spec.strategy): spec.strategy for spec in collected.specs}
    differing = _differing(
        {text: strategy.name for text, strategy in strategies.items()},
        {text: strategy.model_dump() for text, strategy in strategies.items()},
    )
    labels = {text: f"{_heading(strategy)} {differing[text]}".strip() for text, strategy in strategies.items()}
    return dict(sorted(labels.items(), key=lambda item: (item[1] != BASELINE, item[1])))


def _heading(strategy: Strategy) -> str:
    return {BASELINE: BASELINE, "maskris": "+MaskRIS"}.get(strategy.name, f"+{strategy.name}")


def _text(model: Any, exclude: set[str] | None = None) -> str:
    return json.dumps(model.model_dump(mode="json", exclude=exclude), sort_keys=True)


def _rest(spec: RunSpec) -> str:
    """Return all of a spec within which strategies and seeds are compared."""
    return _text(spec, {"seed", "strategy"})


def _differing(names: Mapping[str, str], fields: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Return where each configuration differs from the others of its name, "(distill_weight 0.25)", or ""."""
    flat = {key: _flat(values) for key, values in fields.items()}
    texts = {}
    for key, name in names.items():
        same = [flat[other] for other, its in names.items() if its == name]
        known = sorted({field for values in same for field in values})
        differing = [field for field in known if len({str(values.get(field)) for values in same}) > 1]
        shown = [f"{field.removeprefix('recipe.')} {_short(flat[key].get(field))}" for field in differing]
        texts[key] = f"({', '.join(shown)})" if shown else ""
    return texts


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _short(value: Any) -> str:
    """Return a value as text, digests cut."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1", str(value))


# --- compare ----------------------------------------------------------------------------------------------------------


def comparison(collected: Collected) -> pd.DataFrame:
    """Return one row per data set x split x method x variant x strategy x metric; all metrics are fractions.

    `mean`, `deviation` (sample, ddof = 1) and `points` are over `seeds`; `low` and `high` bound the mean. Rows of another
    strategy than the baseline are compared with it on the seeds that both have: everything in such a row, `baseline_mean`
    too, is about those, and the runs without a partner stand in `left_out`. Without a common seed the row describes its own
    seeds, and what compares is empty. Tuples hold one entry per seed, in the order of `seeds`.

    `p_images` is the two-sided bootstrap p-value of no difference when the test *images* are resampled: it is about these
    trained networks and says nothing about other seeds. `p_images_holm` adjusts it for all oIoU and mIoU differences of the
    table; the other metrics are not tested.

    Raises:
        UserError: runs that are to be compared are not about the same expressions; the message names them.
    """
    rows: list[dict[str, Any]] = []
    for setting in settings(collected):
        for split in setting.splits:
            for strategy, runs in setting.strategies.items():
                baseline = {} if strategy == BASELINE else setting.strategies.get(BASELINE, {})
                of = setting.columns | {"split": split, "strategy": strategy}
                rows += [of | row for row in compare(runs, baseline, split)]
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p_images") + 1, "p_images_holm", bootstrap.holm(table["p_images"].tolist()))
    return table


def compare(
    runs: Mapping[int, Run], baseline: Mapping[int, Run], split: str, judged: Sequence[str] = COMPARED
) -> list[dict[str, Any]]:
    """Return one row per metric of `runs` on a split, with the columns that `comparison` describes.

    Args:
        runs, baseline: seed -> run; an empty `baseline` leaves what compares empty. judged: metrics with a verdict and a
            p-value.
    """
    pairs = [seed for seed in runs if seed in baseline]
    seeds = pairs or list(runs)
    used, partners = [runs[seed] for seed in seeds], [baseline[seed] for seed in pairs]
    alone = [run for part in (baseline, runs) for seed, run in part.items() if baseline and seed not in pairs]
    own = {seed: runs[seed].records[split] for seed in seeds}
    reference = {seed: baseline[seed].records[split] for seed in pairs}
    with _named([*used, *partners], split):
        intervals = bootstrap.intervals(*own.values())
        differences = bootstrap.paired_differences(reference, own) if pairs else {}
    points = [metrics.metrics(records) for records in own.values()]
    baseline_points = [metrics.metrics(records) for records in reference.values()]
    rows = []
    for name in metrics.METRICS:
        values, before = ([point[name] for point in part] for part in (points, baseline_points))
        mean, deviation = _spread(values)
        baseline_mean, baseline_deviation = _spread(before)
        found, is_judged = differences.get(name), name in judged
        rows.append(
            {
                "metric": name,
                "seeds": tuple(seeds),
                "mean": mean,
                "deviation": deviation,
                "low": intervals[name].low,
                "high": intervals[name].high,
                "points": tuple(values),
                "baseline_mean": baseline_mean,
                "baseline_deviation": baseline_deviation,
                "baseline_points": tuple(before),
                "difference": found.value if found else np.nan,
                "difference_low": found.interval.low if found else np.nan,
                "difference_high": found.interval.high if found else np.nan,
                "differences": tuple(found.per_seed[seed] for seed in seeds) if found else (),
                "compared": (CHECKPOINTS if len(pairs) == 1 else f"{len(pairs)} seed pairs") if found else "",
                "verdict": bootstrap.verdict([*found.per_seed.values()], found.interval) if found and is_judged else "",
                "p_images": found.p_value if found and is_judged else np.nan,
                "runs": tuple(run.spec.key for run in used),
                "baseline_runs": tuple(run.spec.key for run in partners),
                "left_out": tuple(run.spec.key for run in alone),
                "selected_epochs": tuple(run.epoch for run in used),
                "git_commits": tuple(run.commit for run in used),
                "git_dirty": tuple(dirty(run) for run in used),
            }
        )
    return rows


@contextmanager
def _named(runs: list[Run], split: str) -> Iterator[None]:
    """Let an error about records name the runs that they are of."""
    try:
        yield
    except UserError as error:
        raise UserError(f"split '{split}' of {', '.join(run.spec.key for run in runs)}: {error}") from None


def _spread(values: list[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation, NaN where there is none."""
    if not values:
        return np.nan, np.nan
    mean, deviation, _ = bootstrap.summary(values)
    return mean, np.nan if deviation is None else deviation


def dirty(run: Run) -> str:
    """Return whether the code of a run had uncommitted changes: yes, no or unknown."""
    return {None: "unknown", True: "yes", False: "no"}[run.dirty]


def points(collected: Collected) -> pd.DataFrame:
    """Return one row per finished run and split: what the run is and all its metrics, as fractions."""
    return pd.DataFrame(
        [
            setting.columns
            | {"split": split, "strategy": strategy, "seed": seed, "epoch": run.epoch, "run": run.spec.key}
            | metrics.metrics(run.records[split])
            for setting in settings(collected)
            for split in setting.splits
            for strategy, runs in setting.strategies.items()
            for seed, run in runs.items()
        ]
    )
