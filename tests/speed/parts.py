"""The parts whose speed is compared between two states of the code, and how each is measured.

A part is a command in a process of its own. Either the whole process is timed, or it prints a line
of JSON for everything that it has timed itself (`inner`), such as training steps without imports.
"""

import dataclasses
from collections.abc import Sequence

COMMAND = ("-m", "benchmark.cli")
QUIET = ("--no-sync",)
RUN = "{run}"  # stands for the only run of the prepared folder
EXAMPLE = "lavt"  # the method of the commands that need some run
PRESET = """\
description: one tiny network
methods: [METHOD]
strategies: [baseline]
datasets: [refshapes]
variants: [tiny]
seeds: [0]
data: data
refshapes: {train: 128, val: 24, testA: 4, testB: 4, seed: 0}
recipes: {METHOD: {epochs: 1}}
strategy: {patch_size: 8}
selection: {every: 1}
execution: {device: cpu, threads: 1, workers: 0, checkpoint_seconds: 20, log_every: 10}
jobs: 1
"""


@dataclasses.dataclass(frozen=True)
class Part:
    """Something that is timed.

    Attributes:
        names: what chooses it. A part that times several things has several names.
        label: what tables call it, or "" where each line of its output has a label of its own.
        arguments: of Python.
        prepared: arguments of the command that fills its folder before, or nothing.
        fresh: whether every measurement starts from that folder as it was.
        inner: whether the process times itself and prints lines of JSON.
        costs: whether it trains a run, whose own times are shown beside those of the process.
    """

    names: tuple[str, ...]
    label: str
    arguments: tuple[str, ...]
    prepared: tuple[str, ...] = ()
    fresh: bool = False
    inner: bool = False
    costs: bool = False


def every_part(
    methods: Sequence[str],
    variants: Sequence[str],
    counts: Sequence[int],
    inner_repeats: int,
    cores: int,
) -> list[Part]:
    """Return all parts, the shortest ones first.

    Args:
        methods: registered names of those whose networks are timed [all].
        variants: their sizes.
        counts: numbers of constructed finished runs that are listed, reported and synced.
        inner_repeats: how often a process repeats what it times itself.
        cores: how many a process may use.
    """
    repeats = ("--repeats", str(inner_repeats))
    networks = ("--methods", ",".join(methods), "--variants", ",".join(variants))
    trained = (*COMMAND, "matrix", "--preset", preset_file(EXAMPLE), *QUIET)
    split = ("--data", "data", "--split", "val")
    again = (*COMMAND, "robustness", RUN, "--data", "data", "--splits", "val", *QUIET)
    fog = ("--corruptions", "fog", "--severities", "3", "--no-occlusion", "--no-words")
    plan = (*COMMAND, "plan", "--preset", "quick")
    parts = [
        Part(("start-up",), "import of the commands", ("-c", "import benchmark.cli.app")),
        Part(("start-up",), "risbench --help", (*COMMAND, "--help")),
        Part(("start-up",), "import of a trainer", ("-c", "import benchmark.training.trainer")),
        # What is written and cached once is there when it is timed.
        Part(("plan",), "plan --no-measure", (*plan, "--no-measure"), plan),
        Part(("plan",), "plan --preset quick", plan, plan),
        Part(("loading",), "", ("-m", "tests.speed.loading", *repeats), inner=True),
        Part(
            ("step", "forward", "evaluation"),
            "",
            ("-m", "tests.speed.steps", *networks, *repeats, "--threads", str(cores)),
            inner=True,
        ),
        *(_tiny_run(name) for name in methods or (EXAMPLE,)),
        Part(("evaluation",), "evaluate, one split", (*COMMAND, "evaluate", RUN, *split), trained),
        Part(("robustness",), "robustness, one condition", (*again, *fog), trained, fresh=True),
    ]
    for count in counts:
        runs = ("-m", "tests.speed.constructed", "runs", str(count))
        status, report = (*COMMAND, "status"), (*COMMAND, "report", "constructed")
        sync = (*COMMAND, "sync")
        parts += [
            Part(("status",), f"status, {count} runs", status, runs),
            Part(("report",), f"report, {count} runs", report, runs),
        ]
        if count == min(counts):
            parts += [
                Part(("sync",), f"sync, {count} runs", sync, runs, fresh=True),
                # The turn that warms up syncs, and later ones find nothing new.
                Part(("sync",), f"sync again, {count} runs", sync, runs),
            ]
    return parts


def _tiny_run(method: str) -> Part:
    """Return the training of a run whose data are there already."""
    preset = ("--preset", preset_file(method))
    matrix = (*COMMAND, "matrix", *preset, *QUIET)
    data = (*COMMAND, "plan", *preset, "--no-measure")
    return Part(("run",), f"{method} tiny run", matrix, data, fresh=True, costs=True)


def preset_file(method: str) -> str:
    """Return the name of the file of a preset with one tiny run, which is in every folder."""
    return f"one-{method}.yaml"


def preset(method: str) -> str:
    """Return what stands in that file."""
    return PRESET.replace("METHOD", method)


def part_names() -> list[str]:
    """Return the names that choose parts."""
    every = every_part((), (), (1,), 1, 1)
    return list(dict.fromkeys(name for part in every for name in part.names))
