"""Runs of claims, made of constructed records: what they have is what a test says."""

import dataclasses

import numpy as np
import pandas as pd

import methods
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.evaluation.published_scores import write_counts
from benchmark.evaluation.records import canonical
from benchmark.planning import hours
from benchmark.robustness.corruptions import SEVERITIES, Condition
from benchmark.robustness.results import write_results
from benchmark.runs import splits
from benchmark.runs.predictions import PredictionsSpec, ScoredSplit, StandsFor
from benchmark.runs.rundir import RunDir

PIXELS = 1000


def records(expressions, share, images, seed=0):
    """Return records in which every expression has about `share` of IoU."""
    random = np.random.default_rng(seed)
    own = np.clip(share + 0.02 * random.standard_normal(expressions), 0, 1)
    number = np.arange(expressions)
    nothing = pd.array([pd.NA] * expressions, dtype="Int64")
    return pd.DataFrame(
        {
            "image_id": number % images,
            "ref_id": number,
            "ann_id": number,
            "sent_id": number,
            "sentence": "a thing",
            "intersection": np.round(own * PIXELS).astype(int),
            "union": PIXELS,
            "swapped_intersection": nothing,
            "swapped_union": nothing,
        }
    )


def finish(
    runs,
    arm,
    seed,
    share,
    only=("val", "testA", "testB"),
    expressions=None,
    sha="a" * 64,
    **recipe,
):
    """Write a finished run of an arm.

    Args:
        share: IoU of its expressions, or split -> IoU.
        only: splits that it reports, as a run writes them.
        expressions: in each split, in place of the published number.
        recipe: changes to the recipe.
    """
    spec = arm.spec.model_copy(
        update={
            "seed": seed,
            "data_sha256": sha,
            "tokenizer": "words",
            "weights": "w" * 64,
            "recipe": arm.spec.recipe.model_copy(update=recipe),
            "selection": arm.spec.selection.model_copy(update={"report": tuple(only)}),
        }
    )
    run = RunDir(runs / spec.key)
    run.create(spec)
    result = {"selected": {"epoch": 9, "oiou": 0.4, "split": "val", "metric": "oiou"}}
    for split in only:
        name, split_by, own = splits.owner(split) or (spec.dataset, spec.split_by, split)
        known = datasets.get(name).counts.get(split_by, {}).get(own)
        count = expressions or (known.expressions if known else 60)
        level = share[split] if isinstance(share, dict) else share
        table = records(count, level, max(count // 8, 6), seed=seed)
        run.write_records(split, table)
        result[split] = canonical(metrics.compute(table))
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    samples = hours.samples(spec)
    steps = samples // spec.recipe.batch_size if samples else 10
    run.write_status("done", step=steps, steps=steps)
    return run


def measure(run, protocol, split, share):
    """Write what a published protocol counted of a finished run."""
    own = run.records(split)
    seed = run.any_spec().seed
    table = records(len(own), share, own["image_id"].nunique(), seed=100 + seed)
    counts = table[["image_id", "sent_id", "intersection", "union"]]
    write_counts(run, protocol, split, counts, own)


def corrupt(run, split, corruption, share):
    """Write the records of a finished run under all severities of a corruption."""
    own = run.records(split)
    for severity in SEVERITIES:
        table = records(len(own), share, own["image_id"].nunique(), seed=severity)
        write_results(run, split, Condition(corruption, severity), table)


def tiny(arm, patch_size=8):
    """Return an arm with the tiny network on RefShapes, which is not that of the paper."""
    definition = methods.definition(arm.spec.method)
    update = {
        "variant": "tiny",
        "dataset": "refshapes",
        "network": definition.variants["tiny"],
        "recipe": definition.recipes["tiny"],
        "strategy": arm.spec.strategy.model_copy(
            update={"patch_size": patch_size}
            if "patch_size" in type(arm.spec.strategy).model_fields
            else {}
        ),
    }
    return dataclasses.replace(arm, spec=arm.spec.model_copy(update=update))


def elsewhere(runs, arm, seed, share, name, only=("testA",)):
    """Write predictions that were made elsewhere and stand for an arm's row."""
    spec = PredictionsSpec(
        name=name,
        dataset=arm.spec.dataset,
        split_by=arm.spec.split_by,
        seed=seed,
        stands_for=StandsFor(
            method=arm.spec.method, variant=arm.spec.variant, strategy=arm.spec.strategy.name
        ),
        data_sha256="a" * 64,
    )
    run, result = RunDir(runs / spec.key), {}
    for split in only:
        count = datasets.get(spec.dataset).counts[spec.split_by][split].expressions
        table = records(count, share, max(count // 8, 6), seed=seed)
        run.write_records(split, table)
        result[split] = canonical(metrics.compute(table))
        spec = spec.with_split(split, ScoredSplit(masks_sha256="b" * 64, expressions=count))
    run.create(spec)
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    run.write_status("done")
    return run
