"""What evaluation costs, in seconds of a network's text-free part, its rest, and its decision."""

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.base.geometry import Geometry
from methods.contract import Method, Output, Text


@dataclasses.dataclass
class Meter:
    """Seconds and counts by name."""

    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = dataclasses.field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, seconds: float, count: int = 1) -> None:
        """Add the seconds that `count` things took together."""
        self.seconds[name] += seconds
        self.counts[name] += count

    @contextlib.contextmanager
    def measure(self, name: str, count: int, device: torch.device) -> Iterator[None]:
        """Measure a `with` block, which is about `count` things on `device`."""
        _finish(device)
        start = time.perf_counter()
        yield
        _finish(device)
        self.add(name, time.perf_counter() - start, count)

    def each(self, name: str) -> float:
        """Return seconds per thing, or 0 if there was none."""
        return self.seconds[name] / self.counts[name] if self.counts[name] else 0.0

    def rate(self, name: str) -> float:
        """Return things per second, or infinity if they took no time."""
        return self.counts[name] / self.seconds[name] if self.seconds[name] else float("inf")


def _finish(device: torch.device) -> None:
    # A GPU goes on working after a call has returned, so the clock must wait for it.
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timed:
    """A method whose parts are timed.

    `encode` is the text-free part per image, `segment` the rest of the network per expression, and
    `mask` the decision per expression.

    Attributes:
        encoded: time at which the last encoding ended, in seconds of `time.perf_counter`.
    """

    def __init__(self, method: Method, meter: Meter) -> None:
        self.method = method
        self.meter = meter
        self.encoded = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Any:
        """Return what the method's own function returns, and time it."""
        with self.meter.measure("encode", len(images), images.device):
            features = self.method.encode_image(images, draws)
        self.encoded = time.perf_counter()
        return features

    def segment(self, features: Any, text: Text) -> Output:
        """Return what the method's own function returns, and time it."""
        with self.meter.measure("segment", len(text), text.ids.device):
            return self.method.segment(features, text)

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return what the method's own function returns, and time it."""
        with self.meter.measure("mask", 1, logits.device):
            return self.method.mask(logits, geometry)
