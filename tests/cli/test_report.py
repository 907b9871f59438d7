"""The command `report` as a user meets it."""

import shutil

import pytest

from benchmark.runs.rundir import RunDir
from tests.cli.commands import keys, run


def test_report_is_byte_identical_on_rerun(world, capsys):
    written = []
    for place in ("a", "b"):
        command = ["report", "boxes", "--runs", world / "runs", "--out", world / place]
        assert run(*command) == 0
        written.append(
            {path.name: path.read_bytes() for path in (world / place).rglob("*") if path.is_file()}
        )
    assert written[0] == written[1] and {"table.md", "table.csv", "table.tex"} <= set(written[0])


def test_parts_of_a_report_are_written_by_their_names(world, tmp_path, capsys):
    command = ["report", "boxes", "--runs", world / "runs", "--out", tmp_path]
    assert run(*command, "--only", "TABLE2,costs") == 0
    written = {str(path.relative_to(tmp_path / "boxes")) for path in tmp_path.rglob("[!.]*.*")}
    wanted = {f"paper/maskris-table2.{kind}" for kind in ("md", "tex", "html")}
    assert written == wanted | {"costs.md", "costs.csv"}
    capsys.readouterr()
    for name, message in {
        "tabel2": "part of the report 'tabel2' is not known: did you mean",
        # Nothing was evaluated under corruptions.
        "fig6": "nothing to write for 'fig6' yet: `risbench robustness` makes it",
        "fig6a": "nothing to write for 'fig6a' yet",
        "fig2": "`risbench study run augmentation` runs and reports",
        "figB": "Fig. B is drawn by its study",
        ",": "--only names no part",
    }.items():
        assert run(*command, "--only", name) == 2
        assert message in capsys.readouterr().err


def test_against_another_strategy_there_is_what_compares_with_it(world, tmp_path):
    command = ["report", "boxes", "--runs", world / "runs", "--out", tmp_path]
    assert run(*command, "--against", "maskris") == 0
    folder = tmp_path / "boxes-against-maskris"
    assert {path.name.split(".")[0].split("-")[0] for path in folder.rglob("[!.]*.*")} <= {
        "table",
        "differences",
    }
    assert "baseline in place of" not in (folder / "table.md").read_text()


def test_what_an_earlier_report_left_is_deleted(world, tmp_path):
    stale = tmp_path / "boxes" / "figures" / "differences-of-other-runs.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    own = tmp_path / "boxes" / "notes.txt"
    own.write_text("mine")
    assert run("report", "boxes", "--runs", world / "runs", "--out", tmp_path) == 0
    assert not stale.exists() and own.read_text() == "mine"


def test_runs_of_several_machines_give_the_report_of_one(world, tmp_path, capsys):
    """Each machine has half of the runs and the whole plan."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        shutil.copytree(world / "runs", folder)
        for key in keys(world)[number::2]:
            shutil.rmtree(folder / key)
    whole, joined = tmp_path / "whole", tmp_path / "joined"
    assert run("report", "boxes", "--runs", world / "runs", "--out", whole) == 0
    assert (
        run("report", "boxes", "--runs", *folders[:1], "--runs", folders[1], "--out", joined) == 0
    )
    for name in ("table.md", "table.csv", "claims.csv", "index.html"):
        assert (joined / "boxes" / name).read_bytes() == (whole / "boxes" / name).read_bytes()


@pytest.mark.parametrize("state", ["done", "failed"])
def test_watching_ends_when_no_run_goes_on(world, tmp_path, state):
    shutil.copytree(world / "runs", tmp_path / "runs")
    RunDir(tmp_path / "runs" / keys(world)[-1]).write_status(state, reason="the disk was full")
    command = ["report", "boxes", "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    assert run(*command, "--only", "table", "--watch") == 0
    assert (tmp_path / "out" / "boxes" / "table.md").exists()
