"""The published networks' numbers, and the harness that compares them
(`python -m tests.parity`).
"""

import ctypes
import gc
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.base.errors import UserError
from tests.parity import steps
from tests.parity.arrays import STEP_INPUTS, Tolerance, parse, run_of
from tests.parity.check import _adapter, _difference, _norm_difference, check

FIXTURES = Path(__file__).parent / "fixtures"
CONFIG = {"size": 480, "words": 20, "batch": 2, "seed": 0, "seed_alt": 7, "size_alt": 400}


def names_of(path: Path) -> list[str]:
    with np.load(path) as archive:
        return archive.files


STEPS = ("cris", "lavt", "caris", "maskris", "sag", "tris")


def assert_parity(fixture: str, chosen: Callable[[str], bool]) -> None:
    path = FIXTURES / f"{fixture}.npz"
    results = {name for name in names_of(path) if chosen(name)} - described(path)
    rows = check(path, results)
    assert not {row.name: row.difference for row in rows if not row.ok}
    assert {row.name for row in rows} == results | {"keys"}


def described(path: Path) -> set[str]:
    """Return the names of a fixture that are no results."""
    config = json.loads(str(np.load(path)["config"]))
    return {"keys", "config", "aliases", *getattr(_adapter(config), "INPUTS", STEP_INPUTS)}


def always(name: str) -> bool:
    return True


# What runs with `make test`: the networks whose fixtures take less than twenty seconds. CARIS' is
# evaluated there on a sentence of its own length. `make parity`, which CI runs, too, has the rest:
# the training steps at 480 pixels of CRIS, ETRIS, LAVT, CARIS and MaskRIS.
SHORT = {
    "caris_tiny_w7": lambda name: name == "eval_logits_words",
    "tris_rn50": always,
    "tris_stage2_rn50": always,
    "sag_vits16": always,
}
WHOLE = (
    "lavt_tiny_w7",
    "cris_r50",
    "etris_r50",
    "caris_tiny_w7",
    "maskris_tiny_w7",
    "etris_vitb16",
)


@pytest.fixture
def memory_given_back():
    """Hand freed memory back to the system: a worker runs other tests after these."""
    yield
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.mark.slow
@pytest.mark.usefixtures("memory_given_back")
@pytest.mark.parametrize("fixture", SHORT)
def test_published_numbers(fixture):
    assert_parity(fixture, SHORT[fixture])


@pytest.mark.parity
@pytest.mark.usefixtures("memory_given_back")
@pytest.mark.parametrize("fixture", WHOLE)
def test_all_published_numbers(fixture):
    assert_parity(fixture, always)


@pytest.mark.parity
@pytest.mark.usefixtures("memory_given_back")
@pytest.mark.parametrize("method", STEPS)
def test_six_optimizer_steps_are_the_published_ones(method):
    """It is the suite's own step and optimizer that takes them."""
    path = FIXTURES / f"{method}_steps.npz"
    rows = check(path)
    assert not {row.name: row.difference for row in rows if not row.ok}
    assert {row.name for row in rows} == {"keys", *names_of(path)} - {"config", "zero_gradient"}


def changed(fixture: str, path: Path, names: dict[str, str], **config: object) -> Path:
    """Write a part of a fixture, with arrays `names` (old to new) and a changed configuration."""
    with np.load(FIXTURES / f"{fixture}.npz") as archive:
        kept = {name: archive[name] for name in archive.files if name in ("keys", "aliases")}
        kept |= {new: archive[old] for old, new in names.items()}
        kept["config"] = json.dumps({**json.loads(str(archive["config"])), **config})
    np.savez(path, **kept)
    return path


@pytest.mark.parity
@pytest.mark.usefixtures("memory_given_back")
@pytest.mark.parametrize(
    ("fixture", "names"),
    [
        ("tris_stage2_rn50", {"logits": "logits_alt"}),
        ("tris_rn50", {"score_low": "score_low_alt", "score_low_fill3": "score_low_alt_fill3"}),
        (
            "sag_vits16",
            {
                "slot_noise": "slot_noise",
                "slots": "slots_alt",
                "bert_cls_projected": "bert_cls_projected_alt",
            },
        ),
    ],
)
def test_arrays_of_another_input_are_compared(fixture, names, tmp_path):
    """What is published for the first input is right for the other where both are the same."""
    aux = {"aux_keys": "aux_keys"} if fixture == "tris_rn50" else {}
    same = check(changed(fixture, tmp_path / "same.npz", {**names, **aux}, seed_alt=0))
    assert {row.name for row in same if row.ok} == {"keys", *names.values()} - {"slot_noise"}
    rows = check(changed(fixture, tmp_path / "other.npz", {**names, **aux}, seed_alt=7))
    assert {row.name for row in rows if row.ok} == {"keys"}
    assert len(rows) == len(same)


