"""The training loop of one run, and its selection of an epoch.

A run can be killed at any moment and started again. Each random number is a function of what it is
for (see `base.rng`). The resume point holds everything else, and metrics beyond it are dropped. On
a CPU the finished run is therefore bit-identical to one that was never interrupted.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from benchmark.base.errors import Interrupted, UserError, WorldError
from benchmark.data.samples import RawBatch, TrainingSamples, dealt_shares, training_batches
from benchmark.evaluation import metrics
from benchmark.evaluation.devices import pick_device
from benchmark.evaluation.inference import build_method, check_finite
from benchmark.runs import integrity
from benchmark.runs.costs import write_costs
from benchmark.runs.environment import describe, device_description
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.runs.trainable import check_trainable
from benchmark.strategies.probe import probe, probe_masks
from benchmark.strategies.strategy import MicroBatch
from benchmark.training import auxiliary, costs, pseudo_masks, resume_point
from benchmark.training.disk import check_room, disk
from benchmark.training.journal import Journal
from benchmark.training.rehearsal import rehearse
from benchmark.training.report import Report
from benchmark.training.start import Stop, build_optimizer, check_dealing, start_from_published
from benchmark.training.system_metrics import sampled
from benchmark.training.updates import Updates
from methods.precision import set_float32

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
        torch.set_num_threads(execution.numerics.threads)
        recipe = spec.recipe
        # Precision is the method's own affair (`methods.precision`), in evaluation, too.
        wanted = pick_device(execution.numerics.device)
        set_float32(recipe.precision)
        self.accelerator = Accelerator(
            mixed_precision="no",
            cpu=wanted.type == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device = self.accelerator.device
        if self.device.type != wanted.type:
            raise UserError(
                f"accelerate takes the device {self.device} where {wanted} was asked for: unset"
                " ACCELERATE_TORCH_DEVICE and ACCELERATE_USE_CPU."
            )
        self.world = self.accelerator.num_processes
        self.main = self.accelerator.is_main_process

        self.method = build_method(spec, self.tokenizer)
        # Specs that a study derives are not looked at before.
        check_trainable(self.method.definition, recipe, self.dataset)
        if published_start and spec.weights != "scratch":
            start_from_published(self.method, spec, opened.places.weights)
        if self.world > 1 and self.device.type == "cuda":
            self.method = nn.SyncBatchNorm.convert_sync_batchnorm(self.method)
        self.optimizer = build_optimizer(self.method, spec)
        self.network = self.accelerator.prepare(self.method)
        self.updates = Updates(spec, self.network, self.optimizer, self.device)

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
        self.steps = self.steps_per_epoch * recipe.epochs

        # What the resume point restores.
        self.metric = spec.selection.metric
        self.step = 0
        self.epochs = 0  # that are over, with their selection
        self.best: dict[str, float] = {self.metric: -1.0, "epoch": -1}
        self.best_sha256 = ""  # of its weights, and unknown to runs of earlier versions
        self.journal = Journal(run, self.main, execution.how.log_every)
        self.spent = costs.Spent(self.report.meter, self.device)
        self.saved = time.monotonic()
        # Called when the loop begins, after each step and after each evaluated image.
        self.on_sign: Callable[[], None] = lambda: None
        # Called with each message, since the preparation may decode pictures for hours.
        self.on_preparing: Callable[[], None] = lambda: None

    def _on_image(self, split: str) -> None:
        self.on_sign()
        self.alive(self.step // self.steps_per_epoch, f"evaluating {split}")

    # --- the resume point -------------------------------------------------------------

    def save(self) -> None:
        """Write the resume point, which the main process does.

        Raises:
            UserError: the disk is full, or the folder cannot be written, or a weight is not
                finite. No resume point is written then.
        """
        if self.main:
            weights = self.method.state_dict()
            check_finite(weights, f"the weights of run {self.run.key} at step {self.step}")
            # These names are wire format: resume points of earlier versions have them.
            state = {
                "step": self.step,
                "epochs": self.epochs,
                "best": self.best,
                "best_sha256": self.best_sha256,
                **self.journal.state(),
                **self.spent.state(),
                **self.updates.state(),
                "method": weights,
                "optimiser": self.optimizer.state_dict(),
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
            self.step = state["step"]
            # Earlier versions saved nothing between the last step of an epoch and its selection.
            self.epochs = state.get("epochs", self.step // self.steps_per_epoch)
            self.best = state["best"]
            self.best_sha256 = state.get("best_sha256", "")
            self.spent.restore(state)
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimiser"])
            self.updates.restore(state)
            is_between = self.step == self.steps_per_epoch * self.epochs
            if self.epochs and is_between and self.best["epoch"] == self.epochs - 1:
                # A kill may have come between the saving and the keeping of the best weights.
                self.report.keep()
        elif best := self._trained_before():
            if self.main and integrity.changed(self.run.path, ["costs.json"]):
                # What the training cost cannot be measured again.
                (self.run.path / "costs.json").unlink(missing_ok=True)
            self.step, self.best = self.steps, best
            self.epochs = self.spec.recipe.epochs
            self.journal.lines = len(self.run.metrics())
            return
        elif self.main:
            integrity.unseal(self.run.path)
            # A run whose status was deleted is trained again. Its results under conditions are
            # those of other weights.
            shutil.rmtree(self.run.path / "robustness", ignore_errors=True)
        self.journal.restore(state)

    def _trained_before(self) -> dict[str, float] | None:
        """Return the best epoch of a run that lost other files after its training, or None.

        Its weights and metrics are those that were listed when it was done, so that nothing but
        the evaluation of the kept weights is left.
        """
        names = (integrity.WEIGHTS, "metrics.jsonl")
        is_whole = all((self.run.path / name).exists() for name in names)
        if not is_whole or not {*names} <= integrity.listed(self.run.path).keys():
            return None
        if integrity.changed(self.run.path, names):
            return None
        values = self.run.epoch_values(self.spec.selection.split, self.metric)
        # The first of equal values is the one that was kept.
        epoch = max(values, key=values.__getitem__)
        return {self.metric: values[epoch], "epoch": epoch}

    # --- training ---------------------------------------------------------------------

    def micro_batch(
        self, samples: RawBatch, epoch: int, key: tuple[object, ...], share: float = 1.0
    ) -> MicroBatch:
        """Return the micro-batch that a strategy works on.

        Args:
            samples: the samples of the micro-batch.
            epoch: the epoch that it belongs to.
            key: what its random numbers are keyed by.
            share: the factor of its gradients, which is its share of the batch times the loss
                scale.
        """
        return MicroBatch(
            network=self.network,
            method=self.method,
            samples=samples,
            tokenizer=self.tokenizer,
            seed=self.spec.seed,
            epoch=epoch,
            key=key,
            share=share,
            add_gradient=self.updates.add_gradient,
            device=self.device,
        )

    def optimize(
        self, batches: list[RawBatch], epoch: int, shares: Sequence[float] = ()
    ) -> dict[str, float]:
        """Take one optimizer step over its micro-batches.

        Args:
            batches: the micro-batches of the step that this process works on.
            epoch: the epoch that they belong to.
            shares: what `dealt_shares` returned for them. By default it is their part of the
                samples, as this process has all of them.

        Returns:
            Name -> loss, averaged over the samples of the step of all processes, and the learning
            rate.

        Raises:
            UserError: the training diverges (see `Updates.take`).
        """
        spec = self.spec
        rates = self.method.schedule(spec.recipe, self.step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

        sizes = [len(batch.samples) for batch in batches]
        shares = shares or [size / sum(sizes) for size in sizes]
        scale = self.method.loss_scale(spec.recipe, self.step)
        losses: dict[str, float] = defaultdict(float)
        self.updates.begin()
        for number, batch in enumerate(batches):
            share = shares[number]
            key = (spec.seed, "step", self.step, number, self.accelerator.process_index)
            micro = self.micro_batch(batch, epoch, key, share * scale)
            for name, value in spec.strategy.step(micro).items():
                losses[name] += share * value.item()
        if self.world > 1:
            ours = torch.tensor([*losses.values()], dtype=torch.float64, device=self.device)
            whole = self.accelerator.reduce(ours, "mean").tolist()
            losses = dict(zip(losses, whole, strict=True))

        # The gradients of all passes are summed before they are clipped, and there is one step.
        self.updates.take(losses["train/loss"], self.step)
        self.step += 1
        return {**losses, "lr": rates[-1]}

    def probe(self, samples: RawBatch, epoch: int) -> None:
        """Log the loss on original and masked inputs (Fig. B of the paper)."""
        micro = self.micro_batch(samples, epoch, (self.spec.seed, "probe", self.step))
        # No gradient is taken, so DDP has nothing to synchronize.
        micro.network = self.method
        losses = probe(micro, self.probe_masks)
        self.journal.line(self.step, epoch, {name: value.item() for name, value in losses.items()})

    def select(self, epoch: int) -> float:
        """Evaluate the selection split, and note the epoch if it is the best so far.

        Returns:
            The selection metric of the epoch, as a fraction.
        """
        split = self.spec.selection.split
        numbers = metrics.compute(self.report.evaluate(split))
        self.journal.line(
            self.step, epoch, {f"{split}/{name}": value for name, value in numbers.items()}
        )
        if numbers[self.metric] > self.best[self.metric]:
            self.best = {self.metric: numbers[self.metric], "epoch": epoch}
            self.best_sha256 = self.report.digest() if self.main else ""
        return numbers[self.metric]

    # --- the whole run ----------------------------------------------------------------

    def alive(self, epoch: int, message: str, force: bool = False) -> None:
        """Write the heartbeat, unless it was written a moment ago.

        Args:
            epoch: the epoch that was begun last.
            message: what the run is doing.
            force: write the heartbeat in any case.
        """
        self.journal.alive(
            force,
            step=self.step,
            steps=self.steps,
            epoch=epoch,
            message=message,
            best=self.best[self.metric],
        )

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
            self.alive(self.step // self.steps_per_epoch, message, force)
            on_progress(self.step, self.steps, message)

        self._prepare(tell)
        split = spec.selection.split
        for epoch, value in self.run.epoch_values(split, self.metric).items():
            on_selected(epoch, value)
        self.network.train()
        self.on_sign()
        watched = self.device if self.main else torch.device("cpu")
        stop = stop or Stop()
        with stop.heeded(at_once=False), sampled(self.run, watched):
            while self.epochs < spec.recipe.epochs:
                epoch = self.epochs
                self._epoch(epoch, stop, tell)
                evaluated = (epoch + 1) % spec.selection.every == 0 or self.step == self.steps
                if evaluated:
                    tell(f"epoch {epoch + 1}/{spec.recipe.epochs}  evaluating {split}")
                    value = self.select(epoch)
                self.epochs += 1
                self.save()
                # The resume point comes first. It knows the best epoch and, right after this
                # epoch, has its weights, so a killed run never keeps weights of another epoch.
                if self.best["epoch"] == epoch:
                    self.report.keep()
                if stop.agreed(self.accelerator):
                    self._interrupt(epoch)
                if evaluated:
                    on_selected(epoch, value)
        if self.best_sha256:
            self.report.check_kept(self.best_sha256)
        self.report.write(self.best, tell)
        if self.main:
            if self.spent.meter.seconds.get("training"):
                self._write_costs()
            integrity.seal(self.run.path)
            self.run.write_status(
                "done", step=self.step, steps=self.steps, best=self.best[self.metric]
            )
            resume_point.remove(self.run)
        on_progress(self.steps, self.steps, "done")

    def _write_costs(self) -> None:
        """Write what the run cost, for which a pair of the selection split is evaluated once."""
        network = costs.measure(
            self.method,
            self.optimizer,
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
        self.resume()
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
        if self.main and not (self.step == self.steps and self._has_environment()):
            environment = describe(self.spec, self.dataset, self.execution, self.device, self.world)
            self.run.write_json("environment.json", environment)
        if self.execution.how.workers:
            self.samples.preload()

    def _has_environment(self) -> bool:
        """Return whether `environment.json` says where the run was trained."""
        try:
            is_there = bool(self.run.read_json("environment.json"))
        except WorldError:
            return False
        return is_there and not integrity.changed(self.run.path, ["environment.json"])

    def _epoch(self, epoch: int, stop: Stop, tell: Callable[..., None]) -> None:
        """Take the remaining steps of an epoch, and save the state now and then.

        Raises:
            Interrupted: a stop was asked for. The state is saved.
        """
        recipe = self.spec.recipe
        how = self.execution.how
        order = self.samples.order(epoch, recipe.batch_size, recipe.drop_last)
        remaining = order[self.step - epoch * self.steps_per_epoch :]
        process = (self.accelerator.process_index, self.world)
        started = time.monotonic()
        steps = training_batches(
            self.samples, epoch, remaining, recipe.micro_batch, *process, how.workers
        )
        for units, batches in zip(remaining, steps, strict=True):
            if self.step % PROBE_STEPS == 0:
                before = time.monotonic()
                self.probe(batches[0], epoch)
                started += time.monotonic() - before  # A probe is no part of the training time.
            shares = dealt_shares(len(units), recipe.micro_batch, *process)
            losses = self.optimize(batches, epoch, shares)
            self.on_sign()
            is_last = self.step == self.steps
            self.journal.log(losses, self.step, epoch, is_last, self.updates.counts())
            now = time.monotonic()
            self.spent.step(now - started, len(units))
            started = now
            tell(f"epoch {epoch + 1}/{recipe.epochs}  loss {losses['train/loss']:.3f}", force=False)
            if stop.agreed(self.accelerator):
                self.save()
                self._interrupt(epoch)
            if now - self.saved > how.checkpoint_seconds:
                self.save()

    def _interrupt(self, epoch: int) -> None:
        """End the training, whose state is saved.

        Raises:
            Interrupted: always.
        """
        self.alive(epoch, "interrupted", force=True)
        # torchrun ends all other processes as soon as one has ended.
        self.accelerator.wait_for_everyone()
        raise Interrupted
