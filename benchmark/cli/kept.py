"""How commands keep masks that no run of the suite made: as which row of tables, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.base.errors import UserError
from benchmark.cli.options import console

if TYPE_CHECKING:  # Help must not import torch and pandas.
    from benchmark.data.refer import ReferDataset
    from benchmark.evaluation.inference import Loaded
    from benchmark.evaluation.records import Prediction
    from benchmark.runs.groups import Group
    from benchmark.runs.predictions import PredictionsSpec
    from benchmark.runs.rundir import RunDir


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

    def arguments(self) -> dict[str, object]:
        """Return option -> value, as a job's command line gives them."""
        if not self.name:
            return {}
        its = {"name": self.name, "seed": self.seed, "group": self.group, "as": self.stands_for}
        return {name: value for name, value in its.items() if value is not None}

    def check_unused(self, why: str) -> None:
        """Check that none of these options is given.

        Args:
            why: says after which options they are of use.

        Raises:
            UserError: one is.
        """
        if self != Row():
            raise UserError(f"--name, --seed, --group and --as {why}.")

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
    folder = data or read_preset("paper").data
    return datasets.read(*datasets.parse(entry, folder), folder, images)


@dataclasses.dataclass
class Kept:
    """What of a checkpoint file is kept as predictions, while it is evaluated.

    Attributes:
        row: of tables that it is.
        group: plan that gets this row, if one is named.
        spec: what the predictions are.
        runs: folder of the run directories.
        loaded: the network.
        checkpoint: `path`, `method` and `variant` of the file, as they were named.
        rows: of its masks, as far as there are some.
    """

    row: Row
    group: Group | None
    spec: PredictionsSpec
    runs: Path
    loaded: Loaded
    checkpoint: dict[str, str | None]
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def begin(cls, row: Row, runs: Path, loaded: Loaded, checkpoint: dict[str, str | None]) -> Kept:
        """Return this before anything is evaluated.

        Raises:
            UserError: the row or the plan is not known, or other predictions are this row.
        """
        from benchmark.evaluation.scored_runs import check_row
        from benchmark.runs import integrity

        spec = row.spec(loaded.dataset, integrity.digest(Path(checkpoint["path"])))
        check_row(runs, spec)
        return cls(row, row.planned(runs), spec, runs, loaded, checkpoint)

    def collecting(self, on_image: Callable[[Prediction], None]) -> Callable[[Prediction], None]:
        """Return a function that keeps the masks of an image, and then calls another one."""
        from benchmark.evaluation import masks

        def collect(prediction: Prediction) -> None:
            self.rows += masks.rows_of(prediction)
            on_image(prediction)

        return collect

    def write(self, split: str, device: str) -> RunDir:
        """Write the run of the predictions, and return it.

        Args:
            split: of the masks.
            device: `auto`, `cpu` or `cuda`, as it was asked for.
        """
        from benchmark.evaluation import masks
        from benchmark.evaluation.predicted_masks import PredictedMasks
        from benchmark.evaluation.scored_runs import score_into
        from benchmark.runs.environment import PACKAGES, device_description, machine
        from benchmark.runs.execution import Execution

        how = Execution.of(device=device)
        environment = {
            **machine(PACKAGES),
            "device": device_description(how, self.loaded.device, 1).model_dump(),
            "checkpoint": self.checkpoint,
        }
        its = score_into(
            self.runs,
            self.spec,
            self.loaded.dataset,
            split,
            PredictedMasks.of(masks.frame(self.rows)),
            environment=environment,
        )
        console.print(f"kept in {its.run.path}", highlight=False, soft_wrap=True)
        self.row.plan(self.group, self.spec, self.runs)
        return its.run
