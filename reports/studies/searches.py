"""The report of a search: its trials, the best one beside the paper's setting and the baseline, figures, a preset of the best.

What chose (val) and what is only reported (the test splits) never share a table. A pruned or failed trial is no result.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from benchmark.evaluation import bootstrap, metrics
from reports import layout
from reports.compare import CHECKPOINTS, dirty
from reports.layout import Block
from reports.matrix import tables
from reports.studies import search_figures
from reports.studies.search_figures import Importances
from reports.studies.search_results import (
    PAIRS,
    ROLES,
    STATES,
    Found,
    best_yaml,
    commands,
    counted,
    key_of,
    looked_at,
    parameters,
    rank,
    reason,
    results,
    trials_of,
    unused_at_zero,
)
from studies.search_space import SHARES, Range
from studies.study import Started
from studies.trials import BASELINE, PAPER, suggest

WIDTH = 110
OBJECTIVES = {"oiou": "val oIoU", "corrupted_oiou": "corrupted val oIoU"}


# --- words ------------------------------------------------------------------------------------------------------------


def title(found: Found) -> str:
    """Return what was searched with what."""
    base = found.base
    return (
        f"{found.search.description}: {base.method} {base.variant} on {base.dataset} (split by {base.split_by}),"
        f" {base.recipe.epochs} epochs, seed {base.seed}."
    )


def about_search(found: Found) -> list[str]:
    """Return space, sampler, pruner and budget."""
    search = found.search
    space = "; ".join(f"{name} {_room(room)}" for name, room in search.space.items())
    several = len(search.objectives) > 1
    pruner = "none (two objectives are not pruned)" if several else search.pruner
    lines = [f"Space: {space}."]
    if set(SHARES) & search.space.keys():
        lines.append(
            "mask_share: share of the selected words that become [MASK]; random_share: random words' share of the rest, the"
            " others stay."
        )
    lines += [
        "The paper's setting is tried first, then the baseline (distill_weight 0: one pass, nothing masked), both never"
        " pruned.",
        f"Sampler {search.sampler} with seed {search.seed}; pruner {pruner}; budget {search.trials} trials, complete or"
        " pruned.",
        "Maximised: val oIoU"
        + (
            f", and val oIoU under {', '.join(search.corruptions)} at severity {', '.join(map(str, search.severities))}."
            if several
            else "."
        ),
    ]
    return lines


def _room(room: Range) -> str:
    if room.choices is not None:
        return f"one of {', '.join(map(str, room.choices))}"
    step = f" in steps of {room.step:g}" if room.step else ", logarithmic" if room.log else ""
    return f"{room.low:g} to {room.high:g}{step}"


def conclusion(found: Found) -> list[str]:
    """Return which trial is the best, of how many, and what that does not say."""
    best, spec = found.best, found.run("best").spec
    several = len(found.search.objectives) > 1
    which = "Of the Pareto-optimal trials, the one with the highest val oIoU is" if several else "The best trial is"
    lines = [
        f"{which} number {best.number} with val oIoU {layout.percent(best.values[0])} %, the highest of"
        f" {len(found.ranked)} complete trials; {looked_at(found.trials)} were looked at ({counted(found.trials)})."
    ]
    if besides := counted(found.trials, ended=False):
        lines.append(f"Besides these: {besides}.")
    if spec.strategy.name == BASELINE:
        lines.append(
            "Its distill_weight is 0: the baseline won, no setting of MaskRIS that was tried is better on val."
        )
    elif key_of(best) == key_of(found.roles.get(PAPER, best)) and PAPER in found.roles:
        lines.append("It is the paper's setting: no other that was tried is better on val.")
    if several:
        lines.append(
            f"The Pareto front: trials {', '.join(str(t.number) for t in found.ranked if t.number in found.front)}."
        )
    if (today := found.started.trial_spec(suggest(found.search, best)).key) != key_of(best):
        lines.append(f"The code has changed since the trial: the preset of the best trial now makes the run {today}.")
    missing = [ROLES[role] for role in (PAPER, BASELINE) if role not in found.roles]
    if missing:
        lines.append(f"Not complete, and so not compared: {', '.join(missing)}.")
    if len(found.ranked) > 1:
        lines.append(
            f"On val this number is optimistically biased, since it is the best of {len(found.ranked)} there; a claim needs"
            f" new seeds (seed {spec.seed} is the one that was searched with)."
        )
    return lines


# --- tables -----------------------------------------------------------------------------------------------------------


def value_block(found: Found, splits: Sequence[str], heading: str) -> Block:
    """Return oIoU of the best trial, the paper's setting and the baseline, side by side."""
    lines = []
    for key, words in found.groups().items():
        run = found.done[key]
        numbers = next(str(trial.number) for trial in found.roles.values() if key_of(trial) == key)
        cells = []
        for split in splits:
            records = run.records[split]
            low, high = bootstrap.intervals(records)["oiou"]
            interval = "" if pd.isna(low) else f" [{layout.percent(low)}, {layout.percent(high)}]"
            cells.append(layout.percent(metrics.metrics(records)["oiou"]) + interval)
        lines.append((words, numbers, *cells))
    return Block(heading, "", ("setting", "trial", *(f"{split} oIoU [95 %]" for split in splits)), lines, names=1)


