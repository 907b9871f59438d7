"""Small fake runs: records that random numbers made, in run directories like those of real runs."""

from pathlib import Path

import numpy as np
import pandas as pd

import methods
from benchmark import strategies
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.runs.groups import Cell, Group
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection
from reports.collected import collect
from reports.compare import comparison

SPLITS = ("val", "testA")
SHA = "0123456789abcdef" * 4
WEAK = "sag"  # a method that is trained without masks

# A metric that a plugin brings: judged, and of columns that all records have.
PLUGIN = """
from benchmark.evaluation.metrics import Metric

RISBENCH = {"metrics": {"pixels": "PIXELS", "late": "LATE"}}
PIXELS = Metric(
    name="pixels",
    heading="size",
    described_by="size is the mean number of pixels in the union.",
    top=lambda records: records["union"].to_numpy(float),
    unit="pixels",
    higher_is_better=False,
    judged=True,
)
LATE = Metric(
    name="late",
    heading="late",
    described_by="late is a metric that no run has recorded.",
    top=lambda records: records["seconds"].to_numpy(float),
    needs=("seconds",),
)
"""


def make_spec(strategy="baseline", seed=0, method="cris", dataset="refshapes", **changes):
    """Return a spec. `changes` are to the strategy's settings or to the recipe."""
    definition, its = methods.definition(method), strategies.get(strategy)
    own = {name: changes.pop(name) for name in [*changes] if name in type(its).model_fields}
    return RunSpec(
        method=method,
        variant="tiny",
        dataset=dataset,
        split_by="unc",
        seed=seed,
        strategy=its.model_copy(update=own),
        recipe=definition.recipes["tiny"].model_copy(update=changes),
        network=definition.variants["tiny"],
        selection=Selection(metric="oiou", report=SPLITS),
        data_sha256=SHA,
        tokenizer="clip-512",
        weights="scratch",
        method_revision=1,
    )


def make_records(random, better=0.0, images=12, sentences=3):
    count = images * sentences
    union = random.integers(50, 400, count)
    swapped_union = random.integers(50, 400, count)
    share = np.clip(random.uniform(0, 0.8, count) + better, 0, 1)
    missing = np.arange(count) % 7 == 0
    swapped = {
        "swapped_intersection": pd.array(swapped_union // 4, dtype="Int64"),
        "swapped_union": pd.array(swapped_union, dtype="Int64"),
    }
    records = pd.DataFrame(
        {
            "image_id": np.repeat(np.arange(images), sentences),
            "ref_id": np.arange(count) // 2,
            "ann_id": np.arange(count) // 2,
            "sent_id": np.arange(count),
            "sentence": [f"shape {number}" for number in range(count)],
            "intersection": (union * share).astype(int),
            "union": union,
            **swapped,
        }
    )
    return records.assign(**{name: records[name].mask(missing) for name in swapped})


def make_run(runs, spec, state="done", better=0.0, environment=None, **status):
    run = RunDir(runs / spec.key)
    run.create(spec)
    seed = spec.seed + 100 * len(spec.strategy.name) + 7 * len(spec.method)
    random = np.random.default_rng(seed)
    result = {"selected": {"epoch": 3 + spec.seed, "oiou": 0.4, "split": "val", "metric": "oiou"}}
    for split in SPLITS:
        records = make_records(random, better)
        run.write_records(split, records)
        result[split] = canonical(metrics.compute(records))
    run.write_json("result.json", result)
    git = {"commit": "c0ffee", "dirty": spec.seed == 1}
    run.write_json("environment.json", {"git": git, **(environment or {})})
    # Nobody here holds a run that is running.
    run.write_status(state, **{"host": "elsewhere"} | status)
    return run


def make_runs(runs: Path, *specs: RunSpec):
    for spec in specs:
        make_run(runs, spec)


def plan(specs, name="set", **fields):
    """Return specs as the cells of a plan."""
    return Group(name, "preset", cells=[Cell.of(spec) for spec in specs], **fields)


def table_of(runs, specs):
    return comparison(collect(plan(specs), runs))


def pick(table, **values):
    """Return the one row of a table that has these values."""
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]
