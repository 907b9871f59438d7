"""What a reader of the robustness report must know."""

from collections.abc import Sequence

import pandas as pd

from reports import labels, notes
from reports.compare import CHECKPOINTS
from reports.robustness.lines import named_sets
from reports.robustness.parts import mpc_name
from reports.robustness.results import Results, corruption_of

BOOTSTRAP = (
    "[low, high] is the 95 % percentile bootstrap interval, for which the images are resampled once"
    " for all conditions, strategies and seeds. It says how much the choice of test images matters,"
    " and not how much the seed does."
)
OCCLUSION = (
    "Occlusion covers a share with patches of the image's mean color: of the whole image, of the"
    " referent's mask, of the masks of the image's other objects, or (background, the control) as"
    " many pixels as of the referent where no object is. The change is against the uncovered image."
)
WORDS = (
    "Words are covered one at a time: each in turn is masked as in MaskRIS' text mask, and the"
    " attention stays. The change is against the same sentences with no word covered. A sentence"
    " counts once per covered word of the subset."
)
LANGUAGE = (
    "Language subsets are those of benchmark/robustness/language.yaml, matched on whole words. An"
    " expression can be in several."
)


def definitions(every: Sequence[Results], table: pd.DataFrame, reference: str | None) -> list[str]:
    """Return how the numbers are to be read, as far as it applies to these.

    Args:
        every: runs and their records.
        table: what `table.table` returns of `every`.
        reference: key of the run that corruption errors are relative to, or None.
    """
    kinds = set(table["kind"])
    lines = [
        "All numbers are percent. Corruptions are those of `imagecorruptions`, applied to the image"
        " at its original size. The corrupted image is the same for every method and expression.",
        *libraries(every),
        "mPC is the mean over the 15 common corruptions at severities 1 to 5, and rPC = mPC /"
        " clean. Methods are ranked by mPC: what falls least is often what had least to lose."
        " Families are means over their common corruptions.",
    ]
    if "corruption" in kinds and mpc_name(every) != "mPC":
        lines.append(_partial(every))
    for name, members in named_sets().items():
        if ((table["kind"] == "set") & (table["name"] == name)).any():
            lines.append(
                f"{len(members)} is the mean over the {len(members)} corruptions of the set"
                f" {name} (benchmark/robustness/corruptions.yaml says why these)."
            )
    lines.append(BOOTSTRAP)
    if reference:
        lines.append(
            "CE and rel. CE are the error 1 - score, and what the score lost against clean, divided"
            f" by that of the run {reference}, which was declared the reference (100: like it)."
            " They are means over corruptions. There is no value where the reference lost nothing"
            " under some corruption."
        )
    lines += [OCCLUSION] if "occlusion" in kinds else []
    lines += [WORDS] if "word" in kinds else []
    lines.append(LANGUAGE)
    if (table["compared"] == CHECKPOINTS).any():
        lines.append(notes.ONE_SEED)
    lines += notes.undefined(table)
    for results in every:
        lines += _left_out(results)
    return [*lines, *_made_elsewhere(every), *_doubts(every)]


def _partial(every: Sequence[Results]) -> str:
    """Return which corruptions and severities mPC* is over."""
    shown = {name for results in every for name in results.conditions if corruption_of(name)}
    names = sorted({corruption_of(name) for name in shown})
    severities = sorted({name.rpartition("-")[2] for name in shown})
    return (
        f"mPC* and rPC* are over the common ones of only {len(names)} corruptions"
        f" ({', '.join(names)}) at severities {', '.join(severities)}, and not comparable with an"
        " mPC that others report."
    )


def libraries(every: Sequence[Results]) -> list[str]:
    """Return what the images were changed with, and a warning if it was not the same for all."""
    versions = {
        " ".join(f"{name} {version}" for name, version in records.attrs["made_with"].items())
        for results in every
        for by_seed in results.records.values()
        for by_condition in by_seed.values()
        for records in by_condition.values()
        if "made_with" in records.attrs
    }
    if len(versions) < 2:
        return [f"Images were changed with {text}." for text in versions]
    return [
        "The images of some conditions were changed with other libraries than those of others, and"
        f" may differ: {'; '.join(sorted(versions))}."
    ]


def _left_out(results: Results) -> list[str]:
    """Return which runs and conditions of a setting do not enter."""
    strategies = results.setting.strategies
    lines = []
    alone = [
        run.key
        for label, by_seed in strategies.items()
        for seed, run in by_seed.items()
        if run.key not in results.without and seed not in results.records[label]
    ]
    if alone:
        lines.append(
            f"These runs are left out, since the {labels.reference()} has no run with this seed:"
            f" {', '.join(alone)}."
        )
    if results.without:
        lines.append(
            f"These runs are left out, since they were not evaluated on {results.split} under any"
            f" condition of this report: {', '.join(results.without)}."
        )
    if results.left_out:
        lines.append(
            f"Images {', '.join(map(str, results.left_out))} of {results.split} are too small for"
            " a corruption, so no number is of them, the clean ones included."
        )
    if results.missing:
        keys = [run.key for by_seed in strategies.values() for run in by_seed.values()]
        entering = [key for key in keys if key not in results.without]
        lines.append(
            f"Not all of {', '.join(entering)} were evaluated on {results.split} under"
            f" {', '.join(results.missing)}, so these conditions are left out."
        )
    return lines


def _made_elsewhere(every: Sequence[Results]) -> list[str]:
    """Return which runs have masks that were made elsewhere, and where some are missing."""
    runs = {
        run.key: run
        for results in every
        for by_seed in results.setting.strategies.values()
        for run in by_seed.values()
    }
    missing = [
        f"{count} masks of {results.setting.strategies[label][seed].key} on {results.split} under"
        f" {condition} are missing and count as empty."
        for results in every
        for label, by_seed in results.records.items()
        for seed, by_condition in by_seed.items()
        for condition, records in by_condition.items()
        if (count := records.attrs.get("missing"))
    ]
    return [*notes.made_elsewhere([*runs.values()]), *missing]


def _doubts(every: Sequence[Results]) -> list[str]:
    """Return warnings about numerics, and changes of the plan."""
    pairs = {
        (run.key, other.spec.key): (run, other)
        for results in every
        for run, other in results.pairs(labels.reference())
    }
    changes = [line for results in every for line in notes.changes(results.group)]
    return [*notes.numerics(pairs.values()), *dict.fromkeys(changes)]
