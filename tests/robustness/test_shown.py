"""What trackers and archives hold of conditions."""

import itertools
import tarfile

import pytest

from benchmark.evaluation import metrics
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.results import read_results
from benchmark.runs.rundir import RunDir
from benchmark.tracking import mlflow_client, mlflow_store
from tests.robustness.asking import CONDITIONS, ask


def test_mlflow_shows_every_condition(fresh):
    ask(fresh[:1], [*CONDITIONS, CoveredWords()])
    runs = fresh[0].path.parent
    mlflow_store.sync(runs)
    client = mlflow_client.client_of(mlflow_client.default_uri(runs))
    experiment = client.get_experiment_by_name("refcoco")
    (shown,) = client.search_runs([experiment.experiment_id], f"tags.`ris.key` = '{fresh[0].key}'")
    expected = metrics.compute(read_results(fresh[0], "val", "fog-5"))
    assert shown.data.metrics["robust/fog/5/val/oiou"] == expected["oiou"]
    assert shown.data.metrics["robust/fog/5/val/miou"] == expected["miou"]
    assert {"robust/image/50/val/oiou", "robust/words/val/miou"} <= shown.data.metrics.keys()
    assert mlflow_store.sync(runs).unchanged == 2
    ask(fresh[:1], [Condition("snow", 1)])
    assert mlflow_store.sync(runs).updated == 1


def test_packed_records_under_conditions_may_be_spread(fresh, tmp_path):
    from benchmark.runs.archive import pack, packed_files
    from benchmark.runs.unpacking import unpack

    ask(fresh)
    runs = fresh[0].path.parent
    plain = [
        sum(p.stat().st_size + 1024 for p in packed_files(run) if "robustness" not in p.parts)
        for run in fresh
    ]
    archives = pack(runs, tmp_path / "out", max(plain) + 1)
    holds = []
    for path in archives:
        with tarfile.open(path) as archive:
            holds.append({name.partition("/")[0] for name in archive.getnames()})
    assert any(one & other for one, other in itertools.combinations(holds, 2)), "one is spread"
    assert unpack(archives, tmp_path / "there").new == 2
    for run in fresh:
        there = RunDir(tmp_path / "there" / run.key)
        assert all(
            read_results(there, "val", its).equals(read_results(run, "val", its))
            for its in CONDITIONS
        )


def test_mlflow_shows_covered_sentences_alone(fresh):
    from benchmark.robustness.covered_words import read_covered

    ask(fresh[:1], [CoveredWords()])
    covered = read_covered(read_results(fresh[0], "val", "words"))
    covered = covered[covered["position"] >= 0]
    shown = fresh[0].read_json("robustness/val/metrics.json")["words"]["oiou"]
    assert shown == pytest.approx(covered["intersection"].sum() / covered["union"].sum())
