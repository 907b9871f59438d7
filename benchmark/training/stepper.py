"""One optimizer step of a run: the passes of its micro-batches, and the update after them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmark.data.samples import RawBatch
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation.inference import check_finite
from benchmark.runs.spec import RunSpec
from benchmark.strategies.maskris import MaskRIS
from benchmark.strategies.probe import probe
from benchmark.strategies.strategy import MicroBatch
from benchmark.training.start import build_optimizer
from benchmark.training.updates import Updates
from methods.contract import Method


class _Pending(NamedTuple):
    """A step whose numbers are still on the device: losses by name, and what `take` returned."""

    step: int
    epoch: int
    rate: float
    names: tuple[str, ...]
    values: Tensor


class Taken(NamedTuple):
    """A step whose numbers were fetched.

    Attributes:
        step: number of optimizer steps that were done with it.
        epoch: the epoch that it belongs to.
        losses: what `Stepper.optimize` returns of it.
        counts: what `Updates.counts` returned after it.
    """

    step: int
    epoch: int
    losses: dict[str, float]
    counts: dict[str, float]


class Stepper:
    """Takes the optimizer steps of a run, one after the other.

    Args:
        spec: the spec of the run.
        method: what is trained.
        tokenizer: of the method's sentences.
        accelerator: knows the processes that work together, and their device.
        steps_per_epoch: the number of steps of an epoch, which the schedule counts in.

    Attributes:
        step: the number of steps that are done.
        network: `method` as the processes that work together share it.
        optimizer: over the parameters of the method.
        updates: takes the update of each step.
        asynchronous: whether the device goes on by itself, so that the numbers of a step are worth
            leaving there for a while. A CPU does not.
    """

    def __init__(
        self,
        spec: RunSpec,
        method: Method,
        tokenizer: Tokenizer,
        accelerator: Accelerator,
        steps_per_epoch: int,
    ) -> None:
        self.spec = spec
        self.method = method
        self.tokenizer = tokenizer
        self.accelerator = accelerator
        self.device = accelerator.device
        self.steps_per_epoch = steps_per_epoch
        self.optimizer = build_optimizer(method, spec)
        self.network = accelerator.prepare(method)
        self.updates = Updates(spec, self.network, self.optimizer, self.device)
        self.step = 0
        self.asynchronous = self.device.type != "cpu"
        self._pending: list[_Pending] = []

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
        """Take one optimizer step over its micro-batches, and wait for its numbers.

        Args:
            batches: the micro-batches of the step that this process works on.
            epoch: the epoch that they belong to.
            shares: what `dealt_shares` returned for them. By default it is their part of the
                samples, as this process has all of them.

        Returns:
            Name -> loss, averaged over the samples of the step of all processes, and the learning
            rate.

        Raises:
            UserError: the training diverges (see `Updates.judge`).
        """
        self.enqueue(batches, epoch, shares)
        return self.fetch()[-1].losses

    def enqueue(self, batches: list[RawBatch], epoch: int, shares: Sequence[float] = ()) -> None:
        """Take one optimizer step, whose numbers stay on the device until they are fetched.

        Nothing here waits for the device, so that it never waits for this process either.

        Args:
            batches: as in `optimize`, and so are `epoch` and `shares`.
        """
        spec = self.spec
        rates = self.method.schedule(spec.recipe, self.step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

        sizes = [len(batch.samples) for batch in batches]
        shares = shares or [size / sum(sizes) for size in sizes]
        scale = self.method.loss_scale(spec.recipe, self.step)
        names: tuple[str, ...] = ()
        total: Tensor | float = 0.0
        self.updates.begin()
        for number, batch in enumerate(batches):
            share = shares[number]
            key = (spec.seed, "step", self.step, number, self.accelerator.process_index)
            losses = spec.strategy.step(self.micro_batch(batch, epoch, key, share * scale))
            names = names or tuple(losses)
            # In float64 whatever the losses are, so that it is the sum of Python's floats.
            total = total + share * torch.stack(
                [losses[name].to(self.device, torch.float64, non_blocking=True) for name in names]
            )
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total, "mean")

        # The gradients of all passes are summed before they are clipped, and there is one step.
        verdict = self.updates.take(total[names.index("train/loss")])
        self._pending.append(
            _Pending(self.step, epoch, rates[-1], names, torch.cat([total, verdict]))
        )
        self.step += 1

    def fetch(self) -> list[Taken]:
        """Wait for the device, and return the steps since the last call in their order.

        Raises:
            UserError: the training diverges (see `Updates.judge`).
        """
        pending, self._pending = self._pending, []
        if not pending:
            return []
        steps = []
        values = iter(torch.cat([its.values for its in pending]).tolist())
        for its in pending:
            *losses, taken, norm = itertools.islice(values, len(its.names) + 2)
            named = dict(zip(its.names, losses, strict=True))
            self.updates.judge(taken == 1, named["train/loss"], norm, its.step)
            losses = {**named, "lr": its.rate}
            steps.append(Taken(its.step + 1, its.epoch, losses, self.updates.counts()))
        return steps

    def probe(self, samples: RawBatch, epoch: int, masks: MaskRIS) -> dict[str, float]:
        """Return the loss on original and masked inputs (Fig. B of the paper), by name."""
        micro = self.micro_batch(samples, epoch, (self.spec.seed, "probe", self.step))
        # No gradient is taken, so DDP has nothing to synchronize.
        micro.network = self.method
        losses = probe(micro, masks)
        return dict(zip(losses, torch.stack([*losses.values()]).tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Return what a resume point holds of the steps that were fetched, which should be all.

        Raises:
            UserError: a weight is not finite.
        """
        weights = self.method.state_dict()
        check_finite(weights, f"the weights of run {self.spec.key} at step {self.step}")
        # These names are wire format: resume points of earlier versions have them.
        return {
            "step": self.step,
            **self.updates.state(),
            "method": weights,
            "optimiser": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier session."""
        self.step = state["step"]
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimiser"])
        self.updates.restore(state)