def difference_block(found: Found, splits: Sequence[str]) -> Block | None:
    """Return the paired differences of the three; None where all that are complete are one run."""
    lines = []
    for one, other in PAIRS:
        if not {one, other} <= found.roles.keys() or key_of(found.roles[one]) == key_of(found.roles[other]):
            continue
        cells = []
        for split in splits:
            before, after = ({0: found.run(role).records[split]} for role in (other, one))
            its = bootstrap.paired_differences(before, after)["oiou"]
            cells.append(layout.difference(its.value, *its.interval))
        lines.append((f"{ROLES[one]} - {ROLES[other]}", *cells))
    header = ("difference", *(f"{split} oIoU [95 %]" for split in splits))
    return Block("Differences, paired on the same expressions", "", header, lines, names=1) if lines else None


def trial_block(found: Found, terminal: bool = False) -> Block:
    """Return the complete trials, ranked."""
    names = [*found.search.space]
    measured = [OBJECTIVES[name] for name in found.search.objectives]
    lines = [
        (
            str(place),
            str(trial.number),
            _role(found, trial),
            *map(layout.percent, trial.values),
            *_cells(trial, names),
        )
        for place, trial in enumerate(found.ranked, 1)
    ]
    return Block(
        "Complete trials by val oIoU",
        "",
        _header(("rank", "trial", "what", *measured, *names), terminal),
        lines,
        names=3,
    )


def other_block(trials: Sequence[FrozenTrial], names: Sequence[str], terminal: bool = False) -> Block | None:
    """Return the trials that are no results."""
    lines = [
        (
            str(trial.number),
            STATES[trial.state],
            str(max(trial.intermediate_values, default="–")),
            *_cells(trial, names),
        )
        for trial in trials
        if trial.state != TrialState.COMPLETE
    ]
    header = _header(("trial", "state", "last epoch", *names), terminal)
    return Block("Trials that are no results", "", header, lines, names=2) if lines else None


