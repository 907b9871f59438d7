"""What could fail at the end of a run fails before its first step, and odd sentences do not."""

import pickle
import warnings

import pytest

from benchmark.base.errors import UserError
from benchmark.data.refer import read_refer
from benchmark.evaluation import overlays
from benchmark.evaluation.drawn_text import wrapped
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec, write_boxes

EXECUTION = Execution.of(device="cpu", checkpoint_seconds=1e9, log_every=1)
ODD = [
    "$x^2$ and \\frac{a}{b} $",
    "a_b [red]box[/red] ^ \\ <b>&amp;",
    "左边的狗",
    "הכלב השמאלי",
    "الكلب على اليسار",
    "🐶🐕\u200d🦺 dog",
    "",
    "  ",
    "word " * 2000,
    "é" * 10_000,
    "\x1b[2J \u202eabc",
    "a\nb\tc",
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_boxes(tmp_path / "data")


def started(root, folder, **changes):
    spec, places = tiny_spec(root, "cris", "maskris", **changes)
    run = RunDir(folder / spec.key)
    run.create(spec)
    return run, Trainer(spec, run, Opened(places), EXECUTION)


def test_a_truncated_photograph_of_a_test_split_is_found_before_the_first_step(own, tmp_path):
    dataset = read_refer(own, "refcoco", "unc")
    path = dataset.image_path(dataset.refs_of("testB")[0].image_id)
    path.write_bytes(path.read_bytes()[:-40])
    run, trainer = started(own, tmp_path / "runs")
    with pytest.raises(UserError, match=f"testB is damaged.*cannot be decoded: 1 .{path.name}"):
        trainer.train()
    assert trainer.stepper.step == 0 and not (run.path / "metrics.jsonl").exists()


def test_a_set_is_read_once_for_all_runs(own, tmp_path, monkeypatch):
    told = []
    for name in ("one", "two"):
        _, trainer = started(own, tmp_path / name)
        monkeypatch.setattr(trainer, "_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trainer.train(lambda step, steps, message: told.append(message))
        told.append("next run")
    first, second = " ".join(told).split("next run")[:2]
    assert "reading testB, image 0/1" in first and "reading" not in second
    assert "trying testB" in second


def test_the_network_is_as_it_was(own, tmp_path):
    from benchmark.training.rehearsal import rehearse

    spec, _ = tiny_spec(own, "cris", "maskris")
    _, trainer = started(own, tmp_path / "runs")
    before = {name: value.clone() for name, value in trainer.method.state_dict().items()}
    mode = trainer.method.training
    args = (trainer.opened, trainer.method, trainer.tokenizer, trainer.device)
    rehearse(spec, *args, lambda message: None)
    assert trainer.method.training == mode
    assert all((before[name] == value).all() for name, value in trainer.method.state_dict().items())


def test_odd_sentences_are_trained_drawn_and_reported(own, tmp_path):
    path = own / "refcoco" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    for number, ref in enumerate(refs):
        for sentence in ref["sentences"]:
            sentence["sent"] = sentence["raw"] = ODD[number % len(ODD)]
    path.write_bytes(pickle.dumps(refs, 2))
    run, trainer = started(own, tmp_path / "runs")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.train()
    assert run.status().state == "done"
    assert not [each for each in said if "Glyph" in str(each.message)]
    for split in ("val", "testA", "testB"):
        assert set(run.records(split)["sentence"]) <= set(ODD)


@pytest.mark.parametrize("sentence", ODD)
def test_a_picture_has_any_sentence_and_no_warning(sentence):
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = overlays.panel(np.zeros((9, 9, 3), np.uint8), f"“{sentence}”")
    lines = wrapped(f"“{sentence}”", 34)
    assert 1 <= len(lines) <= 4 and all(len(line) <= 34 for line in lines)
    assert all("\x1b" not in line and "\u202e" not in line for line in lines)
    above = np.asarray(drawn)[: overlays.LINE * len(lines)]
    assert (above < 128).any(), "the quotes at least are seen"
    assert drawn.size == (overlays.WIDTH, overlays.LINE * len(lines) + overlays.HEIGHT)
