"""Checkpoint files: read without running anything, refused where they do not fit, written."""

import argparse
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open

import methods
from benchmark.base.errors import UserError
from benchmark.evaluation import checkpoint_files, checkpoint_reading
from tests.helpers import PROJECT

FIXTURES = PROJECT / "tests" / "parity" / "fixtures"
AMLRIS = FIXTURES / "amlris_step_64.npz"  # CARIS' network and what its own training adds
FULL_LISTS = sorted(
    path for path in {*FIXTURES.glob("*.npz")} - {AMLRIS} if "keys" in np.load(path).files
)
WORDS = 60
PUBLISHING = [name for name in methods.names() if methods.definition(name).has_published_weights]


def build(name, variant="tiny", words=WORDS):
    torch.manual_seed(0)
    kind = methods.get(name)
    return kind(kind.definition.variants[variant], words)


def published(name):
    """Return what a published checkpoint of the method's tiny network holds, flat."""
    content = methods.get(name).weights.checkpoint(build(name).network.state_dict())
    return checkpoint_reading.flat(content, name)[0]


def load(method, path):
    state = checkpoint_reading.read(path).weights
    fitted = checkpoint_files.fit(method, state)
    checkpoint_files.load(method, state, fitted, str(path), WORDS)
    return fitted


class Hostile:
    """Runs a command when it is unpickled by something that allows it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("form", ["published", "safetensors"])
@pytest.mark.parametrize("name", PUBLISHING)
def test_what_goes_out_comes_in_again(name, form, tmp_path):
    method, suffix = build(name), {"published": "pth", "safetensors": "safetensors"}[form]
    path = tmp_path / f"out.{suffix}"
    checkpoint_files.write(methods.get(name), method.state_dict(), path, form, {"run": "some-key"})
    other = build(name)
    for parameter in other.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    fitted = load(other, path)
    assert not fitted.unknown and not fitted.missing
    for key, value in method.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0)
    if form == "safetensors":
        assert safe_open(path, "pt").metadata() == {"run": "some-key"}
    else:
        assert torch.load(path, weights_only=True)["risbench"] == {"run": "some-key"}


@pytest.mark.parametrize("name", PUBLISHING)
def test_published_to_ours_to_published_is_the_identity(name):
    weights, state = methods.get(name).weights, published(name)
    kept = {
        key: value for key, value in state.items() if not checkpoint_files._reason(weights, key)
    }
    back = weights.to_published(weights.from_published(kept))
    assert back.keys() == state.keys()
    assert all(
        torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state
    )


@pytest.mark.parametrize("name, fixture", [(path.stem.split("_")[0], path) for path in FULL_LISTS])
def test_every_entry_of_a_published_checkpoint_comes_back(name, fixture):
    """The full key lists of the published networks: names, shapes, types and the same tensors."""
    weights = methods.get({"maskris": "caris"}.get(name, name)).weights
    keys = json.loads(str(np.load(fixture)["keys"]))
    state = {
        key: torch.empty(shape, dtype=getattr(torch, kind), device="meta")
        for key, (shape, kind) in keys.items()
    }
    kept = {
        key: value for key, value in state.items() if not checkpoint_files._reason(weights, key)
    }
    back = weights.to_published(weights.from_published(kept))
    lost = (
        {"backbone.vis_encoder.mask_token"} if name == "maskris" else set()
    )  # which nothing reads
    assert {key: (value.shape, value.dtype) for key, value in back.items()} == {
        key: (value.shape, value.dtype) for key, value in state.items() if key not in lost
    }
    assert all(back[key] is value for key, value in kept.items())


def test_a_checkpoint_of_amlris_is_one_of_caris():
    keys = json.loads(str(np.load(AMLRIS)["keys"]))
    weights = methods.get("caris").weights
    left_out = {key: checkpoint_files._reason(weights, key) for key in keys}
    added = {key for key in keys if key.startswith(("aug.", "criterion."))}
    assert len(added) == 5 and all(left_out[key] for key in added)
    own = json.loads(str(np.load(FIXTURES / "caris_tiny_w7.npz")["keys"]))
    assert {*keys} - added == {*own} - {"criterion.seg_criterion.weight"}


@pytest.mark.parametrize("name", PUBLISHING)
def test_files_as_people_have_them(name, tmp_path):
    """`module.` prefixes, wrappers, and what training scripts store beside the weights."""
    state = published(name)
    prefixed = {f"module.{key}": value for key, value in state.items()}
    extras = {
        "args": argparse.Namespace(model=name, lr=1e-4, splits=["val"]),
        "best": np.float64(0.7),
        "epoch": 39,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
    }
    for number, content in enumerate(
        [state, {"state_dict": prefixed, **extras}, {"model": state, **extras}, {"model": prefixed}]
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=number != 2)
        method = build(name)
        fitted = load(method, path)
        assert not fitted.unknown and not fitted.missing


def test_lavt_as_two_dictionaries_and_lavt_one_as_a_joint_one(tmp_path):
    method = build("lavt")
    two = methods.get("lavt").weights.checkpoint(method.network.state_dict())
    assert set(two) == {"model", "bert_model"} and not any(
        key.startswith("text_encoder") for key in two["bert_model"]
    )
    joint = {
        **two["model"],
        **{f"text_encoder.{key}": value for key, value in two["bert_model"].items()},
    }
    joint["text_encoder.embeddings.position_ids"] = torch.arange(32)[None]
    joint["text_encoder.pooler.dense.weight"] = torch.zeros(4, 4)
    for content in (two, {"model": joint}):
        torch.save(content, tmp_path / "lavt.pth")
        other = build("lavt")
        fitted = load(other, tmp_path / "lavt.pth")
        assert not fitted.unknown and not fitted.missing
        for key, value in method.state_dict().items():
            assert torch.equal(other.state_dict()[key], value)
    assert fitted.unneeded["text_encoder.embeddings.position_ids"].startswith("0, 1, 2")


@pytest.mark.parametrize("inside", [lambda evil: evil, lambda evil: argparse.Namespace(hook=evil)])
@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_file_is_not_run(inside, new_format, tmp_path):
    content = {"model": {"weight": torch.zeros(2)}, "args": inside(Hostile(tmp_path / "ran"))}
    path = tmp_path / "hostile.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(
        UserError, match=r"not read, because it refers to \w+\.system, which could run code"
    ):
        checkpoint_reading.read(path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the file does what it is said not to do here"


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: None, "there is no weights file"),
        (lambda path: path.write_text("no weights"), "damaged or no checkpoint"),
        (
            lambda path: path.write_bytes(pickle.dumps({"a": 1})),
            "damaged or no checkpoint|holds no weights",
        ),
        (lambda path: torch.save({"epoch": 3}, path), "holds no weights"),
        (lambda path: torch.save([torch.zeros(1)], path), "holds no weights"),
        (
            lambda path: (torch.save({"a": torch.zeros(99)}, path), os.truncate(path, 300)),
            "damaged or no checkpoint",
        ),
    ],
)
def test_files_that_are_no_checkpoints(write, message, tmp_path):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(UserError, match=message):
        checkpoint_reading.read(path)


def test_a_damaged_safetensors_file(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        checkpoint_reading.read(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", PUBLISHING)
def test_a_wrong_variant_is_named_with_the_right_one(name):
    with torch.device("meta"):
        small = build(name, "small")
    state = methods.get(name).weights.to_published(small.network.state_dict())
    method = build(name)
    with pytest.raises(
        UserError, match=r"'[\w.]+' is \[.*\] in the file and \[.*\].*: it fits --variant small\."
    ):
        checkpoint_files.load(
            method, state, checkpoint_files.fit(method, state), "model.pth", WORDS
        )


def test_missing_and_unknown_entries_are_reported_and_missing_ones_refused(tmp_path):
    state = published("cris")
    lost = next(iter(state))
    del state[lost]
    state["decoder.extra.weight"] = torch.zeros(1)
    method = build("cris")
    fitted = checkpoint_files.fit(method, state)
    assert fitted.missing == [lost] and fitted.unknown == ["decoder.extra.weight"]
    with pytest.raises(UserError, match=f"lacks 1 entries .*'{lost}'.*no variant of cris fits it"):
        checkpoint_files.load(method, state, fitted, "model.pth", WORDS)
