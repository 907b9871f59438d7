"""The choice of the epoch that a run reports, and of the weights that it keeps."""

from collections.abc import Mapping
from typing import Any

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.runs import integrity
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.training.journal import Journal
from benchmark.training.report import Report


class BestEpoch:
    """Evaluates the selection split after an epoch, and remembers the best one.

    Args:
        spec: the spec of the run.
        report: evaluates the network, and keeps its weights.
        journal: gets the numbers of each evaluation.

    Attributes:
        best: selection metric -> its value at the best epoch so far, as a fraction, and "epoch" ->
            this epoch. Both are -1 before the first evaluation.
        sha256: of the weights of that epoch. It is empty before, and in runs of earlier versions.
    """

    def __init__(self, spec: RunSpec, report: Report, journal: Journal) -> None:
        self.metric = spec.selection.metric
        self.split = spec.selection.split
        self.report = report
        self.journal = journal
        self.best: dict[str, float] = {self.metric: -1.0, "epoch": -1}
        self.sha256 = ""

    @property
    def value(self) -> float:
        """The selection metric at the best epoch so far."""
        return self.best[self.metric]

    def select(self, step: int, epoch: int) -> float:
        """Evaluate the selection split, and note the epoch if it is the best so far.

        Returns:
            The selection metric of the epoch, as a fraction.

        Raises:
            UserError: the metric is not defined on the split.
        """
        numbers = metrics.compute(self.report.evaluate(self.split))
        values = {f"{self.split}/{name}": value for name, value in numbers.items()}
        self.journal.line(step, epoch, values)
        if self.metric not in numbers:
            raise UserError(
                f"{self.metric} chooses the epoch and is not defined on {self.split}, which has no"
                " expression that it is about: set selection.metric to another one."
            )
        if numbers[self.metric] > self.value:
            self.best = {self.metric: numbers[self.metric], "epoch": epoch}
            self.sha256 = self.report.digest() if self.journal.is_main else ""
        return numbers[self.metric]

    def keep(self, epoch: int) -> None:
        """Keep the present weights, which are those of an epoch, if that is the best one."""
        if self.best["epoch"] == epoch:
            self.report.keep()

    def state(self) -> dict[str, Any]:
        """Return what a resume point holds."""
        return {"best": self.best, "best_sha256": self.sha256}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier session."""
        self.best = state["best"]
        self.sha256 = state.get("best_sha256", "")


def best_of_trained(run: RunDir, spec: RunSpec) -> dict[str, float] | None:
    """Return the best epoch of a run that lost other files after its training, or None.

    Its weights and metrics are those that were listed when it was done, so that nothing but the
    evaluation of the kept weights is left.
    """
    names = (integrity.WEIGHTS, "metrics.jsonl")
    is_whole = all((run.path / name).exists() for name in names)
    if not is_whole or not {*names} <= integrity.listed(run.path).keys():
        return None
    if integrity.changed(run.path, names):
        return None
    metric = spec.selection.metric
    values = run.epoch_values(spec.selection.split, metric)
    # The first of equal values is the one that was kept.
    epoch = max(values, key=values.__getitem__)
    return {metric: values[epoch], "epoch": epoch}
