"""Jobs of the suite: their command lines, what they need, and what becomes of the runs."""

import dataclasses
import io
import json
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.base.pretrained import Source
from benchmark.launch import progress
from benchmark.launch.base import Job, JobStatus, State, read_job
from benchmark.launch.jobs import (
    PYTHON,
    environment,
    pseudo_masks_job,
    resources,
    robustness_job,
    run_job,
    run_jobs,
    trial_job,
)
from benchmark.launch.local import LocalLauncher
from benchmark.launch.outcomes import outcome_of, work_through
from benchmark.runs.execution import Execution, Places
from benchmark.runs.rundir import RunDir
from tests.helpers import PROJECT, tiny_matrix

QUIET = Console(quiet=True)
CPU = Execution.of(device="cpu", threads=3, log_every=7)
HERE = LocalLauncher(2, gpus=())


@pytest.fixture
def places(tmp_path):
    source = Source(Path("weights"), offline=True)
    return Places(Path("data"), Path("photos"), tmp_path, weights=source)


@pytest.fixture
def shadows(tmp_path, monkeypatch):
    """Work in a folder whose packages have the names of the suite's own and cannot be imported."""
    for name in ("benchmark", "methods", "studies", "reports"):
        package = tmp_path / "mine" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"raise ImportError('this is the {name} of a user')")
    monkeypatch.chdir(tmp_path / "mine")


def value(command: tuple[str, ...], option: str) -> str:
    return command[command.index(option) + 1]


# --- commands and needs ---------------------------------------------------------------------------


def test_a_child_is_told_places_and_execution(places):
    run = RunDir(places.runs / "a-key")
    job = run_job(run, places, CPU, HERE, after=("first",))
    assert job.command[:6] == (sys.executable, "-P", "-m", "benchmark.cli", "resume", "a-key")
    told = {
        "--runs": str(places.runs),
        "--data": "data",
        "--images": "photos",
        "--pretrained": "weights",
    }
    told |= {"--device": "cpu", "--threads": "3", "--log-every": "7", "--workers": "0"}
    told |= {"--checkpoint-seconds": "60.0", "--processes": "1", "--stall-seconds": "600.0"}
    assert {option: value(job.command, option) for option in told} == told
    assert {"--offline", "--no-compile", "--no-checkpointing"} <= {*job.command}
    short = run_job(run, places, CPU.changed(checkpointing=True), HERE).command
    assert "--checkpointing" in short and "--no-checkpointing" not in short
    assert (job.name, job.log, job.folder) == ("a-key", run.path / "log.txt", run.path)
    assert job.after == ("first",) and job.resources.threads == 3
    assert job.environment["OMP_NUM_THREADS"] == "3"


def test_several_processes_are_started_by_torchrun(places):
    job = run_job(RunDir(places.runs / "a-key"), places, CPU.changed(processes=2), HERE)
    assert job.command[:4] == (*PYTHON, "torch.distributed.run") and job.command[1] == "-P"
    assert value(job.command, "--processes") == "2" and "--nproc-per-node=2" in job.command
    assert job.environment["PYTHONSAFEPATH"] == "1"  # torchrun starts its processes without -P
    assert job.resources.threads == 6


def test_jobs_of_one_run_keep_their_ids_apart(places):
    run = RunDir(places.runs / "a-key")
    first = run_job(run, places, CPU, HERE)
    masks = pseudo_masks_job(run, places, CPU, HERE, after=(first.name,))
    assert masks.command[4:6] == ("pseudo-masks", "a-key") and masks.after == ("a-key",)
    assert masks.folder != first.folder and masks.name != first.name


def test_a_trial_gets_its_storage_out_of_sight(places):
    storage = "postgresql+psycopg://me:secret@host/db"
    log = places.runs / "log.txt"
    job = trial_job("search", "search-1", storage, 9, log, places, CPU, HERE)
    assert (
        job.command[4:7] == ("study", "trial", "search") and value(job.command, "--budget") == "9"
    )
    assert value(job.command, "--job") == job.name == "search-1"
    assert not any("secret" in part for part in job.command)
    assert job.environment["RISBENCH_STORAGE"] == storage


def test_robustness_names_runs_and_conditions(places):
    runs = [RunDir(places.runs / key) for key in ("a", "b")]
    conditions, splits = ["fog-3", "words"], ["val", "testA"]
    job = robustness_job("fog", runs, conditions, splits, places, CPU, HERE, cache=Path("kept"))
    assert job.command[4:7] == ("robustness", "a", "b")
    assert value(job.command, "--conditions") == "fog-3,words"
    assert value(job.command, "--splits") == "val,testA" and value(job.command, "--cache") == "kept"


