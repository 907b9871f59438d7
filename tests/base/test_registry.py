"""A toy of each of the seven kinds goes from `risbench matrix` to the table and to MLflow.

They come from a package that the test installs.

Nothing of the suite is edited, and the workers are real processes: they must see the toys, too.
"""

import json
import os
import re
import subprocess
import sys
import tomllib

import pandas as pd
import pytest
import yaml

from benchmark.evaluation import metrics
from tests.helpers import PROJECT, write_boxes

DOCS = PROJECT / "docs" / "extending.md"


def examples():
    """Return file name -> text of the worked examples in the documentation."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return dict(blocks)


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
    """Lay the examples out as pip does. Return the environment in which they are found."""
    for name, text in examples().items():
        (folder / name).write_text(text)
    info = folder / "ris_toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ris-toys\nVersion: 1.0\n")
    (block,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    groups = tomllib.loads(block)["project"]["entry-points"]
    lines = [
        line
        for group, names in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}"}


def named(folder):
    """Name the examples' files in RISBENCH_PLUGINS."""
    for name, text in examples().items():
        (folder / name).write_text(text)
    files = [str(folder / name) for name in examples()]
    return {"RISBENCH_PLUGINS": os.pathsep.join(files), "PYTHONPATH": str(PROJECT)}


def test_the_documented_method_is_the_tests_own():
    assert (
        examples()["toy_method.py"] == (PROJECT / "tests" / "plugins" / "toy_method.py").read_text()
    )
    assert len(examples()) == 7


