"""The robustness command: what it asks, reports and refuses."""

import re

import pytest

from benchmark.launch import progress
from benchmark.launch.jobs import robustness_job
from benchmark.launch.local import LocalLauncher
from benchmark.robustness import run as run_module
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.runs.execution import Execution, Places
from benchmark.runs.groups import write_plan
from benchmark.runs.preset import read_preset
from benchmark.runs.resolve import resolve_preset
from tests.robustness.asking import CONDITIONS, ask


def command(*arguments):
    from tests.cli.test_cli import run

    return run(*arguments)


def test_the_command_asks_reports_and_says_what_it_wrote(fresh, tmp_path, capsys):
    runs, out = fresh[0].path.parent, tmp_path / "out"
    options = [
        "--runs",
        runs,
        "--out",
        out,
        "--corruptions",
        "fog,shot_noise",
        "--severities",
        "1,4",
        "--no-sync",
    ]
    assert command("robustness", fresh[0].key, "--no-occlusion", "--no-words", *options) == 0
    text = capsys.readouterr().out
    assert "mPC*" in text
    log = (runs / "robustness" / "refcoco-unc" / "log.txt").read_text()
    assert "images/s of one process: decode" in log
    written = {path.name for path in (out / "runs" / "robustness").iterdir()}
    assert {"robustness.md", "robustness.csv", "severity-refcoco-val-cris-tiny.png"} <= written
    strips = {path.name for path in (out / "runs" / "strips").iterdir()}
    assert "strip-refcoco-val-cris-tiny.png" in strips
    assert finished_conditions(fresh[0], "val") == [
        "fog-1",
        "fog-4",
        "shot_noise-1",
        "shot_noise-4",
    ]
    first = (out / "runs" / "robustness" / "robustness.md").read_bytes()
    assert command("robustness", fresh[0].key, "--no-occlusion", "--no-words", *options) == 0
    assert "done     refcoco-unc" in capsys.readouterr().out
    log = (runs / "robustness" / "refcoco-unc" / "log.txt").read_text()
    assert "every condition was evaluated before, so no network ran" in log
    assert (out / "runs" / "robustness" / "robustness.md").read_bytes() == first


def test_a_job_shows_the_share_of_its_results(fresh, capsys, monkeypatch):
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0)
    ask(fresh[:1], [Condition("fog", 1)])
    options = ["--runs", fresh[0].path.parent, "--corruptions", "fog", "--severities", "1,4"]
    options += ["--no-occlusion", "--no-words", "--no-sync", "--no-report", "--jobs", "1"]
    assert command("robustness", *(run.key for run in fresh), *options) == 0
    shares = re.findall(r"1 running: refcoco-unc (.+)", capsys.readouterr().out)
    # One of four results is there before, and none is lost.
    assert shares[0] == "25 %" and {*shares} <= {"25 %", "50 %", "75 %", "100 %"}


def test_a_job_is_over_when_all_that_it_makes_is_there(fresh):
    places = Places(None, runs=fresh[0].path.parent)
    conditions = [*CONDITIONS[:2], CoveredWords()]
    execution = Execution.of(device="cpu")
    job = robustness_job("job", fresh, conditions, ["val"], places, execution, LocalLauncher(1))
    assert progress.share_of(job.folder, job.makes) == progress.Share(0, 6, "results")
    ask(fresh, conditions[:1])
    assert progress.share_of(job.folder, job.makes) == progress.Share(2, 6, "results")
    ask(fresh, conditions)
    assert progress.share_of(job.folder, job.makes).words == "100 %"


def test_language_subsets_need_no_network(fresh, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run_module, "load_all", lambda *_: pytest.fail("a network was loaded"))
    options = [
        "--corruptions",
        "none",
        "--no-occlusion",
        "--no-words",
        "--no-sync",
        "--runs",
        fresh[0].path.parent,
    ]
    folder = tmp_path / "out" / "runs" / "robustness"
    folder.mkdir(parents=True)
    (folder / "strip-of-another-run.png").write_bytes(b"")
    assert command("robustness", fresh[0].key, *options, "--out", tmp_path / "out") == 0
    assert "colour" in (folder / "robustness.md").read_text()
    assert not (folder / "strip-of-another-run.png").exists()


def test_a_preset_asks_the_finished_runs_of_its_matrix(fresh, boxes, tmp_path, capsys):
    import yaml

    preset = {
        "description": "boxes",
        "methods": ["cris", "lavt"],
        "strategies": ["baseline", "maskris"],
        "datasets": ["refcoco"],
        "variants": ["tiny"],
        "seeds": [0],
        "data": str(boxes),
        "recipes": {
            name: {"epochs": 2, "batch_size": 4, "micro_batch": 4} for name in ("cris", "lavt")
        },
        "selection": {"every": 1},
        "strategy": {"patch_size": 8},
        "primary": {"full": "miou"},
        "robustness": {
            "corruptions": ["contrast"],
            "severities": [5],
            "occlusion": {"targets": ["referent"], "percents": [50]},
            "words": False,
        },
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(preset))
    runs = fresh[0].path.parent
    whole = read_preset(str(tmp_path / "two.yaml"))
    write_plan(runs, resolve_preset("two", whole, Places(boxes, runs=runs)).group(whole))
    assert (
        command(
            "robustness",
            "--preset",
            tmp_path / "two.yaml",
            "--runs",
            runs,
            "--out",
            tmp_path / "out",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "2 of the 4 runs of the matrix are not finished" in out
    assert all(finished_conditions(run, "val") == ["contrast-5", "referent-50"] for run in fresh)
    assert (tmp_path / "out" / "two" / "robustness" / "occlusion-refcoco-val.png").exists()
    # What a terminal shows is of the plan's primary metric alone.
    assert "mIoU" in out and "oIoU" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "quik"], "did you mean quick"),
        (["--preset", "demo", "--name", "other"], "no run of the plan 'other' is finished"),
        (["RUN", "--corruptions", "fogg"], "did you mean fog"),
        (["RUN", "--severities", "0"], "severity '0'"),
        (["RUN", "--severities", "x"], "takes whole numbers"),
        (["RUN", "--splits", "vall"], "did you mean val"),
        (["RUN", "--reference", "OTHER"], "is not among the runs that are evaluated"),
        (["no-such-run"], "is not known"),
    ],
)
def test_a_user_error_is_one_sentence(fresh, tmp_path, capsys, options, message):
    named = {"RUN": fresh[0].key, "OTHER": fresh[1].key}
    arguments = [named.get(option, option) for option in options]
    assert (
        command(
            "robustness", *arguments, "--runs", fresh[0].path.parent, "--out", tmp_path, "--no-sync"
        )
        == 2
    )
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_jobs_at_a_time_share_the_runs_of_a_data_set(fresh, capsys):
    runs = fresh[0].path.parent
    options = ["--runs", runs, "--corruptions", "fog", "--severities", "1", "--no-occlusion"]
    options += ["--no-words", "--no-sync", "--no-report"]
    keys = [run.key for run in fresh]
    assert command("robustness", *keys, *options, "--jobs", "3") == 0
    assert "done     refcoco-unc-2" in capsys.readouterr().out
    shared = [read_results(run, "val", "fog-1") for run in fresh]
    for name in ("refcoco-unc", "refcoco-unc-2"):
        assert " 1 runs" in (runs / "robustness" / name / "log.txt").read_text()
    for run in fresh:
        results_path(run, "val", "fog-1").unlink()
    assert command("robustness", *keys, *options, "--jobs", "1") == 0
    for run, before in zip(fresh, shared, strict=True):
        assert read_results(run, "val", "fog-1").equals(before)
