"""Made-up records under conditions, and what is gathered of them."""

import pandas as pd

from benchmark.robustness.corruptions import Condition
from benchmark.robustness.covered_words import CLOSE, OPEN
from benchmark.robustness.occlusion import Occlusion
from benchmark.robustness.results import read_results
from benchmark.runs.rundir import RunDir
from reports.collected import collect
from reports.robustness.results import gather
from tests.reports.fakes import plan

CONDITIONS = [
    Condition("fog", 1),
    Condition("fog", 5),
    Condition("snow", 3),
    Condition("shot_noise", 2),
    Condition("saturate", 2),
    Occlusion("referent", 30),
    Occlusion("background", 30),
]
BOTH = ("baseline", "maskris")
SENTENCES = ["red box", "box on the left", "not blue"]


def sentences(records):
    return records.assign(sentence=[SENTENCES[number % 3] for number in range(len(records))])


def worse(records, share):
    """Return records whose intersections are a share of those given."""
    return records.assign(intersection=(records["intersection"] * share).astype("int64"))


def covered(records):
    """Return records of covered words.

    Covering a word halves the intersection, and covering a colour takes it all.
    """
    rows = []
    for row in records.to_dict("records"):
        parts = row["sentence"].split()
        rows.append(row)
        for place, word in enumerate(parts):
            text = " ".join([*parts[:place], f"{OPEN}{word}{CLOSE}", *parts[place + 1 :]])
            left = 0 if word in ("red", "blue") else row["intersection"] // 2
            rows.append(row | {"sentence": text, "intersection": left})
    return pd.DataFrame(rows)


def gathered(runs, specs, conditions=CONDITIONS):
    return gather(collect(plan(specs), runs), runs, ["val"], conditions)


def oiou(records):
    return records["intersection"].sum() / records["union"].sum()


def of(evaluated, strategy, condition):
    runs, specs = evaluated
    return [
        read_results(RunDir(runs / spec.key), "val", condition)
        for spec in specs
        if spec.strategy.name == strategy
    ]
