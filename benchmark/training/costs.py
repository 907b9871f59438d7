"""Measures what a run costs. Nothing here draws a random number or changes a weight."""

import dataclasses
import math
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.data.images import EvaluationImages
from benchmark.data.refer import ReferDataset
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation.predict import predict
from benchmark.evaluation.timing import Meter
from benchmark.runs.costs import Costs, Device
from methods.contract import Method

# The rate leaves out these steps of a session, which allocate memory and choose kernels by trial.
FIRST_STEPS = 5


@dataclasses.dataclass
class Spent:
    """What a run has spent so far, in all its sessions.

    Attributes:
        meter: seconds and counts of `training` (all steps), `steady` (pairs of the steps after the
            first ones of a session), `evaluation` (expressions) and `auxiliary`.
        device: where the run is executed.
        steps: optimizer steps of this session.
        peak_bytes: most memory of the earlier sessions.
    """

    meter: Meter
    device: torch.device
    steps: int = 0
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            # A plan may have measured other networks in this process.
            torch.cuda.reset_peak_memory_stats(self.device)

    def step(self, seconds: float, pairs: int) -> None:
        """Add one optimizer step over `pairs` image-sentence pairs of all processes."""
        self.steps += 1
        self.meter.add("training", seconds)
        if self.steps > FIRST_STEPS:
            self.meter.add("steady", seconds, pairs)

    def state(self) -> dict[str, Any]:
        """Return what a resume point holds."""
        # These names are wire format: resume points of earlier versions have the first.
        return {
            "spent": dict(self.meter.seconds),
            "counted": dict(self.meter.counts),
            "peak_bytes": self.peak(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier session."""
        self.meter.seconds.update(state["spent"])
        # An earlier version did not count expressions. With NaN their rate stays unknown.
        self.meter.counts.update(state.get("counted", {"evaluation": math.nan}))
        self.peak_bytes = state.get("peak_bytes", 0)

    def peak(self) -> int:
        """Return the most memory of any session in bytes, as `Costs.peak_bytes` says."""
        return max(self.peak_bytes, peak_bytes(self.device))

    def costs(self, of: "Network", device: Device) -> Costs:
        """Return the costs of the run.

        Args:
            of: what was measured of its network.
            device: what it was executed on.
        """
        seconds = {
            f"{part}_seconds": round(self.meter.seconds[part], 2)
            for part in ("training", "evaluation", "auxiliary")
        }
        return Costs(
            **dataclasses.asdict(of),
            **seconds,
            training_images_per_second=self._rate("steady"),
            evaluation_expressions_per_second=self._rate("evaluation"),
            peak_bytes=self.peak(),
            device=device,
        )

    def _rate(self, name: str) -> float | None:
        """Return things per second, or None where none were timed or their number is unknown."""
        rate = self.meter.rate(name)
        return rate if math.isfinite(rate) and rate > 0 else None


@dataclasses.dataclass(frozen=True)
class Network:
    """What a network costs, as `Costs` describes these fields."""

    parameters: int
    trained_parameters: int
    gflops: float


def measure(
    method: Method,
    optimizer: torch.optim.Optimizer,
    dataset: ReferDataset,
    split: str,
    tokenizer: Tokenizer,
    device: torch.device,
) -> Network:
    """Return what a network costs.

    Args:
        method: the network.
        optimizer: holds the parameters that are trained.
        dataset: has a pair whose evaluation is counted.
        split: where the pair is.
        tokenizer: of the method's sentences.
        device: of the network.

    Raises:
        UserError: the image of the pair is missing or damaged.
    """
    trained = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return Network(
        parameters=sum(parameter.numel() for parameter in method.parameters()),
        trained_parameters=sum(its.numel() for its in trained if its.requires_grad),
        gflops=gflops(method, dataset, split, tokenizer, device),
    )


@torch.no_grad()
def gflops(
    method: Method, dataset: ReferDataset, split: str, tokenizer: Tokenizer, device: torch.device
) -> float:
    """Return 10^9 floating-point operations of one pair, as evaluation computes it.

    The operations of the pass that really runs are counted, so what a method computes twice counts
    twice. The weights and the random generators stay as they are.
    """
    image = EvaluationImages(dataset, split, method.needs)[0]
    pair = dataclasses.replace(image, refs=image.refs[:1], sentences=image.sentences[:1])
    was_training = method.training
    was_fast = torch.backends.mha.get_fastpath_enabled()
    method.eval()
    # torch runs a whole attention layer as one operation, of which its counter knows nothing.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            predict(method, [pair], tokenizer, device)
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
        method.train(was_training)
    return counter.get_total_flops() / 1e9


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held, in bytes.

    On a GPU it is what torch allocated there, and on a CPU it is the resident set.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands the `ru_maxrss` of a parent to its child, but not this value.
        line = next(its for its in status.read_text().splitlines() if its.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
