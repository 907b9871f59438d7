"""The state of a training: how far it is, and the resume point from which it goes on."""

import math
import shutil
import time

from benchmark.runs import integrity
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.training import costs, resume_point
from benchmark.training.best_epoch import BestEpoch, best_of_trained
from benchmark.training.journal import Journal
from benchmark.training.stepper import Stepper


class TrainingState:
    """What a resume point restores.

    Args:
        spec: the spec of the run.
        run: the directory of the run.
        stepper: has the network, and counts the steps.
        best_epoch: the one that is kept so far.
        journal: counts the lines of metrics, and writes the heartbeat.
        spent: has the times and the memory.

    Attributes:
        epochs: the number of epochs that are over, with their selection.
        steps: the number of all steps of the run.
        saved: when the last resume point was written, on the monotonic clock in seconds.
        loss: of the last step whose numbers were fetched in this session, NaN before the first.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunDir,
        stepper: Stepper,
        best_epoch: BestEpoch,
        journal: Journal,
        spent: costs.Spent,
    ) -> None:
        self.spec = spec
        self.run = run
        self.stepper = stepper
        self.best_epoch = best_epoch
        self.journal = journal
        self.spent = spent
        self.epochs = 0
        self.steps = stepper.steps_per_epoch * spec.recipe.epochs
        self.saved = time.monotonic()
        self.loss = math.nan

    @property
    def is_over(self) -> bool:
        """Whether all steps are done."""
        return self.stepper.step == self.steps

    def alive(self, message: str, force: bool = False, epoch: int | None = None) -> None:
        """Write the heartbeat, unless it was written a moment ago.

        Args:
            message: what the run is doing.
            force: write the heartbeat in any case.
            epoch: the epoch that was begun last. By default it is the one of the next step.
        """
        step = self.stepper.step
        self.journal.alive(
            force,
            step=step,
            steps=self.steps,
            epoch=step // self.stepper.steps_per_epoch if epoch is None else epoch,
            message=message,
            best=self.best_epoch.value,
        )

    def settle(self) -> None:
        """Wait for the steps that the device was given, and log their numbers.

        Raises:
            UserError: the training diverges, or the metrics cannot be written.
        """
        for its in self.stepper.fetch():
            self.loss = its.losses["train/loss"]
            self.journal.log(its.losses, its.step, its.epoch, its.step == self.steps, its.counts)

    def save(self) -> None:
        """Write the resume point, which the main process does. It knows every step until now.

        Raises:
            UserError: the disk is full, or the folder cannot be written, or the training diverges,
                or a weight is not finite. No resume point is written then.
        """
        self.settle()
        if self.journal.is_main:
            state = {
                "epochs": self.epochs,  # wire format, as all names of the parts are
                **self.best_epoch.state(),
                **self.journal.state(),
                **self.spent.state(),
                **self.stepper.state(),
            }
            resume_point.save(self.run, state)
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go back to the resume point, if there is one, and drop the metrics beyond it.

        Raises:
            UserError: the resume point is damaged.
        """
        state = resume_point.load(self.run)
        if state:
            self.stepper.restore(state)
            # Earlier versions saved nothing between the last step of an epoch and its selection.
            self.epochs = state.get("epochs", self.stepper.step // self.stepper.steps_per_epoch)
            self.best_epoch.restore(state)
            self.spent.restore(state)
            if self.epochs and self.stepper.step == self.stepper.steps_per_epoch * self.epochs:
                # A kill may have come between the saving and the keeping of the best weights.
                self.best_epoch.keep(self.epochs - 1)
        elif best := best_of_trained(self.run, self.spec):
            if self.journal.is_main and integrity.changed(self.run.path, ["costs.json"]):
                # What the training cost cannot be measured again.
                (self.run.path / "costs.json").unlink(missing_ok=True)
            self.stepper.step = self.steps
            self.best_epoch.best = best
            self.epochs = self.spec.recipe.epochs
            self.journal.lines = len(self.run.metrics())
            return
        elif self.journal.is_main:
            integrity.unseal(self.run.path)
            # A run whose status was deleted is trained again. Its results under conditions are
            # those of other weights.
            shutil.rmtree(self.run.path / "robustness", ignore_errors=True)
        self.journal.restore(state)
