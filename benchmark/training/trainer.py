"""The training loop of one run, its checkpoints and its resume.

A run can be killed at any moment and started again: everything random is keyed (see `draws`), the resume point holds the rest,
and metrics beyond it are dropped, so on a CPU the finished run is bit-identical to an uninterrupted one.
"""

import math
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from safetensors.torch import save_file
from torch import nn

from benchmark.base import pretrained
from benchmark.base.errors import Interrupted, UserError
from benchmark.base.files import atomic_write
from benchmark.data.refer import ReferDataset
from benchmark.data.samples import TrainingSamples, training_batches
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation import metrics, overlays
from benchmark.evaluation.inference import build_method, load_best
from benchmark.evaluation.predict import evaluate
from benchmark.evaluation.records import canonical, frame
from benchmark.runs.environment import describe
from benchmark.runs.execution import Execution
from benchmark.runs.rundir import HEARTBEAT_SECONDS, RunDir
from benchmark.runs.spec import RunSpec
from benchmark.strategies.strategy import Masker, micro_step, probe, probe_strategy
from benchmark.training import auxiliary, pseudo_masks
from methods.contract import Method

OVERLAY_IMAGES = 6
PROBE_STEPS = 25  # between two looks at the loss on original and masked inputs, which cost two forward passes


class Stop:
    """Remembers a request to stop until the loop can save its state."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Stop":
        self.previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.asked = True


def build_optimizer(method: Method, spec: RunSpec) -> torch.optim.Optimizer:
    """Return Adam or AdamW over the method's published groups."""
    groups = [{"weight_decay": spec.recipe.weight_decay, **group} for group in method.parameter_groups(spec.recipe)]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.recipe.optimizer]
    return kind(groups, lr=spec.recipe.learning_rate, fused=True)


def start(method: Method, spec: RunSpec) -> None:
    """Start the encoders from the published weights that the spec names.

    Raises:
        UserError: they cannot be had, or are not those of the run's key.
    """
    weights = method.weights.starting_weights(spec.network)
    if pretrained.digest(weights) != spec.weights:
        raise UserError(
            f"the weights '{spec.network.pretrained}' on this machine are not those of the run (digest {spec.weights}):"
            " restore them, or plan the matrix again for these."
        )
    network = {name: value for name, value in weights.items() if not name.startswith(auxiliary.PREFIX)}
    pretrained.start(method.network, network, spec.network.pretrained)


