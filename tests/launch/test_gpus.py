"""GPUs of this machine: which there are, and how they are handed out."""

import pytest

from benchmark.base.errors import UserError
from benchmark.launch import gpus
from benchmark.launch.base import Resources
from benchmark.launch.gpus import Gpus, visible_gpus
from benchmark.launch.local import LocalLauncher
from tests.launch.processes import SEEN, UUIDS, finish, running


@pytest.mark.parametrize(
    ("listed", "files", "names"),
    [
        ("0,1", [], ("0", "1")),
        ("3,1", [], ("3", "1")),
        (UUIDS, [], tuple(UUIDS.split(", "))),
        ("", ["nvidia0"], ()),
        ("-1", ["nvidia0"], ()),
        ("0,-1,1", ["nvidia0", "nvidia1"], ("0",)),
        ("0,7,1", ["nvidia0", "nvidia1"], ("0",)),
        ("0,0", ["nvidia0"], ()),
        ("NoDevFiles", [], ()),
        (None, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ("0", "1")),
        (None, [], ()),
    ],
)
def test_gpus_are_those_that_the_variable_names(listed, files, names, tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    for file in files:
        (tmp_path / file).touch()
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == names


def test_no_gpu_is_handed_out_twice(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS)
    launcher = LocalLauncher(4)
    ids = launcher.submit([job(f"{n}", SEEN, resources=Resources(gpus=1)) for n in range(4)])
    together = []
    finish(launcher, ids, lambda _: together.append(running(launcher, ids)))
    seen = [(tmp_path / f"{n}.txt").read_text().strip() for n in range(4)]
    assert max(together) == 2 and sorted(seen) == sorted(UUIDS.split(", ") * 2)
    assert set(seen[:2]) == set(UUIDS.split(", "))


def test_jobs_of_a_share_are_on_one_card_together(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    launcher = LocalLauncher(8)
    ids = launcher.submit([job(f"{n}", SEEN, resources=Resources(gpus=1 / 3)) for n in range(5)])
    together = []
    finish(launcher, ids, lambda _: together.append(running(launcher, ids)))
    assert max(together) == 3
    assert {(tmp_path / f"{n}.txt").read_text() for n in range(5)} == {"5\n"}


def test_a_job_without_gpus_sees_none(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    launcher = LocalLauncher(2)
    jobs = [job("cpu", SEEN), job("both", SEEN, resources=Resources(gpus=2))]
    finish(launcher, launcher.submit(jobs))
    assert (tmp_path / "cpu.txt").read_text() == "\n"
    assert (tmp_path / "both.txt").read_text() == "0,1\n"


def test_cards_are_taken_whole_or_shared():
    cards = Gpus(["a", "b"])
    half = cards.take(0.5)
    assert half == ("a",) and cards.take(1) == ("b",) and cards.take(1) is None
    cards.give_back(("b",), 1)
    assert cards.take(2) is None
    cards.give_back(half, 0.5)
    assert cards.take(2) == ("a", "b") and cards.take(0) == ()


@pytest.mark.parametrize(("listed", "wanted"), [("", 1), ("-1", 0.5), ("0,1", 3)])
def test_more_gpus_than_there_are_is_refused(job, monkeypatch, listed, wanted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    launcher = LocalLauncher(1)
    with pytest.raises(
        UserError, match=f"job big asks for {wanted} GPUs and there are .*--device cpu"
    ):
        launcher.submit([job("small"), job("big", resources=Resources(gpus=wanted))])
    assert not launcher.jobs


@pytest.mark.parametrize("wanted", [-1, 1.5])
def test_impossible_numbers_of_gpus_are_refused(wanted):
    with pytest.raises(UserError, match="GPUs"):
        Resources(gpus=wanted)
