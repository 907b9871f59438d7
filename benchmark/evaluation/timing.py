"""What evaluation costs: seconds of the network's text-free part and of the rest, and what grouping by image saves.

At k expressions per image the network's saving over a loop that treats every expression alone is at most (E + D) / (E / k + D),
with E the text-free part of one image and D the rest of one expression. Decoding and changing the image happen k times less
often in any case.
"""

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
        """Take what `count` things took together."""
        self.seconds[name] += seconds
        self.counts[name] += count

    @contextlib.contextmanager
    def measure(self, name: str, count: int, device: torch.device) -> Iterator[None]:
        """Measure a block; on a GPU up to the end of what it started there."""
        _finish(device)
        start = time.perf_counter()
        yield
        _finish(device)
        self.add(name, time.perf_counter() - start, count)

    def each(self, name: str) -> float:
        """Return seconds per thing; 0 where there was none."""
        return self.seconds[name] / self.counts[name] if self.counts[name] else 0.0

    def rate(self, name: str) -> float:
        """Return things per second; infinite where none took any time."""
        return self.counts[name] / self.seconds[name] if self.seconds[name] else float("inf")


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timed:
    """A method whose text-free part (`encode`, per image), the rest of whose network (`segment`, per expression) and whose
    decision (`mask`, per expression) are timed."""

    def __init__(self, method: Method, meter: Meter) -> None:
        self.method, self.meter, self.encoded = method, meter, 0.0  # when the last encoding ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Any:
        """Return what the method's own does."""
        with self.meter.measure("encode", len(images), images.device):
            features = self.method.encode_image(images, draws)
        self.encoded = time.perf_counter()
        return features

    def segment(self, features: Any, text: Text) -> Output:
        """Return what the method's own does."""
        with self.meter.measure("segment", len(text), text.ids.device):
            return self.method.segment(features, text)

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return what the method's own does."""
        with self.meter.measure("mask", 1, logits.device):
            return self.method.mask(logits, geometry)


def bound(encode: float, segment: float, expressions: float) -> float:
    """Return the largest saving of the network at so many expressions per image; `encode` and `segment` in seconds."""
    return (encode + segment) / (encode / expressions + segment)
