"""Small searches of LAVT on the boxes, and what starts and runs them."""

from pathlib import Path

import yaml
from rich.console import Console

from benchmark.cli.app import app, guarded
from benchmark.launch.local import LocalLauncher
from benchmark.runs.execution import Execution, Places
from studies import launcher, study
from studies.trials import (
    default_storage,
    existing,
    run_trial,
)

QUIET = Console(quiet=True)
TRIAL_SPACE = {
    "distill_weight": {"low": 0.0, "high": 0.9},
    "image_mask_ratio": {"low": 0.25, "high": 0.75, "step": 0.25},
}
TRIAL_PAPER = {"distill_weight": 0.5, "image_mask_ratio": 0.75}
SEARCH = {
    "kind": "search",
    "strategy": "maskris",
    "space": TRIAL_SPACE,
    "paper": TRIAL_PAPER,
    "trials": 3,
    "pruner": "none",
}


def command(*arguments) -> int:
    return guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))


def written(folder: Path, **fields) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"description": "a test", "method": "lavt"} | fields))
    return str(path)


def started_search(preset, folder, **fields) -> study.Started:
    return study.start(written(folder, **(SEARCH | fields)), preset, {})


FAST = Execution.of(device="cpu", checkpoint_seconds=0, log_every=2)


def url(runs: Path) -> str:
    return default_storage(runs)


def prepared(preset, tmp_path, **fields) -> tuple[study.Started, Path]:
    runs = tmp_path / "runs"
    found = started_search(preset, tmp_path, **fields)
    found = found.model_copy(
        update={"execution": {"device": "cpu", "checkpoint_seconds": 0, "log_every": 2}}
    )
    study.save(runs, found)
    return found, runs


def places(found, runs) -> Places:
    return Places(found.data, found.images, runs)


def in_order(found, runs, count):
    for _ in range(count):
        run_trial(found, url(runs), found.study.trials, places(found, runs), FAST, QUIET)
    return existing(found, url(runs))


def launch(found, runs, slots: int = 1) -> launcher.Ended:
    there = LocalLauncher(slots, gpus=())
    return launcher.run(found, url(runs), places(found, runs), there, found.how, QUIET)
