"""One toy of each kind that the suite can be extended by: tests install it as a package, or name it in RISBENCH_PLUGINS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.datasets import Count, DataSet
from benchmark.data.refer import ReferDataset, read_refer
from benchmark.evaluation.metrics import Metric
from benchmark.launch.local import LocalLauncher
from benchmark.robustness.corruptions import Corruption
from benchmark.runs.rundir import all_runs
from benchmark.strategies.strategy import MicroBatch, Strategy, logged
from benchmark.tracking.tracker import Summary, Tracker

if TYPE_CHECKING:
    from torch import Tensor

RISBENCH = {
    "strategies": {"dimming": "DIMMING"},
    "datasets": {"boxes": "BOXES"},
    "corruptions": {"inverted": "INVERTED"},
    "metrics": {"touch": "TOUCH"},
    "launchers": {"toy": "ToyLauncher"},
    "trackers": {"toy": "TRACKER"},
}


class Dimming(Strategy):
    """A second pass over images of lower contrast, against the ground truth."""

    level: float = 0.5

    @property
    def passes(self) -> int:
        return 2

    def describe(self) -> list[str]:
        return [f"a second pass on images dimmed to {self.level:g}"]

    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        _, terms, loss = micro.supervised(micro.batch)
        micro.backward(loss, 0.5)
        batch = micro.batch
        dimmed = type(batch)(self.level * batch.images, batch.text, batch.targets, batch.samples, batch.negatives)
        _, _, again = micro.supervised(dimmed, "dimmed pass")
        micro.backward(again, 0.5)
        return logged(0.5 * loss.detach() + 0.5 * again.detach(), terms, loss_dimmed=again)


DIMMING = Dimming(name="dimming")


def read_boxes(root: Path, split_by: str, images: Path | None) -> ReferDataset:
    return read_refer(root, "boxes", split_by, images)


BOXES = DataSet(
    "boxes",
    read_boxes,
    {"unc": ("testA", "testB")},
    counts={"unc": {"val": Count(2, 6, 12)}},
    quirks="Three boxes a picture.",
)

INVERTED = Corruption("inverted", "toys", lambda image, severity, seed: 255 - image)


def touches(predicted: np.ndarray, truth: np.ndarray) -> int:
    return int((predicted & truth.astype(bool)).any())


TOUCH = Metric(
    name="touch",
    heading="touch",
    described_by="touch is the share of expressions whose mask meets the ground truth.",
    top=lambda records: records["touched"].to_numpy(np.float64),
    adds={"touched": touches},
)


class ToyLauncher(LocalLauncher):
    """The local launcher under another name."""

    name = "toy"


class ToyTracker(Tracker):
    """Writes the states of all runs into one JSON file."""

    def sync(self, runs: Path, address: str | None = None) -> Summary:
        states = {run.key: run.status().state for run in all_runs(runs)}
        (runs / "toy_tracker.json").write_text(json.dumps(states))
        return Summary(updated=len(states))

    def ui_command(self, runs: Path, address: str | None, host: str, port: int) -> list[str]:
        return ["cat", str(runs / "toy_tracker.json")]


TRACKER = ToyTracker()