class Trainer:
    """One run in progress. `train` is the whole of it; the other methods are its parts.

    `published_start` False leaves the starting weights random: for timing a step, never for a run.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunDir,
        dataset: ReferDataset,
        tokenizer: Tokenizer,
        execution: Execution,
        published_start: bool = True,
    ) -> None:
        self.spec, self.run, self.dataset, self.tokenizer, self.execution = spec, run, dataset, tokenizer, execution
        torch.set_num_threads(execution.threads)
        recipe = spec.recipe
        # accelerate keeps one precision per process, and a plan times networks of several.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(recipe.precision, recipe.precision),
            cpu=execution.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device, self.world = self.accelerator.device, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process
        self.method = build_method(spec, tokenizer)
        if self.world > 1 and self.method.couples_batch:
            raise UserError(
                f"the loss of {spec.method} compares the samples of a batch with each other, so it is not dealt to several"
                " processes: start it with --processes 1."
            )
        self.spent = {"training": 0.0, "evaluation": 0.0, "auxiliary": 0.0}
        if published_start and spec.weights != "scratch":
            start(self.method, spec)
        if self.world > 1 and self.device.type == "cuda":
            self.method = nn.SyncBatchNorm.convert_sync_batchnorm(self.method)
        optimizer = build_optimizer(self.method, spec)
        self.network, self.optimizer = self.accelerator.prepare(self.method, optimizer)
        masks = (
            pseudo_masks.reader(run.path.parent, recipe.pseudo_masks) if self.method.needs.masks == "pseudo" else None
        )
        self.samples = TrainingSamples(dataset, "train", self.method.needs, tokenizer, spec.seed, masks)
        self.masker = Masker(spec.strategy, tokenizer, spec.network.size, spec.seed)
        self.prober = Masker(probe_strategy(spec.network.size), tokenizer, spec.network.size, spec.seed)
        self.steps_per_epoch = len(self.samples.order(0, recipe.batch_size, recipe.drop_last))
        self.steps = self.steps_per_epoch * recipe.epochs
        self.step, self.best = 0, {"oiou": -1.0, "epoch": -1}
        self.logged: dict[str, float] = defaultdict(float)
        self.lines = 0
        self.beat = self.saved = time.monotonic()

    # --- the resume point -------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the resume point (main process)."""
        if self.main:
            scaler = self.accelerator.scaler
            self.run.save_state(
                {
                    "step": self.step,
                    "best": self.best,
                    "logged": dict(self.logged),
                    "lines": self.lines,
                    "spent": self.spent,
                    "method": self.method.state_dict(),
                    "optimiser": self.optimizer.state_dict(),
                    "scaler": scaler.state_dict() if scaler else {},
                }
            )
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go back to the resume point, if there is one, and drop the metrics beyond it."""
        state = self.run.load_state()
        if state:
            self.step, self.best, self.lines, self.spent = (state[n] for n in ("step", "best", "lines", "spent"))
            self.logged = defaultdict(float, state["logged"])
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimiser"])
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.main:
            self.run.keep_metrics(self.lines)

    # --- one step ---------------------------------------------------------------------------------------------------

    def optimise(self, raws: list[Any], epoch: int) -> dict[str, float]:
        """Take one optimizer step over the step's micro-batches and return its losses."""
        spec, rates = self.spec, self.method.schedule(self.spec.recipe, self.step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        sizes, losses = [len(raw.samples) for raw in raws], defaultdict(float)
        for number, raw in enumerate(raws):
            share = sizes[number] / sum(sizes)
            scaled = share * self.method.loss_scale(spec.recipe, self.step)
            key = (spec.seed, "step", self.step, number, self.accelerator.process_index)
            found = micro_step(
                self.network, self.method, raw, self.masker, epoch, key, scaled, self.accelerator.backward, self.device
            )
            for name, value in found.items():
                losses[name] += share * value
        if not math.isfinite(losses["train/loss"]):
            raise UserError(
                f"the loss of run {self.run.key} became {losses['train/loss']} at step {self.step} (epoch {epoch}); lower"
                f" recipe.learning_rate (now {spec.recipe.learning_rate}) or use precision fp32, and start it again."
            )
        if spec.recipe.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), spec.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return {**losses, "lr": rates[-1]}

    def log(self, losses: dict[str, float], epoch: int) -> None:
        """Average the losses over `log_every` steps and write a line."""
        for name, value in losses.items():
            self.logged[name] += value
        self.logged["steps"] += 1
        if self.step % self.execution.log_every == 0 or self.step == self.steps:
            count = self.logged.pop("steps")
            self.line(epoch, {name: value / count for name, value in self.logged.items()})
            self.logged.clear()

    def line(self, epoch: int, values: dict[str, float]) -> None:
        """Append a line of metrics (main process)."""
        if self.main:
            self.run.log(self.step, epoch, canonical(values))
        self.lines += 1

    # --- evaluation -------------------------------------------------------------------------------------------------

    def evaluate(self, split: str) -> pd.DataFrame:
        """Return the records of a split, made by all processes together."""
        started = time.monotonic()
        records = evaluate(
            self.method,
            self.dataset,
            split,
            self.tokenizer,
            self.device,
            workers=self.execution.workers,
            share=(self.accelerator.process_index, self.world),
            on_image=lambda _: self.alive(self.step // self.steps_per_epoch, f"evaluating {split}"),
        )
        if self.world > 1:
            records = frame(gather_object(records.to_dict("records")))
        self.spent["evaluation"] += time.monotonic() - started
        return records

    def select(self, epoch: int) -> float:
        """Evaluate the selection split, keep the weights if they are the best so far, and return its oIoU."""
        split = self.spec.selection.split
        records = self.evaluate(split)
        numbers = metrics.metrics(records)
        self.line(epoch, {f"{split}/{name}": value for name, value in numbers.items()})
        if numbers["oiou"] > self.best["oiou"]:
            self.best = {"oiou": numbers["oiou"], "epoch": epoch}
            if self.main:
                # A run that is trained again, its status deleted: what was asked of other weights is no result of these.
                shutil.rmtree(self.run.path / "robustness", ignore_errors=True)
                weights = {name: value.contiguous().cpu() for name, value in self.method.state_dict().items()}
                atomic_write(self.run.path / "best.safetensors", lambda aside: save_file(weights, aside))
                self.run.write_records(split, records)
        return numbers["oiou"]

    def report(self, progress: Callable[[str], None]) -> None:
        """Evaluate the reported splits with the chosen weights; write records, numbers and overlays."""
        self.accelerator.wait_for_everyone()  # the main process may still be writing the best weights
        load_best(self.run, self.method)
        selection = self.spec.selection
        result: dict[str, Any] = {"selected": {**self.best, "split": selection.split, "metric": "oiou"}}
        for split in selection.report:
            progress(f"evaluating {split}")
            if split != selection.split:
                records = self.evaluate(split)
                if self.main:
                    self.run.write_records(split, records)
            if self.main:
                result[split] = canonical(metrics.metrics(self.run.records(split)))
        if self.main:
            overlays.write(
                self.run, self.method, self.dataset, selection.split, self.tokenizer, self.device, OVERLAY_IMAGES
            )
            self.run.write_json("result.json", result)

    # --- the whole --------------------------------------------------------------------------------------------------

    def alive(self, epoch: int, message: str, force: bool = False) -> None:
        """Write the heartbeat now and then."""
        now = time.monotonic()
        if self.main and (force or now - self.beat > HEARTBEAT_SECONDS / 5):
            self.run.write_status(
                "running", step=self.step, steps=self.steps, epoch=epoch, message=message, best=self.best["oiou"]
            )
            self.beat = now

    def train(
        self,
        on_progress: Callable[[int, int, str], None] = lambda step, steps, message: None,
        on_selected: Callable[[int, float], None] = lambda epoch, oiou: None,
    ) -> None:
        """Run from the resume point to `done`.

        Args:
            on_progress: told steps done, all steps and a message. on_selected: told every evaluated epoch and its oIoU, those
                before the resume point too, once the state is saved; what it raises ends the training.

        Raises:
            Interrupted: a stop was asked for; the state is saved and the next start goes on from it.
            UserError: NaN loss, full disk, damaged data.
        """
        spec, recipe, execution = self.spec, self.spec.recipe, self.execution

        def tell(message: str, force: bool = True) -> None:
            self.alive(self.step // self.steps_per_epoch, message, force)
            on_progress(self.step, self.steps, message)

        tell("preparing")
        self.resume()
        self.spent["auxiliary"] = auxiliary.restore(
            self.method,
            spec,
            self.dataset,
            self.tokenizer,
            self.run.path.parent,
            self.device,
            lambda done, steps: tell(f"training the auxiliary {done}/{steps}", force=False),
        )
        if self.main:
            self.run.write_json(
                "environment.json", describe(self.spec, self.dataset, execution, self.device, self.world)
            )
        if execution.workers:
            self.samples.preload()
        split = spec.selection.split
        for done, oiou in self.run.epoch_oious(split).items():
            on_selected(done, oiou)
        self.network.train()
        with Stop() as stop:
            while self.step < self.steps:
                epoch = self.step // self.steps_per_epoch
                order = self.samples.order(epoch, recipe.batch_size, recipe.drop_last)
                remaining = order[self.step % self.steps_per_epoch :]
                started = time.monotonic()
                for raws in training_batches(
                    self.samples,
                    epoch,
                    remaining,
                    recipe.micro_batch,
                    self.accelerator.process_index,
                    self.world,
                    execution.workers,
                ):
                    if self.step % PROBE_STEPS == 0:
                        before, key = time.monotonic(), (spec.seed, "probe", self.step)
                        self.line(epoch, probe(self.method, raws[0], self.prober, epoch, key, self.device))
                        started += time.monotonic() - before  # no part of what training costs
                    losses = self.optimise(raws, epoch)
                    self.log(losses, epoch)
                    now = time.monotonic()
                    self.spent["training"], started = self.spent["training"] + now - started, now
                    tell(f"epoch {epoch + 1}/{recipe.epochs}  loss {losses['train/loss']:.3f}", force=False)
                    inside = self.step % self.steps_per_epoch > 0
                    if stop.asked or (inside and now - self.saved > execution.checkpoint_seconds):
                        # At an epoch's end the selection comes first: a state saved here would skip it.
                        if inside:
                            self.save()
                        if stop.asked:
                            self.alive(epoch, "interrupted", force=True)
                            raise Interrupted
                evaluated = (epoch + 1) % spec.selection.every == 0 or self.step == self.steps
                if evaluated:
                    tell(f"epoch {epoch + 1}/{recipe.epochs}  evaluating {split}")
                    oiou = self.select(epoch)
                self.save()
                if stop.asked:
                    raise Interrupted
                if evaluated:
                    on_selected(epoch, oiou)
        self.report(tell)
        if self.main:
            self.run.write_json("timing.json", self.timing())
            self.run.write_status("done", step=self.step, steps=self.steps, best=self.best["oiou"])
        on_progress(self.steps, self.steps, "done")

    def timing(self) -> dict[str, Any]:
        """Return how long the run took: kept apart from its numbers."""
        samples = self.steps * self.spec.recipe.batch_size
        memory = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None
        return {
            "training_seconds": round(self.spent["training"], 2),
            "evaluation_seconds": round(self.spent["evaluation"], 2),
            "auxiliary_seconds": self.spent["auxiliary"],  # shared by the runs of a method on this data set
            "seconds_per_step": self.spent["training"] / self.steps,
            "images_per_second": samples / max(self.spent["training"], 1e-9),
            "peak_gpu_bytes": memory,
        }
