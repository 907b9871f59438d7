"""Runs that were evaluated under conditions."""

import pytest

from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.results import write_results
from reports.robustness.table import table as table_of
from tests.reports.fakes import make_run, make_spec
from tests.reports.robustness.runs import CONDITIONS, covered, gathered, sentences, worse


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return runs of the baseline and of MaskRIS with three seeds each.

    Conditions cost MaskRIS half of what they cost the baseline.
    """
    runs = tmp_path_factory.mktemp("runs")
    specs = [
        make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)
    ]
    for spec in specs:
        run = make_run(runs, spec, better=0.1 if spec.strategy.name == "maskris" else 0.0)
        clean = sentences(run.records("val"))
        run.write_records("val", clean)
        kept = 0.8 if spec.strategy.name == "maskris" else 0.6
        for number, condition in enumerate(CONDITIONS):
            write_results(run, "val", condition, worse(clean, kept - 0.01 * number))
        write_results(run, "val", CoveredWords(), covered(clean))
    return runs, specs


@pytest.fixture(scope="module")
def found(evaluated):
    runs, specs = evaluated
    every = gathered(runs, specs, [*CONDITIONS, CoveredWords()])
    return every, table_of(every, specs[0].key)
