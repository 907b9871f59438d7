"""Grids of small fake runs, and what is read from their reports."""

from pathlib import Path

import numpy as np

import methods
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import Selection
from reports.studies.grids import report
from reports.studies.grids.results import results
from studies import study
from studies.grid import Grid
from tests.reports.fakes import make_records, make_spec

SPLITS = ("val", "testA", "testB")


def start(name="components", seeds=(0,), dataset="refshapes", variant="tiny", **changes):
    """Return a shipped grid on fake data. `changes` replace fields of the study."""
    caris = methods.definition("caris")
    its = {
        "method": "caris",
        "variant": variant,
        "recipe": caris.recipes[variant].model_copy(update={"epochs": 4}),
        "network": caris.variants[variant],
        "selection": Selection(metric="oiou", report=SPLITS),
    }
    return study.Started(
        name=f"{name}-quick",
        origin=name,
        preset="quick",
        study=Grid.model_validate({**study.read_study(name, variant).model_dump(), **changes}),
        bases={
            seed: make_spec("baseline", seed, dataset=dataset).model_copy(update=its)
            for seed in seeds
        },
        data=Path("data"),
    )


def finish(runs, spec, better=0.0, seconds=72.0, curve=True):
    run = RunDir(runs / spec.key)
    run.create(spec)
    result = {"selected": {"epoch": 2, "oiou": 0.4, "split": "val", "metric": "oiou"}}
    for number, split in enumerate(SPLITS):
        random = np.random.default_rng([number, spec.seed, round(1000 * better)])
        records = make_records(random, better, images=6)
        run.write_records(split, records)
        result[split] = canonical(metrics.compute(records))
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    run.write_json("costs.json", {"training_seconds": seconds})
    if curve:
        for step in range(0, 100, 25):
            run.log(
                step,
                0,
                {
                    "probe/loss_original": 1.0 + step,
                    "probe/loss_masked": 2.0 + better,
                    "train/loss": 9.0,
                },
            )
    run.write_status("done")


def finish_all(runs, started, but=(), only=None, **more):
    """Finish the runs of a grid: those of all rows, or of some."""
    for number, row in enumerate(started.study.rows):
        if row.label not in but and (only is None or row.label in only):
            for spec in started.row_specs(row):
                finish(runs, spec, 0.03 * number, **more)
    return started


def spec_of(started, label, seed=0):
    (row,) = [row for row in started.study.rows if row.label == label]
    (spec,) = [spec for spec in started.row_specs(row) if spec.seed == seed]
    return spec


def line_of(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def cells(text, title, label):
    """Return the cells of a row in a block of the Markdown."""
    block = text.split(f"### {title}\n")[1].strip().split("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    (found,) = [line for line in lines if line[0] == label]
    return found


def text_of(started, runs):
    """Return the Markdown, without drawing the figures that it shows."""
    return report.as_markdown(results(started, runs), [])


def written(started, runs, out):
    paths = {path.name: path for path in report.write(results(started, runs), out)}
    return paths["table.md"].read_text(), paths
