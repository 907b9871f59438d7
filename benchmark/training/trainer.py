"""The training loop of one run, and its selection of an epoch.

A run can be killed at any moment and started again. Each random number is a function of what it is
for (see `base.rng`). The resume point holds everything else, and metrics beyond it are dropped. On
a CPU the finished run is therefore bit-identical to one that was never interrupted.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmark.base.errors import Interrupted
from benchmark.data.samples import RawBatch, TrainingSamples, batches_of_epochs, dealt_shares
from benchmark.evaluation.inference import build_method
from benchmark.runs import integrity
from benchmark.runs.costs import write_costs
from benchmark.runs.environment import describe, device_description, is_described
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.runs.trainable import check_trainable
from benchmark.strategies.probe import probe_masks
from benchmark.training import auxiliary, costs, pseudo_masks, resume_point
from benchmark.training.best_epoch import BestEpoch
from benchmark.training.disk import check_room, disk
from benchmark.training.journal import Journal
from benchmark.training.passes import prepare as prepare_passes
from benchmark.training.rehearsal import rehearse
from benchmark.training.report import Report
from benchmark.training.start import Stop, check_dealing, join_processes, start_from_published
from benchmark.training.state import TrainingState
from benchmark.training.stepper import Stepper
from benchmark.training.system_metrics import sampled

# Steps between two probes of the loss on original and masked inputs. One costs two forward passes.
PROBE_STEPS = 25
OnProgress = Callable[[int, int, str], None]
OnSelected = Callable[[int, float], None]


class Trainer:
    """One run in progress. `train` is the whole of it, and the other methods are its parts.

    Args:
        spec: the spec of the run.
        run: the directory of the run.
        opened: the data sets and tokenizers that were read.
        execution: how the run is executed.
        published_start: False leaves the starting weights random, which is for timing a step and
            never for a run.

    Raises:
        UserError: the data or weights are not those of the run, the device cannot be used, or the
            batches cannot be dealt to several processes.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunDir,
        opened: Opened,
        execution: Execution,
        published_start: bool = True,
    ) -> None:
        self.spec = spec
        self.run = run
        self.opened = opened
        self.execution = execution
        self.dataset, self.tokenizer = opened.run(spec)
        recipe = spec.recipe
        torch.set_num_threads(execution.numerics.threads)
        self.accelerator = join_processes(execution.numerics.device, recipe.precision)
        self.device = self.accelerator.device
        self.world = self.accelerator.num_processes
        self.main = self.accelerator.is_main_process

        self.method = build_method(spec, self.tokenizer)
        # Specs that a study derives are not looked at before.
        check_trainable(self.method.definition, recipe, self.dataset)
        if published_start and spec.weights != "scratch":
            start_from_published(self.method, spec, opened.places.weights)
        if self.world > 1 and self.device.type == "cuda":
            self.method = nn.SyncBatchNorm.convert_sync_batchnorm(self.method)

        prepare_passes(self.method, execution.numerics)

        needs = self.method.needs
        targets = (
            pseudo_masks.reader(run.path.parent, recipe.pseudo_masks)
            if needs.masks == "pseudo"
            else None
        )
        self.samples = TrainingSamples(
            self.dataset, "train", needs, self.tokenizer, spec.seed, targets
        )
        self.probe_masks = probe_masks(spec.network.size)
        self.report = Report(
            spec,
            run,
            opened,
            self.method,
            self.accelerator,
            execution.how.workers,
            on_image=self._on_image,
        )
        self.steps_per_epoch = len(self.samples.order(0, recipe.batch_size, recipe.drop_last))
        if self.world > 1:
            smallest = recipe.smallest_micro_batch(len(self.samples))
            check_dealing(self.method.definition, smallest, self.world, self.device)

        self.stepper = Stepper(
            spec, self.method, self.tokenizer, self.accelerator, self.steps_per_epoch
        )
        self.journal = Journal(run, self.main, execution.how.log_every)
        self.best_epoch = BestEpoch(spec, self.report, self.journal)
        self.spent = costs.Spent(self.report.meter, self.device)
        self.state = TrainingState(
            spec, run, self.stepper, self.best_epoch, self.journal, self.spent
        )
        # Called when the loop begins, after each step and after each evaluated image.
        self.on_sign: Callable[[], None] = lambda: None
        # Called with each message, since the preparation may decode pictures for hours.
        self.on_preparing: Callable[[], None] = lambda: None

    def _on_image(self, split: str) -> None:
        self.on_sign()
        self.state.alive(f"evaluating {split}")

    def train(
        self,
        on_progress: OnProgress = lambda step, steps, message: None,
        on_selected: OnSelected = lambda epoch, value: None,
        stop: Stop | None = None,
    ) -> None:
        """Train from the resume point to the end, and report the run.

        Args:
            on_progress: called with the number of steps done, of all steps, and a message.
            on_selected: called with each evaluated epoch and its selection metric, once the state
                is saved. Epochs before the resume point are passed first. What it raises ends the
                training.
            stop: heeds signals, and is asked where the state can be saved. By default it is a new
                one.

        Raises:
            Interrupted: a stop was asked for. The state is saved, and the next start goes on from
                it.
            UserError: the training diverges, the disk is full, or data are damaged.
        """
        spec = self.spec

        def tell(message: str, force: bool = True) -> None:
            self.on_preparing()
            self.state.alive(message, force)
            on_progress(self.stepper.step, self.state.steps, message)

        self._prepare(tell)
        # The first process prepares for all of them, and no step waits for it.
        self.accelerator.wait_for_everyone()
        split = spec.selection.split
        for epoch, value in self.run.epoch_values(split, self.best_epoch.metric).items():
            on_selected(epoch, value)
        self.stepper.network.train()
        self.on_sign()
        watched = self.device if self.main else torch.device("cpu")
        stop = stop or Stop()
        with (
            stop.heeded(at_once=False),
            sampled(self.run, watched),
            contextlib.closing(self._batches()) as batches,
        ):
            while self.state.epochs < spec.recipe.epochs:
                epoch = self.state.epochs
                self._epoch(epoch, batches, stop, tell)
                evaluated = (epoch + 1) % spec.selection.every == 0 or self.state.is_over
                if evaluated:
                    tell(f"epoch {epoch + 1}/{spec.recipe.epochs}  evaluating {split}")
                    value = self.best_epoch.select(self.stepper.step, epoch)
                self.state.epochs += 1
                self.state.save()
                # The resume point comes first. It knows the best epoch and, right after this
                # epoch, has its weights, so a killed run never keeps weights of another epoch.
                self.best_epoch.keep(epoch)
                if stop.agreed(self.accelerator):
                    self._interrupt(epoch)
                if evaluated:
                    on_selected(epoch, value)
        if self.best_epoch.sha256:
            self.report.check_kept(self.best_epoch.sha256)
        self.report.write(self.best_epoch.best, tell)
        if self.main:
            if self.spent.meter.seconds.get("training"):
                self._write_costs()
            integrity.seal(self.run.path)
            self.run.write_status(
                "done", step=self.stepper.step, steps=self.state.steps, best=self.best_epoch.value
            )
            resume_point.remove(self.run)
        on_progress(self.state.steps, self.state.steps, "done")

    def _write_costs(self) -> None:
        """Write what the run cost, for which a pair of the selection split is evaluated once."""
        network = costs.measure(
            self.method,
            self.stepper.optimizer,
            self.dataset,
            self.spec.selection.split,
            self.tokenizer,
            self.device,
        )
        device = device_description(self.execution, self.device, self.world)
        write_costs(self.run, self.spent.costs(network, device))

    def _prepare(self, tell: Callable[..., None]) -> None:
        """Try what the end needs, go back to the resume point, and restore what is not in it."""
        tell("preparing")
        if self.main:
            check_room(self.run, disk(self.method, self.spec, self.opened))
            rehearse(
                self.spec,
                self.opened,
                self.method,
                self.tokenizer,
                self.device,
                lambda message: tell(message, force=False),
            )
        self.state.resume()
        self.spent.meter.seconds["auxiliary"] = auxiliary.restore(
            self.method,
            self.spec,
            self.dataset,
            self.tokenizer,
            self.run.path.parent,
            self.opened.places.weights,
            self.device,
            lambda done, steps: tell(f"training the auxiliary {done}/{steps}", force=False),
        )
        if self.main and not (self.state.is_over and is_described(self.run)):
            environment = describe(self.spec, self.dataset, self.execution, self.device, self.world)
            self.run.write_json("environment.json", environment)
        if self.execution.how.workers:
            self.samples.preload(lambda message: tell(message, force=False))

    def _remaining(self, epoch: int) -> list[list[int]]:
        """Return the units of the steps of an epoch that are not done."""
        recipe = self.spec.recipe
        order = self.samples.order(epoch, recipe.batch_size, recipe.drop_last)
        return order[max(0, self.stepper.step - epoch * self.steps_per_epoch) :]

    def _batches(self) -> Iterator[list[RawBatch]]:
        """Yield the micro-batches of all remaining steps, which one set of loaders makes."""
        recipe = self.spec.recipe
        epochs = range(self.state.epochs, recipe.epochs)
        return batches_of_epochs(
            self.samples,
            ((epoch, self._remaining(epoch)) for epoch in epochs),
            recipe.micro_batch,
            self.accelerator.process_index,
            self.world,
            self.execution.how.workers,
            pinned=self.device.type == "cuda",
        )

    def _epoch(
        self,
        epoch: int,
        made: Iterator[list[RawBatch]],
        stop: Stop,
        tell: Callable[..., None],
    ) -> None:
        """Take the remaining steps of an epoch, and save the state now and then.

        Raises:
            Interrupted: a stop was asked for. The state is saved.
        """
        recipe = self.spec.recipe
        how = self.execution.how
        process = (self.accelerator.process_index, self.world)
        started = time.monotonic()
        for units in self._remaining(epoch):
            batches = next(made)
            if self.stepper.step % PROBE_STEPS == 0:
                self.state.settle()
                before = time.monotonic()
                losses = self.stepper.probe(batches[0], epoch, self.probe_masks)
                self.journal.line(self.stepper.step, epoch, losses)
                started += time.monotonic() - before  # A probe is no part of the training time.
            shares = dealt_shares(len(units), recipe.micro_batch, *process)
            self.stepper.enqueue(batches, epoch, shares)
            if self._is_fetched():
                self.state.settle()
            self.on_sign()
            now = time.monotonic()
            self.spent.step(now - started, len(units))
            started = now
            tell(f"epoch {epoch + 1}/{recipe.epochs}  loss {self.state.loss:.3f}", force=False)
            if stop.agreed(self.accelerator):
                self.state.save()
                self._interrupt(epoch)
            if now - self.state.saved > how.checkpoint_seconds:
                self.state.save()

    def _is_fetched(self) -> bool:
        """Return whether the numbers of the step that was just taken are waited for.

        On a GPU the loop runs ahead of it, by as many steps as a line of metrics has.
        """
        step = self.stepper.step
        return (
            not self.stepper.asynchronous
            or step % self.execution.how.log_every == 0
            or step % self.steps_per_epoch == 0
            # The rate leaves these steps out, so none of them may end later than it seems.
            or self.spent.steps < costs.FIRST_STEPS
        )

    def _interrupt(self, epoch: int) -> None:
        """End the training, whose state is saved.

        Raises:
            Interrupted: always.
        """
        self.state.alive("interrupted", force=True, epoch=epoch)
        # torchrun ends all other processes as soon as one has ended.
        self.accelerator.wait_for_everyone()
        raise Interrupted