@pytest.mark.parametrize(
    ("settings", "slots", "cards", "gpus"),
    [
        ({"device": "cpu"}, 4, 2, 0),
        ({"device": "auto"}, 4, 0, 0),
        ({"device": "auto"}, 1, 2, 1),
        ({"device": "cuda"}, 2, 2, 1),
        ({"device": "cuda"}, 3, 2, 1 / 2),
        ({"device": "cuda"}, 3, 1, 1 / 3),
        ({"device": "cuda"}, 1, 0, 1),
        ({"device": "cuda", "processes": 2}, 4, 2, 2),
    ],
)
def test_slots_beyond_the_cards_share_them(settings, slots, cards, gpus):
    launcher = LocalLauncher(slots, gpus=[str(card) for card in range(cards)])
    assert resources(Execution.of(**settings), launcher).gpus == gpus


def test_a_folder_of_the_user_does_not_shadow_the_suite(shadows, tmp_path):
    code = "import benchmark, methods, studies, reports; print(benchmark.__file__)"
    grandchild = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    launcher = LocalLauncher(2)
    jobs = [
        Job(name, command, tmp_path / f"{name}.txt", environment(CPU))
        for name, command in {
            "command": (*PYTHON, "benchmark.cli", "--help"),
            "grandchild": (sys.executable, "-P", "-c", grandchild),
        }.items()
    ]
    outcomes = work_through(launcher, jobs, QUIET)
    logs = [job.log.read_text() for job in jobs]
    assert [outcome.state for outcome in outcomes] == ["done", "done"], logs
    assert str(tmp_path) not in logs[1]


def test_what_others_need_comes_first(boxes, tmp_path):
    """One command goes from nothing to a run whose targets another run makes."""
    found = tiny_matrix(
        boxes, tmp_path, methods=("lavt", "tris_step2"), strategies=("baseline", "maskris")
    )
    specs = (*found.specs, *found.needed)
    runs = {spec.key: RunDir(tmp_path / spec.key) for spec in specs}
    for spec in specs:
        runs[spec.key].create(spec)

    def jobs() -> dict[str, Job]:
        return {job.name: job for job in run_jobs([*runs.values()], found.places, CPU, HERE)}

    (teacher,) = [spec.key for spec in found.needed]
    students = [spec.key for spec in found.specs if spec.method == "tris_step2"]
    masks = f"{teacher} pseudo masks"
    order = list(jobs())
    assert order[0] == teacher and set(order) == {*runs, masks}
    assert jobs()[masks].after == (teacher,)
    assert all(jobs()[key].after == (masks,) for key in students)
    # Runs of two passes begin before those of one.
    of_two = [key for key in order if key in runs and runs[key].spec().strategy.passes == 2]
    of_one = [key for key in order if key in runs and key not in (*of_two, teacher)]
    assert max(map(order.index, of_two)) < min(map(order.index, of_one))

    runs[teacher].write_status("done")
    assert teacher not in jobs() and jobs()[masks].after == ()
    runs[teacher].write_json("pseudo.json", {})
    assert set(jobs()) == {spec.key for spec in found.specs}
    assert all(job.after == () for job in jobs().values())


# --- what becomes of runs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status", "outcome", "said"),
    [
        ("done", JobStatus(State.ENDED, 0), "done", ""),
        ("done", JobStatus(State.ENDED, -9), "done", ""),
        ("planned", JobStatus(State.ENDED, 130), "stopped", ""),
        ("planned", JobStatus(State.ENDED, -signal.SIGINT, asked=True), "stopped", ""),
        ("planned", JobStatus(State.ENDED, 1, asked=True), "stopped", ""),  # torchrun's own code
        ("failed", JobStatus(State.ENDED, 1), "failed", "the disk is full"),
        (
            "running",
            JobStatus(State.ENDED, -9),
            "failed",
            "was killed by signal 9 (out of memory?)",
        ),
        ("running", JobStatus(State.ENDED), "failed", "nobody saw its exit code"),
        ("planned", JobStatus(State.NOT_STARTED, reason="x failed"), "not started", "x failed"),
        ("planned", JobStatus(State.NOT_STARTED, asked=True), "stopped", ""),
    ],
)
def test_outcomes_of_runs(tmp_path, state, status, outcome, said):
    run = RunDir(tmp_path / "a-key")
    run.path.mkdir()
    run.write_status(state, **({"reason": "the disk is full"} if state == "failed" else {}))
    its = outcome_of(run, status)
    assert (its.name, its.state) == ("a-key", outcome) and said in its.reason
    assert run.recorded_status().state == ("failed" if outcome == "failed" else state)


@pytest.mark.parametrize("code", [-9, 1])  # The launcher's own kill, and torchrun's.
def test_a_run_that_was_killed_after_its_time_to_save_is_interrupted(tmp_path, code):
    run = RunDir(tmp_path / "a-key")
    run.path.mkdir()
    run.write_status("running", step=3, steps=9)
    its = outcome_of(run, JobStatus(State.ENDED, code, asked=True))
    assert (its.state, its.reason) == ("stopped", "")
    status = run.recorded_status()
    assert (status.state, status.message, status.step) == ("planned", "interrupted", 3)


