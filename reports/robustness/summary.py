"""Records under conditions -> numbers with intervals: mPC, rPC, corruption error, families, occlusion, words, language.

mPC is the mean over the 15 common corruptions at severities 1 to 5, rPC = mPC / clean (Michaelis et al., 2019); families are
means over their common corruptions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap
from benchmark.robustness import corruptions
from benchmark.robustness.conditions import Condition
from benchmark.robustness.covered_words import CoveredWords, read_covered
from benchmark.robustness.language import keywords, subsets
from benchmark.robustness.run import finished_conditions, read_results, results_path
from benchmark.runs.rundir import RunDir
from reports.compare import BASELINE, CHECKPOINTS, Collected, Run, Setting, settings
from reports.robustness.quantities import SCORES, Quantity, error_ratio, mean_of, quantities, ratio

SUMMARY = ("mpc", "rpc", "corruption_error", "relative_corruption_error")
COMMON_CONDITIONS = len(corruptions.sets()["common"]) * len(corruptions.SEVERITIES)


# --- what was found ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Asked:
    """Runs of one setting on one split, with their records under the conditions that all of them were asked.

    Attributes:
        strategies: label -> seed -> run. seeds: those that enter; all that have a baseline, where there is one.
        records: label -> seed -> condition ("clean" too) -> records. missing: conditions that some run has no records of.
    """

    setting: Setting
    split: str
    records: dict[str, dict[int, dict[str, pd.DataFrame]]]
    missing: tuple[str, ...]

    @property
    def conditions(self) -> list[str]:
        """The conditions, without "clean"."""
        first = next(iter(next(iter(self.records.values())).values()))
        return [name for name in first if name != "clean"]


def gather(collected: Collected, runs: Path, splits: Sequence[str], conditions: Sequence[Condition]) -> list[Asked]:
    """Return the records of finished runs under conditions, per setting and split that has any.

    Raises:
        UserError: no run was asked, or records under a condition are not about the expressions of the clean ones.
    """
    found = []
    every_setting = settings(collected)
    split_by = {(setting.columns["dataset"], setting.columns["split_by"]) for setting in every_setting}
    for setting in every_setting:
        name, by = setting.columns["dataset"], setting.columns["split_by"]
        if sum(other == name for other, _ in split_by) > 1:  # RefCOCOg, umd and google: other images in val
            setting = dataclasses.replace(setting, columns={**setting.columns, "dataset": f"{name}-{by}"})
        every = [run for by_seed in setting.strategies.values() for run in by_seed.values()]
        for split in (split for split in splits if split in setting.splits):
            there = [set(finished_conditions(RunDir(runs / run.spec.key), split)) for run in every]
            names = [str(its) for its in conditions if all(str(its) in has for has in there)]
            missing = tuple(str(its) for its in conditions if str(its) not in names)
            records = {
                label: {seed: _records(run, runs, split, names) for seed, run in by_seed.items()}
                for label, by_seed in _paired(setting).items()
            }
            found.append(Asked(setting, split, records, missing))
    if conditions and not any(asked.conditions for asked in found):
        raise UserError(
            f"no run of these in {runs} was asked under these conditions on {', '.join(splits)}: `risbench robustness` does it."
        )
    return found


def _paired(setting: Setting) -> dict[str, dict[int, Run]]:
    """Return label -> seed -> run, with the seeds that all strategies have where they have some in common."""
    common = set.intersection(*(set(by_seed) for by_seed in setting.strategies.values()))
    return {
        label: {seed: run for seed, run in by_seed.items() if not common or seed in common}
        for label, by_seed in setting.strategies.items()
    }


def _records(run: Run, runs: Path, split: str, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    clean = run.records[split]
    found = {"clean": clean}
    for name in names:
        records = read_results(RunDir(runs / run.spec.key), split, name)
        if name == str(CoveredWords()):
            records = read_covered(records)
        if set(records["sent_id"]) != set(clean["sent_id"]):
            raise UserError(
                f"{results_path(RunDir(runs / run.spec.key), split, name)} is not about the expressions of the run's"
                " records; delete it and start `risbench robustness` again."
            )
        found[name] = records
    return found


# --- lines of the table ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Line:
    """What a row of the table is about: a kind, a name, a level (severity or percent), and its quantities by label.

    `before` is what the quantity is compared with in the column `change`: the same without the condition.
    """

    kind: str
    name: str
    level: int | None
    values: dict[str, Quantity]
    before: dict[str, Quantity] | None
    expressions: int


def _lines(asked: Asked, reference: Mapping[str, Quantity] | None) -> list[_Line]:
    labels = {label: list(by_seed) for label, by_seed in asked.records.items()}
    plain = [name for name in ("clean", *asked.conditions) if name != str(CoveredWords())]
    found = _draw(asked, plain)
    clean = {label: found[label]["clean"] for label in labels}
    count = len(next(iter(next(iter(asked.records.values())).values()))["clean"])
    lines = [_Line("clean", "clean", None, clean, None, count)]
    by_corruption: dict[str, list[str]] = {}
    for name in plain[1:]:
        target, _, level = name.rpartition("-")
        is_corruption = target in corruptions.sets()["all"]
        if is_corruption:
            by_corruption.setdefault(target, []).append(name)
        kind = "corruption" if is_corruption else "occlusion"
        lines.append(_Line(kind, target, int(level), {its: found[its][name] for its in labels}, clean, count))

    def mean_line(kind: str, name: str, members: Sequence[str]) -> None:
        names = [its for member in members for its in by_corruption.get(member, ())]
        if names:
            lines.append(_Line(kind, name, None, {its: mean_of(found[its], names) for its in labels}, clean, count))

    for corruption in by_corruption:
        mean_line("corruption mean", corruption, [corruption])
    common = [name for name in by_corruption if name in corruptions.sets()["common"]]
    for family, members in corruptions.families().items():
        mean_line("family", family, [name for name in members if name in common])
    mean_line(
        "set", "maskris", [name for name in corruptions.sets()["maskris"]] if _whole(by_corruption, "maskris") else []
    )
    mean_line("summary", "mpc", common)
    if common:
        mpc = lines[-1].values
        lines.append(_Line("summary", "rpc", None, {its: ratio(mpc[its], clean[its]) for its in labels}, None, count))
        chosen = {name: by_corruption[name] for name in common}
        for name, relative in (("corruption_error", False), ("relative_corruption_error", True)):
            if reference is not None and all(its in reference for names in chosen.values() for its in names):
                values = {its: error_ratio(found[its], reference, chosen, relative) for its in labels}
                lines.append(_Line("summary", name, None, values, None, count))
    return lines + _language(asked) + _words(asked)


def _whole(by_corruption: Mapping[str, Sequence[str]], name: str) -> bool:
    """Return whether a named set was asked whole."""
    severities = len(corruptions.SEVERITIES)
    return all(len(by_corruption.get(member, ())) == severities for member in corruptions.sets()[name])


def _draw(asked: Asked, names: Sequence[str]) -> dict[str, dict[str, Quantity]]:
    """Return label -> condition -> quantity; one draw of the images for all of them."""
    places = [(label, seed, name) for label, by_seed in asked.records.items() for seed in by_seed for name in names]
    drawn = quantities([asked.records[label][seed][name] for label, seed, name in places])
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for (label, _, name), values in zip(places, drawn, strict=True):
        found.setdefault(label, {}).setdefault(name, []).append(values)
    return {label: {name: np.stack(its) for name, its in by_name.items()} for label, by_name in found.items()}


def _language(asked: Asked) -> list[_Line]:
    """Return a line per language subset of the clean records."""
    tables = {label: [its["clean"] for its in by_seed.values()] for label, by_seed in asked.records.items()}
    sentences = next(iter(tables.values()))[0].sort_values("sent_id")["sentence"].tolist()
    lines = []
    for name, chosen in subsets(sentences).items():
        if chosen.any():
            kept = {label: [its.sort_values("sent_id")[chosen] for its in every] for label, every in tables.items()}
            lines.append(_Line("language", name, None, _by_label(kept), None, int(chosen.sum())))
    return lines


def _words(asked: Asked) -> list[_Line]:
    """Return a line for all words, and one per subset whose words were covered, each beside the same sentences uncovered."""
    if str(CoveredWords()) not in asked.conditions:
        return []
    tables = {label: [its[str(CoveredWords())] for its in by_seed.values()] for label, by_seed in asked.records.items()}
    first = next(iter(tables.values()))[0]
    of_subset = subsets(first["word"].tolist())
    chosen = {"any word": first["position"] >= 0} | {name: of_subset[name] for name in keywords()}
    lines = []
    for name, mask in chosen.items():
        if not np.any(mask):
            continue
        covered = {label: [its[np.asarray(mask)] for its in every] for label, every in tables.items()}
        plain = {
            label: [
                its[its["position"] < 0].set_index("sent_id").loc[part["sent_id"]].reset_index()
                for its, part in zip(tables[label], covered[label], strict=True)
            ]
            for label in tables
        }
        lines.append(_Line("word", name, None, _by_label(covered), _by_label(plain), int(np.sum(mask))))
    return lines


def _by_label(tables: Mapping[str, Sequence[pd.DataFrame]]) -> dict[str, Quantity]:
    drawn = quantities([table for every in tables.values() for table in every])
    ends = np.cumsum([len(every) for every in tables.values()])[:-1]
    return dict(zip(tables, np.split(drawn, ends), strict=True))


# --- the table --------------------------------------------------------------------------------------------------------


def table(every: Sequence[Asked], reference: str | None = None) -> pd.DataFrame:
    """Return one row per setting x split x kind x name x level x strategy x metric.

    `mean` (over seeds), `deviation` (sample) and `points` are the number, [`low`, `high`] its 95 % interval. `change` is the
    number minus the same without the condition, `difference` the strategy minus the baseline on the seeds of both; both have
    intervals.
    `kind` and `name`: clean; corruption (level: severity); corruption mean; family and summary (mpc, rpc ...) over the common
    corruptions that were asked; occlusion (level: percent); word (covered words of a subset); language (a subset).

    Args:
        reference: key of the run that corruption errors are relative to.

    Raises:
        UserError: the reference is not among the runs.
    """
    rows: list[dict[str, Any]] = []
    for asked in every:
        for line in _lines(asked, _reference(every, asked, reference)):
            for label in line.values:
                rows += _rows(asked, line, label)
    return pd.DataFrame(rows)


def _reference(every: Sequence[Asked], asked: Asked, key: str | None) -> dict[str, Quantity] | None:
    """Return the quantities of the declared run on the same split and data; None where none is declared or it is of others."""
    if key is None:
        return None
    known = [
        (other, label, seed)
        for other in every
        for label, by_seed in other.setting.strategies.items()
        for seed, run in by_seed.items()
        if run.spec.key == key
    ]
    if not known:
        raise UserError(f"the reference run {key} is not among the runs of this report; name it, too.")
    for other, label, seed in known:
        same = ("dataset", "split_by", "data_sha256")
        if other.split == asked.split and all(other.setting.columns[c] == asked.setting.columns[c] for c in same):
            if seed in other.records[label]:
                its = other.records[label][seed]
                names = [name for name in its if name != str(CoveredWords())]
                return dict(zip(names, quantities([its[name] for name in names])[:, None], strict=True))
    return None


def _rows(asked: Asked, line: _Line, label: str) -> list[dict[str, Any]]:
    value = line.values[label]
    seeds = list(asked.records[label])
    baseline = line.values.get(BASELINE) if label != BASELINE else None
    if baseline is not None and list(asked.records[BASELINE]) != seeds:
        baseline = None
    change = value - line.before[label] if line.before else None
    rows = []
    for number, metric in enumerate(SCORES):
        row = asked.setting.columns | {
            "split": asked.split,
            "kind": line.kind,
            "name": line.name,
            "level": line.level,
            "strategy": label,
            "metric": metric,
            "expressions": line.expressions,
            "seeds": tuple(seeds),
        }
        row |= _numbers("", value[:, number]) | {"points": tuple(value[:, number, 0].tolist())}
        row |= _numbers("change", None if change is None else change[:, number])
        found = None if baseline is None else (value - baseline)[:, number]
        row |= _numbers("difference", found)
        per_seed = () if found is None else tuple(found[:, 0].tolist())
        interval = bootstrap.Interval(row["difference_low"], row["difference_high"])
        row["differences"] = per_seed
        row["compared"] = "" if found is None else CHECKPOINTS if len(seeds) == 1 else f"{len(seeds)} seed pairs"
        row["verdict"] = bootstrap.verdict(per_seed, interval) if line.kind == "summary" and per_seed else ""
        rows.append(row)
    return rows


def _numbers(name: str, found: np.ndarray | None) -> dict[str, float]:
    """Return mean over seeds and its interval, of (seeds, 1 + B); with the deviation where `name` is ""."""
    keys = (name, f"{name}_low", f"{name}_high") if name else ("mean", "low", "high")
    if found is None:
        return dict.fromkeys(keys, np.nan)
    interval = bootstrap.percentile_interval(found[:, 1:].mean(axis=0))
    numbers = dict(zip(keys, (float(found[:, 0].mean()), *interval), strict=True))
    if not name:
        numbers["deviation"] = float(found[:, 0].std(ddof=1)) if len(found) > 1 else np.nan
    return numbers


def is_whole(asked: Asked) -> bool:
    """Return whether mPC is over all 15 common corruptions at all five severities."""
    common = [name for name in asked.conditions if name.rpartition("-")[0] in corruptions.sets()["common"]]
    return len(common) == COMMON_CONDITIONS
