"""What needs no tensor imports no torch, so it answers at once and where torch is broken."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.commands import keys, run
from tests.helpers import PROJECT

# It runs commands one after the other, and says after each which heavy packages are imported.
CODE = """
import json, sys
from benchmark.cli.app import app, guarded

HEAVY = "torch torchvision transformers timm open_clip"
for arguments in json.loads(sys.argv[1]):
    try:
        code = guarded(lambda: app(arguments))
    except SystemExit as end:
        code = end.code
    said = [code, arguments, [name for name in HEAVY.split() if name in sys.modules]]
    print(json.dumps(said), file=sys.stderr)
"""
LIGHT = [
    ["--help"],
    ["matrix", "--help"],
    ["evaluate", "--help"],
    ["robustness", "--help"],
    ["study", "run", "--help"],
    ["data", "write", "--help"],
    ["plan", "--preset", "{world}/boxes.yaml", "--no-measure"],
    ["status"],
    ["status", "boxes"],
    ["report", "boxes", "--out", "{out}"],
    ["examples", "boxes", "--split", "val"],
    ["score", "--help"],
    ["score", "{masks}", "--dataset", "refcoco", "--name", "light", "--data", "{data}"],
    ["claims", "--help"],
    ["claims", "--status", "not run"],
    ["plan", "--preset", "paper", "--card", "h100,4090"],
    ["study", "list"],
    ["study", "show", "light"],
    ["sync", "--uri", "sqlite:///{out}/mlflow.db"],
    ["clean", "--yes"],
]


def shell(world, *commands):
    """Run commands in one other process, and return what it printed."""
    own = {"RISBENCH_RUNS": str(world / "runs"), "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands)],
        capture_output=True,
        text=True,
        env=os.environ | own,
        timeout=120,
        check=True,
    )


@pytest.fixture(scope="module")
def grid(world):
    """Start a study in the world's folder of runs, without a run of it."""
    from benchmark.runs.execution import Places
    from studies import study

    rows = [{"label": name, "strategy": name} for name in ("baseline", "maskris")]
    text = {"description": "a test", "kind": "grid", "method": "cris", "place": "Table 3"}
    path = world / "light.yaml"
    path.write_text(str(text | {"reference": "baseline", "rows": rows}))
    places = Places(None, runs=world / "runs")
    preset = str(world / "boxes.yaml")
    study.save(world / "runs", study.start(str(path), preset, {}, places, called="light"))


def test_they_import_no_network_library(world, grid, tmp_path):
    data, masks = world / "data", tmp_path / "masks.parquet"
    places = ["--split", "val", "--out", masks, "--runs", world / "runs"]
    assert run("predict", keys(world)[0], *places) == 0
    commands = [
        [part.format(out=tmp_path, data=data, masks=masks, world=world) for part in arguments]
        for arguments in LIGHT
    ]
    said = [json.loads(line) for line in shell(world, *commands).stderr.splitlines()]
    assert said == [[0, arguments, []] for arguments in commands]


def test_a_plan_of_what_was_timed_imports_no_network_library(world, tmp_path, monkeypatch):
    """What is timed is kept for the next plan, which has the same numbers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    command = ["plan", "--preset", str(world / "boxes.yaml")]
    assert run(*command, "--runs", world / "runs") == 0
    done = shell(world, command)
    assert [json.loads(line) for line in done.stderr.splitlines()] == [[0, command, []]]
    assert "timed earlier" in done.stdout and "--measure" in done.stdout


def test_a_group_of_options_keeps_its_help_and_limits(world):
    shown = shell(world, ["evaluate", "--help"], ["evaluate", "x", "--noise-seeds", "0"])
    assert "--text-blind" in shown.stdout and "--no-text-blind" not in shown.stdout
    assert "checkpoint file" in shown.stdout
    assert '[2, ["evaluate", "x"' in shown.stderr and "'--noise-seeds'" in shown.stderr


def complete(world, line, **variables):
    """Return what a shell is offered for the last word of a command line."""
    words = line.split(" ")
    typed = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "from benchmark.cli.app import app\napp(prog_name='risbench')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ
        | {"RISBENCH_RUNS": str(world / "runs"), "PYTHONPATH": str(PROJECT)}
        | {"_RISBENCH_COMPLETE": "complete_bash", **typed, **variables},
        timeout=60,
    )
    return done.stdout.split()


def test_completion_follows_the_registries(world, tmp_path):
    assert complete(world, "risbench matrix --methods la") == ["lavt"]
    assert complete(world, "risbench matrix --methods cris,la") == ["cris,lavt"]
    assert complete(world, "risbench report --strategies masking") == ["masking"]
    (tmp_path / "mine.py").write_text('RISBENCH = {"methods": {"lavender": "X"}}\n')
    plugins = {"RISBENCH_PLUGINS": str(tmp_path / "mine.py")}
    offered = complete(world, "risbench matrix --methods la", **plugins)
    assert sorted(offered) == ["lavender", "lavt"]


def test_completion_offers_runs(world):
    offered = complete(world, "risbench evaluate cris-tiny-m")
    assert offered and all(key.startswith("cris-tiny-maskris-refcoco-s0-") for key in offered)


# It counts how often a command opens each file below a folder.
COUNTING = """
import collections, sys
folder, opened = sys.argv.pop(1), collections.Counter()

def count(event, arguments):
    # Several figures may show one picture of the examples.
    opens = event == "open" and str(arguments[0]).startswith(folder)
    if opens and "/examples/" not in str(arguments[0]):
        opened[str(arguments[0])] += 1

sys.addaudithook(count)
from benchmark.cli.app import app, guarded

try:
    guarded(app)
except SystemExit:
    pass
print("\\ntwice:", *(f"{name} {times}" for name, times in opened.items() if times > 1))
print("opened:", len(opened))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--preset", "{world}/boxes.yaml", "--no-measure", "--seeds", "0,1", "--name", "x"],
        ["status", "boxes"],
        ["report", "boxes", "--out", "{out}"],
    ],
    ids=" ".join,
)
def test_a_command_opens_each_file_once(world, tmp_path, arguments):
    """The content of data is hashed once in its life, and here it was already."""
    assert run("plan", "--preset", world / "boxes.yaml", "--no-measure") == 0
    parts = [part.format(world=world, out=tmp_path) for part in arguments]
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(world), *parts],
        capture_output=True,
        text=True,
        env=os.environ | {"RISBENCH_RUNS": str(world / "runs"), "PYTHONPATH": str(PROJECT)},
        timeout=120,
    )
    *_, twice, opened = done.stdout.splitlines()
    assert twice == "twice:", done.stdout
    assert int(opened.split()[1]) > 2
