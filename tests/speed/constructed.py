"""Constructed finished runs, on which the growth of reports is measured.

python -m tests.speed.constructed FOLDER COUNT
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import methods
from benchmark import strategies
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.runs.groups import Cell, Group, write_plan
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection

SPLITS = {"val": (100, 682), "testA": (60, 380), "testB": (60, 381)}  # images, expressions
SEEDS = range(3)
PLAN = "constructed"


def construct(runs: Path, count: int, name: str) -> Group:
    """Write `count` finished runs with records as large as those of the quick matrix, as a plan.

    The runs differ in method, strategy, learning rate and seed.

    Args:
        runs: folder for the run directories.
        count: number of runs.
        name: of the plan.
    """
    fitting = [its for its in methods.names() if "tiny" in methods.definition(its).variants]
    specs: list[RunSpec] = []
    rate = 0
    while len(specs) < count:
        rate += 1
        for method in fitting:
            for strategy in (strategies.reference().name, "maskris"):
                specs += [_spec(method, strategy, seed, rate) for seed in SEEDS]
    specs = specs[:count]
    for number, spec in enumerate(specs):
        _finish(RunDir(runs / spec.key), spec, number)
    return write_plan(runs, Group(name, "preset", cells=[Cell.of(spec) for spec in specs]))


def _spec(method: str, strategy: str, seed: int, rate: int) -> RunSpec:
    definition = methods.definition(method)
    recipe = definition.recipes["tiny"].model_copy(update={"learning_rate": 1e-4 * rate})
    return RunSpec(
        method=method,
        variant="tiny",
        dataset="refshapes",
        split_by="unc",
        seed=seed,
        strategy=strategies.get(strategy),
        recipe=recipe,
        network=definition.variants["tiny"],
        selection=Selection(metric="oiou", report=tuple(SPLITS)),
        data_sha256="0" * 64,
        tokenizer="constructed",
        weights="scratch",
        method_revision=1,
    )


def _finish(run: RunDir, spec: RunSpec, number: int) -> None:
    run.create(spec)
    random = np.random.default_rng(number)
    result = {"selected": {"epoch": 1, "oiou": 0.4, "split": "val", "metric": "oiou"}}
    for split, (images, expressions) in SPLITS.items():
        records = _records(random, images, expressions)
        run.write_records(split, records)
        result[split] = canonical(metrics.compute(records))
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    times = {"training_seconds": 60.0, "evaluation_seconds": 6.0}
    run.write_json("costs.json", times | {"training_images_per_second": 100.0})
    run.log(10, 1, {"train/loss": 0.5})
    run.write_status("done", step=10, steps=10)


def _records(random: np.random.Generator, images: int, expressions: int) -> pd.DataFrame:
    union = random.integers(50, 400, expressions)
    number = np.arange(expressions)
    swapped = pd.array(random.integers(50, 400, expressions), dtype="Int64")
    return pd.DataFrame(
        {
            "image_id": number % images,
            "ref_id": number // 2,
            "ann_id": number // 2,
            "sent_id": number,
            "sentence": "the red circle",
            "intersection": (union * random.uniform(0, 1, expressions)).astype(int),
            "union": union,
            "swapped_intersection": swapped // 3,
            "swapped_union": swapped,
            "target_pixels": union,
        }
    )


if __name__ == "__main__":
    construct(Path(sys.argv[1]), int(sys.argv[2]), PLAN)
