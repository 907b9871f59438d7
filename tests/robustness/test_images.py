"""Corrupted images: their cache, and what is wrong with one."""

import dataclasses

import pytest
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.evaluation.inference import load
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.images import Cache
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.robustness.run import evaluate_conditions
from tests.robustness.asking import CONDITIONS, QUIET, ask, opened


def test_worker_processes_change_no_bit(fresh):
    ask(fresh[:1], workers=2)
    inline = {str(its): read_results(fresh[0], "val", its) for its in CONDITIONS}
    ask(fresh[1:], workers=0)
    for its in CONDITIONS:
        results_path(fresh[0], "val", its).unlink()
    ask(fresh[:1], workers=0)
    for its in CONDITIONS:
        assert read_results(fresh[0], "val", its).equals(inline[str(its)])


def test_a_cache_is_lossless_and_says_its_size(fresh, tmp_path, monkeypatch):
    console = Console(record=True, width=200)
    evaluate_conditions(
        fresh[:1], ["val"], CONDITIONS, opened, console, device="cpu", cache=tmp_path / "cache"
    )
    assert "for 4 images in" in console.export_text()
    assert len(list((tmp_path / "cache").glob("*/*/*.png"))) == 4, (
        "two corruptions of two images, and no occlusion"
    )
    meters = ask(fresh[1:], cache=tmp_path / "cache")
    ask(fresh[1:])
    direct = {str(its): read_results(fresh[1], "val", its) for its in CONDITIONS}
    for its in CONDITIONS:
        results_path(fresh[1], "val", its).unlink()
    ask(fresh[1:])
    assert all(read_results(fresh[1], "val", its).equals(direct[str(its)]) for its in CONDITIONS)
    counts = meters["images"].counts
    assert (counts["decode"], counts["cache"], counts["corrupt"], counts["prepare"]) == (4, 4, 0, 8)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match="make room, name fewer conditions, or leave --cache out"):
        ask(fresh, [Condition("snow", 1)], cache=tmp_path / "cache")
    assert finished_conditions(fresh[0], "val") == sorted(map(str, CONDITIONS))


@pytest.mark.parametrize("workers", (0, 1))
def test_what_is_wrong_with_an_image_is_one_sentence(fresh, monkeypatch, workers):
    from benchmark.robustness import corruptions

    noise = dataclasses.replace(corruptions.CORRUPTIONS.get("gaussian_noise"), smallest=70)
    monkeypatch.setattr(corruptions.CORRUPTIONS, "get", lambda name: noise)
    with pytest.raises(
        UserError, match="^image 7 is .* pixels and gaussian_noise needs 70 x 70"
    ) as raised:
        ask(fresh, workers=workers)
    assert "\n" not in str(raised.value) and finished_conditions(fresh[0], "val") == []


def test_a_damaged_cache_and_unfinished_runs_are_named(fresh, tmp_path):
    loaded = load(fresh[0], opened(fresh[0]), "cpu")
    image_id = int(fresh[0].records("val")["image_id"][0])
    path = Cache(tmp_path / "cache", loaded.dataset).path(CONDITIONS[0], image_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="is damaged: delete it"):
        ask(fresh, cache=tmp_path / "cache")
    with pytest.raises(UserError, match="'vall' is not known: did you mean val"):
        evaluate_conditions(fresh, ["vall"], CONDITIONS, opened, QUIET, device="cpu")
    with pytest.raises(UserError, match="was not evaluated under fog-5 on val"):
        read_results(fresh[0], "val", "fog-5")
    fresh[1].write_status("planned")
    with pytest.raises(UserError, match="is not finished"):
        ask(fresh)


def test_a_killed_process_is_one_sentence(fresh, monkeypatch):
    import os
    import signal

    from benchmark.robustness.images import CorruptedImages

    monkeypatch.setattr(
        CorruptedImages, "corrupted", lambda *given: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(UserError, match="give fewer --workers"):
        ask(fresh[:1], workers=1)
