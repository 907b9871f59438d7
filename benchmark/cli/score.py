"""The command that scores masks which a network outside of the suite has predicted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.base.errors import UserError
from benchmark.cli.kept import Row, read_named
from benchmark.cli.options import (
    RUNS,
    DataOption,
    ImagesOption,
    RunsOption,
    console,
    run_keys,
    spread,
)
from benchmark.cli.printing import (
    image_progress,
    print_differences,
    print_metrics,
    print_text_blind,
)

if TYPE_CHECKING:  # Help must not import pandas.
    from benchmark.data.refer import ReferDataset
    from benchmark.evaluation.predicted_masks import PredictedMasks
    from benchmark.evaluation.scored_runs import Scored
    from benchmark.runs.predictions import PredictionsSpec
    from benchmark.runs.rundir import RunDir

app = typer.Typer()


@app.command(rich_help_panel="Checkpoints")
@spread
def score(
    row: Row,
    predictions: Annotated[
        Path,
        typer.Argument(
            help="JSON or JSON Lines in COCO's format of results (also .gz), parquet, or a folder"
            " of PNG masks."
        ),
    ],
    dataset: Annotated[
        str, typer.Option("--dataset", help="Data set, as NAME or NAME:SPLIT_BY.")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="Split of the masks.")] = "val",
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Take a missing mask for an empty one, and say so."),
    ] = False,
    text_blind: Annotated[
        bool,
        typer.Option("--text-blind", help="Also measure masks that ignore the sentence."),
    ] = False,
    condition: Annotated[
        str | None,
        typer.Option(
            "--condition",
            metavar="CORRUPTION/SEVERITY",
            help="What was done to the pictures (see `risbench robustness images`), such as fog/3.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="Run or other predictions to be compared with, which may be given several times.",
            autocompletion=run_keys,
        ),
    ] = None,
) -> None:
    """Score masks that another network has predicted, as the suite scores its own.

    Each mask says whose it is by sent_id, by ref_id and index, or by image_id and sentence. It is
    COCO's run-length code or polygons at the size of the image. What is missing, double, unknown,
    damaged or of another size is counted and refused. The masks and their records are kept in a
    run directory, and other splits can be scored into it, too.

    Example: risbench score masks.jsonl --dataset refcoco --split testA --name mine

    Example: risbench score foggy.jsonl --dataset refcoco --name mine --condition fog/3
    """
    from benchmark.evaluation import bootstrap
    from benchmark.evaluation.prediction_reading import read_predictions
    from benchmark.evaluation.scored_runs import score_into

    its = read_named(dataset, data, images)
    its.refs_of(split)  # It must have some.
    spec, group = row.spec(its), row.planned(runs)
    others = [_finished(name, runs, its, split) for name in against or ()]
    if condition:
        if others or group or text_blind:
            raise UserError(
                "--against, --group and --text-blind are about the pictures as they are: leave them"
                " out with --condition."
            )
        _under(condition, spec, its, split, predictions, allow_missing, runs)
        return
    with console.status("reading the masks"):
        predicted = read_predictions(predictions, its, split, allow_missing)
    with image_progress(its, split) as on_image:
        scored = score_into(runs, spec, its, split, predicted, on_image)
    _tell(scored, spec.name, split, predicted.others)
    if text_blind:
        _measure_text_blind(scored, its, split, predicted)
    row.plan(group, spec, runs)
    for other, reported in others:
        differences = bootstrap.paired_differences(
            {0: other.records(reported)}, {0: scored.records}
        )
        print_differences(f"{scored.run.key} minus {other.key} on {split}", differences)


def _under(
    text: str,
    spec: PredictionsSpec,
    data: ReferDataset,
    split: str,
    predictions: Path,
    allow_missing: bool,
    runs: Path,
) -> None:
    """Score masks of corrupted pictures, and print what they score.

    Raises:
        UserError: the condition is not known, the masks of the pictures as they are have not been
            scored, or the masks are not those of the split.
    """
    from benchmark.evaluation import bootstrap, metrics
    from benchmark.evaluation.prediction_reading import read_predictions
    from benchmark.robustness import scored
    from benchmark.runs.rundir import RunDir

    condition = scored.parse_corruption(text)
    run = RunDir(runs / spec.key)
    scored.check_clean(run, split)
    left_out = scored.too_small(data, split, condition)
    with console.status("reading the masks"):
        predicted = read_predictions(predictions, data, split, allow_missing, left_out)
    with image_progress(data, split) as on_image:
        its = scored.score_condition(run, data, split, condition, predicted, on_image)
    if left_out:
        console.print(f"{len(left_out)} images are too small for {condition} and are left out")
    _tell_missing(len(predicted.missing), len(its.records))
    numbers, intervals = metrics.compute(its.records), bootstrap.intervals(its.records)
    print_metrics(f"{spec.name} on {split} under {condition}", numbers, intervals)
    kept = "kept in" if its.is_new else "these masks had been scored before, in"
    console.print(f"{kept} {run.path}", highlight=False, soft_wrap=True)


def _tell_missing(missing: int, expressions: int) -> None:
    if missing:
        console.print(
            f"{missing} of {expressions} expressions have no mask, which counts as an empty one"
        )


def _tell(scored: Scored, name: str, split: str, others: int) -> None:
    """Print what the predictions score, and where that is kept."""
    from benchmark.evaluation import bootstrap, metrics

    if others:
        console.print(f"{others} masks are of other expressions of the data set and are not read")
    _tell_missing(scored.missing, len(scored.records))
    numbers = metrics.compute(scored.records)
    print_metrics(f"{name} on {split}", numbers, bootstrap.intervals(scored.records))
    kept = "kept in" if scored.is_new else "these masks had been scored before, in"
    console.print(f"{kept} {scored.run.path}", highlight=False, soft_wrap=True)


def _measure_text_blind(
    scored: Scored, data: ReferDataset, split: str, predicted: PredictedMasks
) -> None:
    """Print and keep what masks score that do not depend on the sentence."""
    from benchmark.evaluation.predicted_masks import by_image
    from benchmark.evaluation.text_blind_masks import TextBlindMasks
    from benchmark.evaluation.text_blind_scores import write_scores

    baseline = TextBlindMasks()
    with image_progress(data, split) as on_image:
        for prediction in by_image(data, split, predicted):
            baseline.add(prediction)
            on_image(prediction)
    write_scores(scored.run, split, baseline.numbers(), scored.records)
    print_text_blind(baseline.numbers())


def _finished(name: str, runs: Path, data: ReferDataset, split: str) -> tuple[RunDir, str]:
    """Return a run to compare with, and what it calls the split.

    Raises:
        UserError: the run is not known, is not finished, or does not report the split.
    """
    from benchmark.runs.comparisons import reported_as
    from benchmark.runs.rundir import find_run

    run = find_run(runs, name)
    if (state := run.checked_status().state) != "done":
        raise UserError(f"{run.key} is {state}, and what is compared must be done: finish it.")
    reported = reported_as(run.any_spec(), f"{data.name}:{data.split_by}", split)
    if reported is None:
        raise UserError(f"{run.key} has no records of {split} of {data.name}: name another run.")
    return run, reported
