"""Writes the report of a search and prints it. A pruned or failed trial is no result."""

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
    """Write `study.md`, `trials.csv`, `<name>-best.yaml` and figures, and return their paths.

    The figures, each as PNG and PDF, are `history`, `parallel`, `slices`, `importances` (if there
    are any) and `pareto` (for two objectives).

    Args:
        started: the search.
        study: its trials.
        runs: folder of the run directories.
        out: holds the folder of the report, which is called by the name of the study.

    Raises:
        UserError: as `results`, or `out` cannot be written.
    """
    search_results = results(started, study, runs)
    known = importances.importances(study, heading(started, search_results.metric))
    drawn = figures.draw(
        study,
        known,
        [heading(started, name) for name in search_results.search.objectives],
        unused_by_baseline(search_results.search, type(search_results.base.recipe)),
    )
    folder = out / started.name
    best = f"{started.name}-best.yaml"
    pictures = [name for name in drawn if name.endswith(".png")]
    contents = {
        "study.md": as_markdown(search_results, known, pictures, folder / best),
        "trials.csv": ranking.csv(started, study),
        best: best_preset.as_yaml(search_results),
    }
    return files.write(folder, contents | drawn)


def as_markdown(
    search_results: Results, known: Importances, pictures: Sequence[str], preset: Path
) -> str:
    """Return the whole report as Markdown that also reads as plain text.

    Args:
        search_results: the trials and runs of the search.
        known: importances of its parameters.
        pictures: names of PNG files beside it.
        preset: where the preset of the best trial is written.
    """
    chosen, others = search_results.splits
    again, claim = best_preset.commands(search_results, preset)
    # What chose the trial cannot say how much better it is: differences are on test splits alone.
    title = f"{chosen}, which chose epoch and trial"
    chose = [compared.value_block(search_results, (chosen,), title)]
    reported = compared.blocks(search_results, others, " and ".join(others)) if others else []
    unranked = ranking.other_block(search_results.trials, [*search_results.search.space])
    keys = [
        f"{played}: trial {_number(search_results, key)}, run {key}."
        for key, played in search_results.played().items()
    ]
    known_of_runs = notes.about([run.spec for run in search_results.collected.runs])
    under = [
        *keys,
        *words.about_numbers(search_results),
        *known_of_runs,
        *words.footnotes(search_results),
    ]
    return markdown.document(
        [
            f"# {search_results.started.name}",
            words.title(search_results),
            markdown.bullets(words.about_search(search_results)),
            "## Result",
            " ".join(words.conclusion(search_results)),
            "The best trial again, and the test of the claim with other seeds:",
            f"    {again}\n    {claim}",
            *map(markdown.table, chose),
            *(["## Test splits: reported, never chosen by"] if reported else []),
            *map(markdown.table, reported),
            markdown.bullets(under),
            "## Trials",
            markdown.table(ranking.ranked_block(search_results)),
            *([markdown.table(unranked)] if unranked else []),
            markdown.bullets(reasons(search_results.trials)),
            "## Figures",
            known.warning,
            *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
        ]
    )


def _number(search_results: Results, key: str) -> int:
    return next(trial.number for trial in search_results.roles.values() if key_of(trial) == key)


def render(console: Console, started: Started, study: optuna.Study, runs: Path) -> None:
    """Print the trials and the conclusion, at most `WIDTH` columns wide.

    If no trial is complete yet, it prints what there is.

    Raises:
        UserError: a run of the best trial, the paper's setting or the baseline is missing,
            unfinished or damaged.
    """
    width = min(console.width, WIDTH)
    trials = trials_of(study)
    unranked = ranking.other_block(trials, [*started.study.space], terminal=True)
    others = [unranked] if unranked else []
    if not ranked(trials):
        nothing = f"{started.name}: no trial is complete yet ({counted(trials)})."
        terminal.print_blocks(console, others, [*reasons(trials), nothing], width)
        return
    search_results = results(started, study, runs)
    chosen, rest = search_results.splits
    blocks: list[Block] = [ranking.ranked_block(search_results, terminal=True), *others]
    blocks.append(compared.value_block(search_results, (chosen,), f"{chosen}, which chose"))
    blocks += (
        compared.blocks(search_results, rest, "test splits, which chose nothing") if rest else []
    )
    known = [words.title(search_results), *reasons(trials), *words.conclusion(search_results)]
    known += [*words.about_numbers(search_results), *words.footnotes(search_results)]
    terminal.print_blocks(console, blocks, known, width)