@pytest.mark.parity
@pytest.mark.usefixtures("memory_given_back")
def test_the_names_of_lavt_one_are_read(tmp_path):
    """It has BERT inside the network, and is LAVT where the words are given."""
    with np.load(FIXTURES / "lavt_tiny_w7.npz") as archive:
        keys = {
            f"text_encoder.{name}" if name.startswith(("embeddings.", "encoder.")) else name: entry
            for name, entry in json.loads(str(archive["keys"])).items()
        }
        array, config = archive["eval_logits_words"], str(archive["config"])
    path = tmp_path / "lavt_one.npz"
    np.savez(path, keys=json.dumps(keys), config=config, eval_logits_words=array)
    assert {row.name: row.ok for row in check(path)} == {"keys": True, "eval_logits_words": True}


def test_names_say_which_run():
    def run(name: str, **config: object):
        return run_of(name, *parse(name), Tolerance(1), {**CONFIG, **config})

    assert run("eval_logits").image == (2, 480, 480, 0)
    assert run("eval_logits").tokens == (20, 0)
    alternative = run("eval_logits_words_alt")
    assert (
        alternative.image == (2, 400, 400, 7)
        and alternative.tokens == (20, 7)
        and alternative.words
    )
    assert run("eval_full_sub_alt").image == (2, 400, 400, 7)
    assert run("eval_logits_320x384").image == (2, 320, 384, 0)
    assert run("eval_logits_len22").tokens == (22, 0)
    batch = run("grad_norms_float64_b4")
    assert batch.image[0] == 4 and batch.train
    assert run("train_loss_fill3").fill_seed == 3
    assert run("running_stat_norms_after").train and not run("eval_logits").train
    named = run(
        "eval_logits_alt",
        inputs={"eval_logits_alt": {"image": [1, 64, 96, 5], "tokens": [1, 17, 6]}},
    )
    assert named.image == (1, 64, 96, 5) and named.tokens == (17, 6)
    assert run("train_logits") == run("grad_norms_all") == run("train_loss")


def test_unknown_names_are_not_guessed():
    assert parse("maskris_losses") is None
    assert parse("eval_logits_new") is None


def test_differences():
    value = torch.arange(2 * 1 * 99 * 99, dtype=torch.float64).reshape(2, 1, 99, 99)
    stored = value[:, :, ::7, ::7].numpy()
    assert _difference(stored, value, ("sub",), Tolerance(1)) == 0
    assert _difference(stored + 3, value, ("sub",), Tolerance(1)) == 3
    assert _difference(stored, value, (), Tolerance(1)) == float("inf")
    assert _difference(np.array(2.0), 2.5, (), Tolerance(1, relative=True)) == 0.25
    expected = {"a": 4.0, "b": None, "noise": 1e-15}
    assert _norm_difference(expected, {"a": 4.0, "b": None, "noise": 1e-13}) < 1e-7
    assert _norm_difference(expected, {"a": 5.0, "b": None, "noise": 0.0}) == 0.25
    assert _norm_difference(expected, {"a": 4.0, "b": 0.0, "noise": 0.0}) == float("inf")
    assert _norm_difference(expected, {"a": float("nan"), "b": None, "noise": 0.0}) == float("inf")
    assert _norm_difference(expected, {"b": None, "noise": 0.0}) == float("inf")


def test_differences_of_steps():
    stored = np.array([[1.0, 0.0], [4.0, 2.0]])
    assert steps.difference(stored, stored.tolist()) == 0
    assert steps.difference(stored, [[1.0, 0.5], [4.0, 3.0]]) == 0.5
    assert steps.difference(stored, [[1.0, 0.0]]) == float("inf")
    assert math.isnan(steps.difference(stored, [[1.0, 0.0], [float("nan"), 2.0]]))
    named = np.array(json.dumps({"a": [1.0, 2.0], "b": [4.0]}))
    assert steps.difference(named, {"a": [1.0, 3.0], "b": [4.0], "more": [1.0]}) == 0.5
    assert steps.difference(named, {"a": [1.0, 2.0]}) == float("inf")
    assert math.isnan(steps.difference(named, {"a": [1.0, float("nan")], "b": [5.0]}))
    assert steps.difference(named, {"x", "y"}) == 2


def test_a_fixture_of_steps_needs_the_one_that_it_names(tmp_path):
    config = json.dumps({"method": "cris", "keys_of": "absent.npz"})
    np.savez(tmp_path / "steps.npz", config=config)
    with pytest.raises(UserError, match="absent.npz"):
        check(tmp_path / "steps.npz")


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no parity fixture"):
        check(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="no parity fixture"):
        check(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", keys="{}", config=json.dumps({"method": "lavd", **CONFIG}))
    with pytest.raises(UserError, match="did you mean lavt"):
        check(tmp_path / "other.npz")
