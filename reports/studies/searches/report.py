"""The report of a search as Markdown, CSV, figures and a preset of the best trial, and in the terminal.

A pruned or failed trial is no result.
"""

from collections.abc import Sequence
from pathlib import Path

import optuna
from rich.console import Console

from reports import notes
from reports.layout import files, markdown, terminal
from reports.layout.block import Block
from reports.studies.searches import best_preset, compared, figures, importances, ranking, words
from reports.studies.searches.importances import Importances
from reports.studies.searches.results import (
    Results,
    heading,
    results,
    unused_by_baseline,
)
from reports.studies.searches.trials import counted, key_of, ranked, reasons, trials_of
from studies.study import Started

WIDTH = 110  # columns of the terminal that a table may take


def write(started: Started, study: optuna.Study, runs: Path, out: Path) -> list[Path]:
    """Write `study.md`, `trials.csv`, `<name>-best.yaml` and figures into `out/<name>`; return paths.

    The figures, each as PNG and PDF, are `history`, `parallel`, `slices`, `importances` (where
    there are any) and `pareto` (for two objectives).

    Raises:
        UserError: as `results`, or `out` cannot be written.
    """
    found = results(started, study, runs)
    known = importances.importances(study, heading(started, found.metric))
    drawn = figures.draw(
        study,
        known,
        [heading(started, name) for name in found.search.objectives],
        unused_by_baseline(found.search, type(found.base.recipe)),
    )
    folder, best = out / started.name, f"{started.name}-best.yaml"
    pictures = [name for name in drawn if name.endswith(".png")]
    contents = {
        "study.md": as_markdown(found, known, pictures, folder / best),
        "trials.csv": ranking.csv(started, study),
        best: best_preset.as_yaml(found),
    }
    return files.write(folder, contents | drawn)


def as_markdown(found: Results, known: Importances, pictures: Sequence[str], preset: Path) -> str:
    """Return the whole report as Markdown that also reads as plain text.

    Args:
        known: importances. pictures: files beside it. preset: where the best trial's is written.
    """
    chosen, others = found.splits
    again, claim = best_preset.commands(found, preset)
    chose = compared.blocks(found, (chosen,), f"{chosen}, which chose epoch and trial")
    reported = compared.blocks(found, others, " and ".join(others)) if others else []
    unranked = ranking.other_block(found.trials, [*found.search.space])
    keys = [
        f"{played}: trial {_number(found, key)}, run {key}."
        for key, played in found.played().items()
    ]
    known_of_runs = notes.about([run.spec for run in found.collected.runs])
    under = [*keys, *words.about_numbers(found), *known_of_runs, *words.footnotes(found)]
    return markdown.document(
        [
            f"# {found.started.name}",
            words.title(found),
            markdown.bullets(words.about_search(found)),
            "## Result",
            " ".join(words.conclusion(found)),
            "The best trial again, and the test of the claim with other seeds:",
            f"    {again}\n    {claim}",
            *map(markdown.table, chose),
            *(["## Test splits: reported, never chosen by"] if reported else []),
            *map(markdown.table, reported),
            markdown.bullets(under),
            "## Trials",
            markdown.table(ranking.ranked_block(found)),
            *([markdown.table(unranked)] if unranked else []),
            markdown.bullets(reasons(found.trials)),
            "## Figures",
            known.warning,
            *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
        ]
    )


def _number(found: Results, key: str) -> int:
    return next(trial.number for trial in found.roles.values() if key_of(trial) == key)


def render(console: Console, started: Started, study: optuna.Study, runs: Path) -> None:
    """Print the trials and the conclusion, at most `WIDTH` columns wide.

    Without a complete trial it prints what there is.

    Raises:
        UserError: a run of the best trial, the paper's setting or the baseline is missing,
            unfinished or damaged.
    """
    width, trials = min(console.width, WIDTH), trials_of(study)
    unranked = ranking.other_block(trials, [*started.study.space], terminal=True)
    others = [unranked] if unranked else []
    if not ranked(trials):
        nothing = f"{started.name}: no trial is complete yet ({counted(trials)})."
        terminal.print_blocks(console, others, [*reasons(trials), nothing], width)
        return
    found = results(started, study, runs)
    chosen, rest = found.splits
    blocks: list[Block] = [ranking.ranked_block(found, terminal=True), *others]
    blocks += compared.blocks(found, (chosen,), f"{chosen}, which chose")
    blocks += compared.blocks(found, rest, "test splits, which chose nothing") if rest else []
    known = [words.title(found), *reasons(trials), *words.conclusion(found)]
    known += [*words.about_numbers(found), *words.footnotes(found)]
    terminal.print_blocks(console, blocks, known, width)