def reasons(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return why trials failed, a line each."""
    return [f"Trial {t.number} failed: {reason(t, trials)}." for t in trials if t.state == TrialState.FAIL]


def _role(found: Found, trial: FrozenTrial) -> str:
    roles = [role for role, its in found.roles.items() if its.number == trial.number]
    return ", ".join(roles + ["Pareto"] * (trial.number in found.front))


def _cells(trial: FrozenTrial, names: Sequence[str]) -> list[str]:
    values = parameters(trial)
    return [_short(values[name]) if name in values else layout.NOTHING for name in names]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _header(names: Sequence[str], terminal: bool) -> tuple[str, ...]:
    """Return the headings; in a terminal long names go on below."""
    return tuple(name.replace("_", "_\n").replace(" ", "\n") if terminal else name for name in names)


def csv(started: Started, study: optuna.Study, runs: Path) -> str:
    """Return a row a trial: number, state, reference, values as fractions, last reported epoch, every parameter, run, reason
    of a failure, seconds. Only complete trials have values."""
    names, objectives = [*started.study.space], started.study.objectives
    trials, rows = trials_of(study), []
    for trial in trials:
        values = trial.values if trial.state == TrialState.COMPLETE else [None] * len(objectives)
        begun, ended, its = trial.datetime_start, trial.datetime_complete, parameters(trial)
        rows.append(
            [
                trial.number,
                STATES[trial.state],
                trial.user_attrs.get("reference", ""),
                *("" if value is None else f"{value:.6f}" for value in values),
                max(trial.intermediate_values, default=""),
                *(f"{its[n]:.10g}" if isinstance(its.get(n), float) else its.get(n, "") for n in names),
                key_of(trial),
                reason(trial, trials),
                f"{(ended - begun).total_seconds():.1f}" if begun and ended else "",
            ]
        )
    measured = [f"val_{name}" for name in objectives]
    header = ["trial", "state", "reference", *measured, "last_epoch", *names, "run", "reason", "seconds"]
    return pd.DataFrame(rows, columns=header, dtype=object).to_csv(index=False, lineterminator="\n")


# --- formats ----------------------------------------------------------------------------------------------------------


def write_search(started: Started, study: optuna.Study, runs: Path, out: Path) -> list[Path]:
    """Write `out/<name>/study.md`, `trials.csv`, `<name>-best.yaml` and the figures of a search; return the paths.

    The figures, each as PNG and PDF: `history`, `parallel`, `slices`, `importances` (where there are any) and `pareto` (for two
    objectives).

    Raises:
        UserError: as `results`, or `out` cannot be written.
    """
    found = results(started, study, runs)
    known = search_figures.importances(study)
    drawn = search_figures.draw(study, unused_at_zero(found.search, type(found.base.recipe)), known)
    folder, best = out / started.name, f"{started.name}-best.yaml"
    contents = {
        "study.md": markdown(found, known, [name for name in drawn if name.endswith(".png")], folder / best),
        "trials.csv": csv(started, study, runs),
        best: best_yaml(found),
    }
    return layout.write_files(folder, contents | drawn)


def markdown(found: Found, known: Importances, pictures: Sequence[str], preset: Path) -> str:
    """Return the whole report as Markdown that also reads as plain text.

    Args:
        known: importances. pictures: files beside it. preset: where the best trial's preset is written.
    """
    chosen, others = _splits(found)
    again, claim = commands(found, preset)
    others_block = other_block(found.trials, [*found.search.space])
    specs = [run.spec for run in found.done.values()]
    keys = [f"{words}: trial {_number(found, key)}, run {key}." for key, words in found.groups().items()]
    parts = [
        f"# {found.started.name}\n\n{title(found)}",
        layout.bullets(about_search(found)),
        "## Result",
        " ".join(conclusion(found)),
        "The best trial again, and the test of the claim with other seeds:",
        f"    {again}\n    {claim}",
        *_compared(found, (chosen,), f"{chosen}, which chose epoch and trial"),
    ]
    if others:
        parts += [
            "## Test splits: reported, never chosen by",
            *_compared(found, others, " and ".join(others)),
        ]
    parts += [
        layout.bullets([*keys, *_notes(), *tables.about(specs), _code(found)]),
        "## Trials",
        layout.markdown_block(trial_block(found)),
        *([layout.markdown_block(others_block)] if others_block else []),
        *([layout.bullets(reasons(found.trials))] if reasons(found.trials) else []),
        "## Figures",
        *([f"{known.warning}"] if known.warning else []),
        *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
    ]
    return "\n\n".join(parts) + "\n"


def _code(found: Found) -> str:
    changes = {"yes": " with uncommitted changes", "no": "", "unknown": " (changes unknown)"}
    commits = sorted({run.commit + changes[dirty(run)] for run in found.done.values()})
    return f"Code of these runs: git commit {', '.join(commits)}."


def _number(found: Found, key: str) -> int:
    return next(trial.number for trial in found.roles.values() if key_of(trial) == key)


def _splits(found: Found) -> tuple[str, tuple[str, ...]]:
    selection = found.run("best").spec.selection
    return selection.split, tuple(split for split in selection.report if split != selection.split)


def _compared(found: Found, splits: Sequence[str], heading: str) -> list[str]:
    blocks = [value_block(found, splits, heading), difference_block(found, splits)]
    return [layout.markdown_block(block) for block in blocks if block]


def _notes() -> list[str]:
    return [
        "oIoU in percent: sum of intersections / sum of unions over the expressions of a split, at the original image size.",
        f"[low, high]: 95 % percentile bootstrap, B = {bootstrap.RESAMPLES}, images resampled with all their expressions. One"
        f' seed each: a difference is one between "{CHECKPOINTS}". Intervals know nothing of the choice among the trials.',
    ]


def render_search(console: Console, started: Started, study: optuna.Study, runs: Path) -> None:
    """Print the trials and the conclusion, at most `WIDTH` columns wide; without a complete trial, what there is.

    Raises:
        UserError: a run of the best trial, the paper's setting or the baseline is missing, unfinished or damaged.
    """
    width, trials = min(console.width, WIDTH), trials_of(study)
    others = other_block(trials, [*started.study.space], terminal=True)
    if not rank(trials):
        nothing = f"{started.name}: no trial is complete yet ({counted(trials)})."
        layout.print_blocks(console, [others] if others else [], [*reasons(trials), nothing], width)
        return
    found = results(started, study, runs)
    chosen, rest = _splits(found)
    blocks = [trial_block(found, terminal=True), others]
    for splits, heading in (((chosen,), f"{chosen}, which chose"), (rest, "test splits, which chose nothing")):
        blocks += [value_block(found, splits, heading), difference_block(found, splits)] if splits else []
    notes = [title(found), *reasons(trials), *conclusion(found), *_notes()]
    layout.print_blocks(console, [block for block in blocks if block], notes, width)
