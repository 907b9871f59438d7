"""A toy of each of the seven kinds, from a package that the test installs, goes from `risbench matrix` to the table and MLflow.

Nothing of the suite is edited, and the workers are real processes: they must see the toys, too.
"""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from tests.helpers import PROJECT, write_boxes

PLUGINS = PROJECT / "tests" / "plugins"
ENTRY_POINTS = {
    "methods": {"toy": "ris_toy_method:TOY"},
    "strategies": {"dimming": "ris_toys:DIMMING"},
    "datasets": {"boxes": "ris_toys:BOXES"},
    "corruptions": {"inverted": "ris_toys:INVERTED"},
    "metrics": {"touch": "ris_toys:TOUCH"},
    "launchers": {"toy": "ris_toys:ToyLauncher"},
    "trackers": {"toy": "ris_toys:TRACKER"},
}
PRESET = {
    "description": "toys",
    "methods": ["toy"],
    "strategies": ["baseline", "dimming"],
    "datasets": ["boxes"],
    "variants": ["tiny"],
    "seeds": [0],
    "execution": {"device": "cpu", "log_every": 2},
    "jobs": 2,
}


def installed(folder):
    """Lay the toys out as pip lays out an installed package; return the environment in which it is found."""
    (folder / "ris_toys.py").write_text((PLUGINS / "toys.py").read_text())
    (folder / "ris_toy_method.py").write_text((PLUGINS / "toy_method.py").read_text())
    info = folder / "ris_toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ris-toys\nVersion: 1.0\n")
    groups = (
        f"[risbench.{kind}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items())
        for kind, names in ENTRY_POINTS.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}"}


def named(folder):
    """Name the toys' files in RISBENCH_PLUGINS."""
    files = (PLUGINS / "toys.py", PLUGINS / "toy_method.py")
    return {"RISBENCH_PLUGINS": os.pathsep.join(map(str, files)), "PYTHONPATH": str(PROJECT)}


def risbench(folder, environment, *arguments):
    """Run a command as a user does, in a folder of his own that holds what could shadow the suite's packages."""
    for name in ("methods", "reports", "benchmark"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('this folder is not the suite')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmark.cli", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("how", [installed, named])
def test_toys_of_every_kind_need_no_edit(tmp_path, how):
    packages, work = tmp_path / "packages", tmp_path / "work"
    packages.mkdir()
    work.mkdir()
    environment = how(packages)
    data = write_boxes(tmp_path / "data", name="boxes")
    preset = work / "toys.yaml"
    preset.write_text(yaml.safe_dump(PRESET | {"data": str(data)}))

    out = risbench(work, environment, "matrix", "--preset", preset, "--launcher", "toy")
    assert "+dimming" in out and "touch" in out
    table = pd.read_csv(work / "reports" / "out" / "toys" / "table.csv")
    row = table[(table.strategy == "+dimming") & (table.split == "testA") & (table.metric == "touch")]
    assert row.dataset.tolist() == ["boxes"] and row.method.tolist() == ["toy"]
    assert 0 <= row["mean"].item() <= 1
    definitions = (work / "reports" / "out" / "toys" / "table.md").read_text()
    assert "a second pass on images dimmed to 0.5" in definitions and "meets the ground truth" in definitions

    runs = sorted(path.parent for path in (work / "runs").glob("*/spec.yaml"))
    assert len(runs) == 2 and {json.loads((run / "job.json").read_text())["launcher"] for run in runs} == {"toy"}
    lines = [json.loads(line) for run in runs for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("train/loss_dimmed" in line for line in lines)
    assert all("touch" in json.loads((run / "result.json").read_text())["val"] for run in runs)

    out = risbench(work, environment, "robustness", *(run.name for run in runs), "--corruptions", "inverted")
    assert "inverted" in (work / "reports" / "out" / "runs" / "robustness" / "robustness.csv").read_text()

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{work / 'runs' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "boxes"]
    shown = {run.data.tags.get("ris.strategy"): run.data.metrics for run in client.search_runs([experiment.experiment_id])}
    assert "test/testA/touch" in shown["dimming"] and "train/loss_dimmed" in shown["dimming"]
    assert any(name.startswith("robust/val/inverted/") for name in shown["dimming"])

    risbench(work, environment, "sync", "--tracker", "toy")
    assert set(json.loads((work / "runs" / "toy_tracker.json").read_text()).values()) == {"done"}
    assert "boxes" in risbench(work, environment, "data", "check", data)


def test_names_are_known_in_help_and_near_misses(tmp_path):
    environment = named(tmp_path)
    assert "dimming" in risbench(tmp_path, environment, "matrix", "--help")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmark.cli", "run", "--strategy", "diming"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "did you mean dimming" in done.stderr


def test_a_plugin_that_takes_a_shipped_name_is_refused(tmp_path, monkeypatch):
    from benchmark import strategies
    from benchmark.base.errors import UserError

    path = tmp_path / "mine.py"
    path.write_text('RISBENCH = {"strategies": {"maskris": "MINE"}}\n')
    monkeypatch.setenv("RISBENCH_PLUGINS", str(path))
    with pytest.raises(UserError, match="'maskris' of .*mine.py has the name of one of risbench"):
        strategies.names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RISBENCH = 3\n", "needs a line such as"),
        ("x = 1\n", "needs a line such as"),
        ("def broken(:\n", "no valid Python"),
        ('RISBENCH = {"strategy": {"mine": "MINE"}}\n', "did you mean strategies"),
    ],
)
def test_a_damaged_plugin_file_is_one_sentence(tmp_path, monkeypatch, text, message):
    from benchmark import strategies
    from benchmark.base.errors import UserError

    path = tmp_path / "mine.py"
    path.write_text(text)
    monkeypatch.setenv("RISBENCH_PLUGINS", str(path))
    with pytest.raises(UserError, match=message):
        strategies.names()
