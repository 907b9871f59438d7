"""No module names a registered thing but the one that registers it, so a new thing is one edit."""

import ast
from pathlib import Path

import pytest

import methods
from benchmark import launch, strategies, tracking
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.robustness import corruptions
from tests.helpers import PROJECT

# kind -> (names, what registers them: a file or a folder)
REGISTRIES = {
    "method": (methods.names, "methods"),
    "strategy": (strategies.names, "benchmark/strategies"),
    "data set": (datasets.names, "benchmark/data/datasets.py"),
    "corruption": (corruptions.CORRUPTIONS.names, "benchmark/robustness/corruptions.py"),
    "metric": (metrics.names, "benchmark/evaluation/metrics.py"),
    "launcher": (launch.LAUNCHERS.names, "benchmark/launch"),
    "tracker": (tracking.TRACKERS.names, "benchmark/tracking"),
}
# These words mean something else where they stand.
MEANS_SOMETHING_ELSE = {
    "benchmark/evaluation/published_scores.py": "these are the scores of published protocols",
    "benchmark/evaluation/published.py": "a published protocol is called like its family of code",
    "benchmark/data/combined.py": "this is the reader of `combined`, which is made of three sets",
    "benchmark/data/refshapes": "this is the generator of the embedded sets",
    "benchmark/strategies/cmmasksd.py": "a strategy is called like the network of its paper",
    "benchmark/data/datasets.py": "a data set names the metrics that it has beside the usual ones",
    "benchmark/tracking/mlflow_experiment.py": "this is how MLflow calls data in files",
    "studies/trials/storage.py": "the role of a search's trial is stored under this word",
    "reports/studies/searches/results.py": "this is how a table calls that role",
}


def lies_in(file: Path, place: str) -> bool:
    return (PROJECT / place) in (file, *file.parents)


def modules():
    return [
        file
        for room in ("benchmark", "studies", "reports", "risbench")
        for file in sorted((PROJECT / room).rglob("*.py"))
        if not any(lies_in(file, place) for place in MEANS_SOMETHING_ELSE)
    ]


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_name_stands_only_where_it_is_registered(kind):
    names, place = REGISTRIES[kind]
    known = set(names())
    assert known
    found = [
        f"{file.relative_to(PROJECT)}:{node.lineno} '{node.value}'"
        for file in modules()
        if not lies_in(file, place)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known
    ]
    assert found == []


@pytest.mark.parametrize("place", MEANS_SOMETHING_ELSE)
def test_every_exception_is_still_needed(place):
    every = {name for names, _ in REGISTRIES.values() for name in names()}
    path = PROJECT / place
    files = path.rglob("*.py") if path.is_dir() else [path]
    words = {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert words & every
