"""The command that scores masks which a network outside of the suite has predicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.base.errors import UserError
from benchmark.cli.options import (
    RUNS,
    DataOption,
    ImagesOption,
    RunsOption,
    console,
    run_keys,
    spread,
)
from benchmark.cli.printing import image_progress, print_differences, print_metrics

if TYPE_CHECKING:  # Help must not import pandas.
    from benchmark.data.refer import ReferDataset
    from benchmark.evaluation.scored_runs import Scored
    from benchmark.runs.groups import Group
    from benchmark.runs.predictions import PredictionsSpec

app = typer.Typer()


@dataclasses.dataclass(frozen=True)
class Row:
    """Options that say what is made of masks, and which row of tables they are."""

    name: Annotated[str, typer.Option("--name", help="What tables call the predictions.")] = ""
    seed: Annotated[
        int, typer.Option(min=0, help="Tells apart several trainings of one network.")
    ] = 0
    group: Annotated[
        str | None, typer.Option("--group", help="Plan whose tables get a row of them.")
    ] = None
    stands_for: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="METHOD/VARIANT/STRATEGY",
            help="Row that they stand for, by which pairs and claims find them.",
        ),
    ] = None

    def spec(self, dataset: ReferDataset, weights_sha256: str | None = None) -> PredictionsSpec:
        """Return what the predictions are.

        Args:
            dataset: that they are of.
            weights_sha256: digest of the checkpoint file that made them, if the suite read it.

        Raises:
            UserError: no name is given, it is that of a method, or the row is not known.
        """
        import methods
        from benchmark.base.names import check_name
        from benchmark.runs.predictions import PredictionsSpec, StandsFor

        if not self.name:
            raise UserError("say with --name what tables call these predictions.")
        check_name(self.name, "a set of predictions")
        if self.name in methods.names():
            raise UserError(
                f"'{self.name}' is a method of the suite: give these predictions a name of their"
                " own with --name."
            )
        return PredictionsSpec(
            name=self.name,
            dataset=dataset.name,
            split_by=dataset.split_by,
            seed=self.seed,
            stands_for=StandsFor.parse(self.stands_for) if self.stands_for else None,
            weights_sha256=weights_sha256,
            data_sha256=dataset.digest(),
        )

    def planned(self, runs: Path) -> Group | None:
        """Return the plan whose tables get a row of the predictions, if one is named.

        Raises:
            UserError: there is no such plan, or it is that of a study.
        """
        from benchmark.runs.groups import read_group

        if not self.group:
            return None
        group = read_group(runs, self.group)
        if group.kind != "preset":
            raise UserError(
                f"'{group.name}' is a {group.kind}, whose rows are its own: name the plan of a"
                " preset with --group."
            )
        return group

    def plan(self, group: Group | None, spec: PredictionsSpec, runs: Path) -> None:
        """Add the predictions to a plan, where one is named."""
        from benchmark.runs.groups import Cell, write_plan

        if group:
            write_plan(runs, dataclasses.replace(group, cells=[Cell.of(spec)]), add=True)
            console.print(f"'{spec.name}' is a row of the plan '{group.name}'")


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
    from benchmark.evaluation.predicted_masks import read_predictions
    from benchmark.evaluation.scored_runs import score_into

    its = read_named(dataset, data, images)
    its.refs_of(split)  # It must have some.
    spec, group = row.spec(its), row.planned(runs)
    if condition:
        _under(condition, spec, its, split, predictions, allow_missing, runs)
        return
    with console.status("reading the masks"):
        predicted = read_predictions(predictions, its, split, allow_missing)
    with image_progress(its, split) as on_image:
        scored = score_into(runs, spec, its, split, predicted, on_image)
    _tell(scored, spec.name, split, predicted.others)
    row.plan(group, spec, runs)
    for name in against or ():
        _compare(scored, name, runs, its, split)


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
    from benchmark.evaluation.predicted_masks import read_predictions
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


def read_named(entry: str, data: Path | None, images: Path | None) -> ReferDataset:
    """Return the data set that an option names.

    Args:
        entry: as NAME or NAME:SPLIT_BY.
        data: folder of the data sets, or None for the usual one.
        images: folder of the photographs, or None for the usual one.

    Raises:
        UserError: none is named, or it is not there.
    """
    from benchmark.data import datasets
    from benchmark.runs.preset import read_preset

    if not entry:
        raise UserError("say with --dataset which data the masks are for, such as refcoco.")
    return datasets.read(*datasets.parse(entry), data or read_preset("paper").data, images)


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


def _compare(scored: Scored, name: str, runs: Path, data: ReferDataset, split: str) -> None:
    """Print the paired difference of predictions and a run on the same expressions.

    Raises:
        UserError: the run is not known, is not finished, or does not report the split.
    """
    from benchmark.evaluation import bootstrap
    from benchmark.runs.comparisons import reported_as
    from benchmark.runs.rundir import find_run

    other = find_run(runs, name)
    if (state := other.checked_status().state) != "done":
        raise UserError(f"{other.key} is {state}, and what is compared must be done.")
    reported = reported_as(other.any_spec(), f"{data.name}:{data.split_by}", split)
    if reported is None:
        raise UserError(f"{other.key} has no records of {split} of {data.name}.")
    differences = bootstrap.paired_differences({0: other.records(reported)}, {0: scored.records})
    print_differences(f"{scored.run.key} minus {other.key} on {split}", differences)