def test_a_run_that_another_process_holds_is_left_alone(tmp_path):
    run = RunDir(tmp_path / "a-key")
    with run.claim():
        run.write_status("running", step=3)
        outcome = outcome_of(run, JobStatus(State.ENDED, 1))
    assert outcome.state == "failed" and "another process" in outcome.reason
    assert run.recorded_status().state == "running"


def jobs_of_codes(folder: Path, codes: dict[str, str], **fields: object) -> list[Job]:
    return [
        Job(name, (sys.executable, "-c", code), folder / f"{name}.txt", **fields)
        for name, code in codes.items()
    ]


def test_a_list_of_jobs_is_worked_through(tmp_path):
    jobs = jobs_of_codes(tmp_path, {"good": "", "bad": "raise SystemExit(2)", "late": ""})
    jobs[2] = dataclasses.replace(jobs[2], after=("bad",))
    said = io.StringIO()
    outcomes = work_through(LocalLauncher(2), jobs, Console(file=said, width=100))
    assert [(outcome.name, outcome.state) for outcome in outcomes] == [
        ("good", "done"),
        ("bad", "failed"),
        ("late", "not started"),
    ]
    assert "exit code 2" in outcomes[1].reason and "bad.txt" in outcomes[1].reason
    assert outcomes[2].reason == "bad ended with exit code 2"
    lines = said.getvalue().splitlines()
    assert sorted(line.split()[-1] for line in lines) == ["bad", "good", "late"]


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0)
    run = RunDir(tmp_path / "a-key")
    run.path.mkdir()
    run.write_status("running", step=34, steps=100, best=0.5, message="epoch 1")
    console = Console(file=io.StringIO(), width=60)
    with progress.Display(console, "runs", 40) as display:
        share = progress.share_of(run.path)
        display.show(12, {run.key: share, "other": progress.share_of(tmp_path)}, "1 failed")
    said = console.file.getvalue()
    assert said.count("\n") == 1 and said.startswith("12 of 40 runs")
    for named in ("1 failed", "2 running", "a-key 34 %", "other running"):
        assert named in said
    assert share.note == "epoch 1  best 50.0"


def test_in_a_terminal_lines_move(tmp_path):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress.Display(console, "runs", 4) as display:
        display.show(1, {"one": progress.Share(5, 10, "epoch 1")})
        display.tell("done     zero")
        display.show(2, {})
    said = console.file.getvalue()
    assert "one" in said and "done     zero" in said and "2/4" in said


# --- real runs ------------------------------------------------------------------------------------


def test_one_failure_does_not_stop_the_others(boxes, tmp_path, shadows):
    """A run whose data are damaged fails with a sentence, and its neighbour is trained."""
    found = tiny_matrix(boxes, tmp_path / "runs", methods=("cris",))
    runs, places = found.directories(), found.places
    for spec, run in zip(found.specs, runs, strict=True):
        run.create(spec)
    text = (runs[0].path / "spec.yaml").read_text()
    (runs[0].path / "spec.yaml").write_text(text.replace(found.specs[0].data_sha256, "f" * 64))

    launcher, execution = LocalLauncher(2), Execution.of(device="cpu")
    jobs = [run_job(run, places, execution, launcher) for run in runs]
    failed, done = work_through(launcher, jobs, QUIET)
    assert (failed.name, failed.state) == (runs[0].key, "failed")
    assert (done.name, done.state) == (runs[1].key, "done"), (runs[1].path / "log.txt").read_text()
    assert "are not those of the run" in failed.reason and runs[0].status().state == "failed"
    kept = json.loads((runs[1].path / "job.json").read_text())
    assert kept["code"] == 0 and kept["id"] == read_job(runs[1].path).id


@pytest.mark.cluster
@pytest.mark.slow
def test_two_processes_train_one_run(boxes, tmp_path, shadows, monkeypatch):
    """DDP on the CPU (gloo): one directory, every expression evaluated once."""
    monkeypatch.setenv("RISBENCH_PLUGINS", str(PROJECT / "tests" / "plugins" / "toy_method.py"))
    found = tiny_matrix(boxes, tmp_path / "runs", methods=("toy",), strategies=("maskris",))
    (run,), places = found.directories(), found.places
    run.create(found.specs[0])
    launcher, execution = LocalLauncher(1), Execution.of(device="cpu", processes=2)
    (outcome,) = work_through(launcher, [run_job(run, places, execution, launcher)], QUIET)
    assert outcome.state == "done", (run.path / "log.txt").read_text()[-2000:]
    assert run.read_json("environment.json")["device"]["processes"] == 2
    dataset = found.opened.dataset("refcoco", "unc")
    for split in ("val", "testA", "testB"):
        sentences = [s.sent_id for ref in dataset.refs_of(split) for s in ref.sentences]
        assert run.records(split).sent_id.tolist() == sorted(sentences)