def risbench(folder, environment, *arguments):
    """Run a command as a user does, in a folder with files that could shadow the packages."""
    for name in ("methods", "reports", "benchmark"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text(
            "raise RuntimeError('this folder is not the suite')\n"
        )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmark.cli", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


MORE = {
    "paper": "More",
    "source": "a test",
    "preset": "../toys.yaml",
    "tables": [
        {
            "place": "Table 1",
            "rows": [
                {"label": "toy", "system": "Toy", "method": "toy", "variant": "tiny"}
                | {"protocol": "lavt"}
            ],
        },
        {
            "place": "Fig. 1",
            "rows": [
                {"label": "toy", "method": "toy", "variant": "tiny"},
                {"label": "dimmed", "method": "toy", "variant": "tiny"} | {"strategy": "dimming"},
            ],
        },
    ],
    "statements": [
        {"id": "inverted", "place": "Fig. 1", "text": "It helps in the dark.", "dataset": "boxes"}
        | {"splits": ["testB"], "metric": "oIoU", "corruptions": "inverted"}
        | {"parts": [["Fig. 1: dimmed", "Fig. 1: toy"]]}
    ],
}


def claims_in(folder):
    """Write the worked example of a paper's claims."""
    blocks = re.findall(
        r"```(?:yaml|csv)\n# claims/([\w.]+)\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    assert [name for name, _ in blocks] == ["dimming.yaml", "published.csv"]
    folder.mkdir()
    for name, text in blocks:
        (folder / name).write_text(text)
    return folder


@pytest.mark.docs
@pytest.mark.slow
def test_the_claims_of_the_documented_paper_are_run_and_answered(tmp_path):
    packages, work = tmp_path / "packages", tmp_path / "work"
    packages.mkdir()
    work.mkdir()
    environment = named(packages)
    data = write_boxes(tmp_path / "data", name="boxes")
    (work / "toys.yaml").write_text(yaml.safe_dump(PRESET | {"data": str(data)}))
    also = ("--also", claims_in(work / "claims"))

    def answers(paper="Dimming"):
        shown = risbench(work, environment, "claims", *also, "--paper", paper, "--format", "json")
        return {row["id"]: row for row in json.loads(shown)}

    before = answers()
    sign, value = (
        "dimming-table-1-toy-dimming-boxes-testa-oiou",
        "dimming-table-1-toy-boxes-testb-oiou-value",
    )
    assert {row["status"] for row in before.values()} == {"not run"} and len(before) == 2 + 4 + 1
    assert before[sign]["command"] == f"risbench claims run {sign}"
    assert (
        before[sign]["runs_to_do"] == 2 and before["dimming-everywhere"]["split"] == "testA, testB"
    )

    out = risbench(
        work, environment, "claims", "run", "dimming", *also, "--seeds", "0,1,2", "--no-sync"
    )
    assert "6 runs in runs: 0 done, 6 to do" in out and sign in out
    after = answers()
    assert after[sign]["seeds"] == [0, 1, 2] and len(after[sign]["runs"]) == 6
    # The toy has learned next to nothing, so its values are not those that the example prints.
    assert after[value]["status"] in ("contradicted", "undecided")
    assert {row["runs_to_do"] for row in after.values()} == {0}
    records = [
        run / "records" / "testB.parquet" for run in (work / "runs").glob("toy-tiny-baseline-*")
    ]
    each = [metrics.compute(pd.read_parquet(path))["oiou"] for path in records]
    assert after[value]["ours"] == pytest.approx(sum(each) / 3) and len(each) == 3

    # What a protocol or a corruption needs is measured by jobs, once.
    (work / "claims" / "more.yaml").write_text(yaml.safe_dump(MORE))
    with (work / "claims" / "published.csv").open("a") as file:
        file.write("More,Table 1,Toy,,boxes,testA,mIoU,41.00,\n")
    more = ("claims", "run", "more", *also, "--no-sync", "--seeds", "0,1,2")
    out = risbench(work, environment, *more)
    assert "more-inverted" in out
    counts = [*(work / "runs").glob("*/published/lavt/testA.parquet")]
    inverted = [*(work / "runs").glob("*/robustness/testB/inverted-5.parquet")]
    assert len(counts) == 3 and len(inverted) == 6
    measured = answers("More")
    assert measured["more-table-1-toy-boxes-testa-miou-value"]["seeds"] == [0, 1, 2]
    assert measured["more-inverted"]["status"] != "not run"
    written = [path.stat().st_mtime_ns for path in (*counts, *inverted)]
    risbench(work, environment, *more)
    assert [path.stat().st_mtime_ns for path in (*counts, *inverted)] == written

    # A second time there is nothing to do, and the runs are members of a plan.
    out = risbench(work, environment, "claims", "run", "dimming-everywhere", *also, "--no-sync")
    assert "2 runs in runs: 2 done, 0 to do" in out
    assert risbench(work, environment, "status", "claims").count("done") == 6


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize("how", [installed, named])
def test_toys_of_every_kind_need_no_edit(tmp_path, how):
    packages, work = tmp_path / "packages", tmp_path / "work"
    packages.mkdir()
    work.mkdir()
    environment = how(packages)
    data = write_boxes(tmp_path / "data", name="boxes")
    preset = work / "toys.yaml"
    preset.write_text(yaml.safe_dump(PRESET | {"data": str(data)}))

    out = risbench(work, environment, "matrix", "--preset", preset, "--launcher", "counting")
    assert "+dimming" in out and "touch" in out and "counting: 2 jobs" in out
    table = pd.read_csv(work / "reports" / "out" / "toys" / "table.csv")
    row = table[
        (table.strategy == "+dimming") & (table.split == "testA") & (table.metric == "touch")
    ]
    assert row.dataset.tolist() == ["boxes"] and row.method.tolist() == ["toy"]
    assert 0 <= row["mean"].item() <= 1
    definitions = (work / "reports" / "out" / "toys" / "table.md").read_text()
    assert (
        "a second pass on images dimmed to 0.5" in definitions
        and "meets the ground truth" in definitions
    )

    runs = sorted(path.parent for path in (work / "runs").glob("*/spec.yaml"))
    launchers = {json.loads((run / "job.json").read_text())["launcher"] for run in runs}
    assert len(runs) == 2 and launchers == {"counting"}
    lines = [
        json.loads(line)
        for run in runs
        for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    assert any("train/loss_dimmed" in line for line in lines)
    assert all("touch" in json.loads((run / "result.json").read_text())["val"] for run in runs)

    out = risbench(
        work, environment, "robustness", *(run.name for run in runs), "--corruptions", "inverted"
    )
    assert (
        "inverted"
        in (work / "reports" / "out" / "runs" / "robustness" / "robustness.csv").read_text()
    )

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{work / 'runs' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "boxes"]
    shown = {
        run.data.params.get("strategy"): run.data.metrics
        for run in client.search_runs([experiment.experiment_id])
        if "ris.key" in run.data.tags  # no parent run
    }
    assert "test/testA/touch" in shown["dimming"] and "train/loss_dimmed" in shown["dimming"]
    assert any(name.startswith("robust/inverted/") for name in shown["dimming"])

    risbench(work, environment, "sync", "--tracker", "ledger")
    assert set(json.loads((work / "runs" / "ledger.json").read_text()).values()) == {"done"}
    assert "boxes" in risbench(work, environment, "data", "check", data)


def test_names_are_known_in_help_and_near_misses(tmp_path):
    packages, work = tmp_path / "packages", tmp_path / "work"
    packages.mkdir()
    work.mkdir()
    environment = named(packages)
    assert "dimming" in risbench(work, environment, "matrix", "--help")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmark.cli", "run", "--strategy", "diming"],
        cwd=work,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "did you mean dimming" in done.stderr


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
