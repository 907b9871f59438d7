"""What the rows of the robustness table are about, each with its quantities.

mPC is the mean over the common corruptions at severities 1 to 5, and rPC = mPC / clean (Michaelis
et al., 2019). Families are means over their common corruptions.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.robustness import corruptions
from benchmark.robustness.language import keywords, subsets
from reports.robustness.quantities import Quantity, error_ratio, mean_of, quantities, ratio
from reports.robustness.results import CLEAN, WORDS, Results, corruption_of

ANY_WORD = "any word"
ByLabel = Mapping[str, Quantity]  # strategy -> quantity


@dataclasses.dataclass(frozen=True)
class Line:
    """What a row is about.

    Attributes:
        kind: as `table.table` describes it.
        name: as `table.table` describes it.
        level: severity or percent, or None if there is none.
        values: the number of each strategy.
        before: the same without the condition, which the column `change` compares with.
        expressions: number of expressions that they are over.
    """

    kind: str
    name: str
    level: int | None
    values: ByLabel
    before: ByLabel | None
    expressions: int


def lines(results: Results, reference: Mapping[str, Quantity] | None) -> list[Line]:
    """Return all lines about runs of one setting on one split.

    Args:
        results: the runs and their records.
        reference: condition -> quantity of the run that corruption errors are relative to.
    """
    conditions = _conditions(results)
    means = _means(conditions, reference)
    return [*conditions, *means, *_language(results), *_words(results)]


def _conditions(results: Results) -> list[Line]:
    """Return the line of the clean split, and one per corruption and occlusion."""
    names = [name for name in (CLEAN, *results.conditions) if name != WORDS]
    # The images are drawn once for all of them.
    tables = {
        label: [by_condition[name] for by_condition in by_seed.values() for name in names]
        for label, by_seed in results.records.items()
    }
    drawn = _by_label(tables, results.metrics)
    # The quantities of a strategy are ordered by seed, and within a seed by condition.
    by_name = {
        name: {label: values[place :: len(names)] for label, values in drawn.items()}
        for place, name in enumerate(names)
    }
    clean = by_name.pop(CLEAN)
    count = len(next(iter(tables.values()))[0])
    every = [Line(CLEAN, CLEAN, None, clean, None, count)]
    for condition, values in by_name.items():
        name, _, level = condition.rpartition("-")
        kind = "corruption" if corruption_of(condition) else "occlusion"
        every.append(Line(kind, name, int(level), values, clean, count))
    return every


# --- means over corruptions -----------------------------------------------------------------------


def named_sets() -> dict[str, tuple[str, ...]]:
    """Return the named sets of corruptions whose mean is shown, besides the common ones."""
    return {
        name: members
        for name, members in corruptions.sets().items()
        if name not in ("common", "all")
    }


def _means(every: Sequence[Line], reference: Mapping[str, Quantity] | None) -> list[Line]:
    """Return the means over corruptions, and what follows from the mean over the common ones."""
    clean = every[0]
    by_corruption: dict[str, list[Line]] = {}
    for line in every:
        if line.kind == "corruption":
            by_corruption.setdefault(line.name, []).append(line)

    def mean(kind: str, name: str, members: Sequence[str]) -> list[Line]:
        chosen = [line for member in members for line in by_corruption.get(member, ())]
        if not chosen:
            return []
        values = {label: mean_of([line.values[label] for line in chosen]) for label in clean.values}
        return [Line(kind, name, None, values, clean.values, clean.expressions)]

    means = [line for name in by_corruption for line in mean("corruption mean", name, [name])]
    common = [name for name in by_corruption if name in corruptions.sets()["common"]]
    for family, members in corruptions.families().items():
        means += mean("family", family, [name for name in members if name in common])
    for name, members in named_sets().items():
        severities = [len(by_corruption.get(member, ())) for member in members]
        # A mean over a part of a set must not have the name of the set.
        if all(count == len(corruptions.SEVERITIES) for count in severities):
            means += mean("set", name, members)
    if common:
        (mpc,) = mean("summary", "mpc", common)
        lines_of = {name: by_corruption[name] for name in common}
        means += [mpc, *_relative(clean, mpc, lines_of, reference)]
    return means


def _relative(
    clean: Line,
    mpc: Line,
    common: Mapping[str, Sequence[Line]],
    reference: Mapping[str, Quantity] | None,
) -> list[Line]:
    """Return rPC, and the corruption errors if a reference run was declared."""
    count = clean.expressions
    rpc = {label: ratio(mpc.values[label], clean.values[label]) for label in clean.values}
    every = [Line("summary", "rpc", None, rpc, None, count)]
    conditions = {
        corruption: [f"{line.name}-{line.level}" for line in severities]
        for corruption, severities in common.items()
    }
    needed = {name for names in conditions.values() for name in names}
    if reference is None or not needed <= reference.keys():
        return every
    for kind, relative in (("corruption_error", False), ("relative_corruption_error", True)):
        errors = {}
        for label in clean.values:
            own = {CLEAN: clean.values[label]}
            own |= {
                f"{line.name}-{line.level}": line.values[label]
                for severities in common.values()
                for line in severities
            }
            errors[label] = error_ratio(own, reference, conditions, relative)
        every.append(Line("summary", kind, None, errors, None, count))
    return every


# --- words ----------------------------------------------------------------------------------------


def _language(results: Results) -> list[Line]:
    """Return a line per language subset of the clean records."""
    tables = {
        label: [by_condition[CLEAN].sort_values("sent_id") for by_condition in by_seed.values()]
        for label, by_seed in results.records.items()
    }
    sentences = next(iter(tables.values()))[0]["sentence"].tolist()
    every = []
    for name, chosen in subsets(sentences).items():
        if chosen.any():
            kept = {
                label: [table[chosen] for table in by_seed] for label, by_seed in tables.items()
            }
            values = _by_label(kept, results.metrics)
            every.append(Line("language", name, None, values, None, int(chosen.sum())))
    return every


def _words(results: Results) -> list[Line]:
    """Return a line for all covered words, and one per subset of words.

    Each is compared with the same sentences with no word covered.
    """
    if WORDS not in results.conditions:
        return []
    tables = {
        label: [by_condition[WORDS] for by_condition in by_seed.values()]
        for label, by_seed in results.records.items()
    }
    first = next(iter(tables.values()))[0]
    of_subset = subsets(first["word"].tolist())
    chosen = {ANY_WORD: first["position"].to_numpy() >= 0}
    chosen |= {name: of_subset[name] for name in keywords()}
    every = []
    for name, mask in chosen.items():
        if not np.any(mask):
            continue
        covered = {label: [table[mask] for table in by_seed] for label, by_seed in tables.items()}
        plain = {
            label: [
                _uncovered(table, part)
                for table, part in zip(tables[label], covered[label], strict=True)
            ]
            for label in tables
        }
        values = _by_label(covered, results.metrics)
        before = _by_label(plain, results.metrics)
        every.append(Line("word", name, None, values, before, int(np.sum(mask))))
    return every


def _uncovered(records: pd.DataFrame, covered: pd.DataFrame) -> pd.DataFrame:
    """Return the record of the whole sentence for every record of one with a covered word."""
    whole = records[records["position"] < 0].set_index("sent_id")
    return whole.loc[covered["sent_id"]].reset_index()


def _by_label(
    tables: Mapping[str, Sequence[pd.DataFrame]], metrics: Sequence[str]
) -> dict[str, Quantity]:
    """Return label -> the quantities of its tables. The images are drawn once for all of them."""
    drawn = quantities([table for every in tables.values() for table in every], metrics)
    ends = np.cumsum([len(every) for every in tables.values()])[:-1]
    return dict(zip(tables, np.split(drawn, ends), strict=True))
