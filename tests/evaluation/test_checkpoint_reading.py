"""Checkpoints as people have them: whatever wraps weights, and whatever lies beside them."""

import argparse
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.evaluation import checkpoint_reading

WEIGHTS = {
    "backbone.conv1.weight": torch.arange(6.0).reshape(2, 3),
    "backbone.bn.running_mean": torch.full((3,), 2.0),
    "neck.txt_proj.0.weight": torch.arange(4.0),
}
OTHERS = {name: value + 1 for name, value in WEIGHTS.items()}


def prefixed(prefix, weights=WEIGHTS):
    return {f"{prefix}{name}": value for name, value in weights.items()}


def saved(content, path):
    torch.save(content, path)
    return checkpoint_reading.read(path)


def equals(weights, expected):
    return weights.keys() == expected.keys() and all(
        torch.equal(weights[name], value) for name, value in expected.items()
    )


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module.model."),
        prefixed("net.module."),
        {"state_dict": prefixed("model.")},
        {"state_dict": prefixed("model.module._orig_mod.")},
        {"model": {"state_dict": {"module": prefixed("module.")}}},
        {"model_state_dict": {"network": WEIGHTS}},
        {"backbone._orig_mod.conv1.weight": WEIGHTS["backbone.conv1.weight"]}
        | {"module.backbone.module.bn.running_mean": WEIGHTS["backbone.bn.running_mean"]}
        | {"neck._checkpoint_wrapped_module.txt_proj.0.weight": WEIGHTS["neck.txt_proj.0.weight"]},
    ],
)
def test_any_nesting_of_wrappers_is_looked_through(content, tmp_path):
    extras = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 3}
    for name, found in (("plain", content), ("training", {**content, **extras})):
        checkpoint = saved(found, tmp_path / f"{name}.pth")
        assert equals(checkpoint.weights, WEIGHTS) and not checkpoint.averaged


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": WEIGHTS, "state_dict_ema": OTHERS},
        {"model": prefixed("module."), "model_ema": prefixed("module.", OTHERS)},
        {"state_dict": prefixed("model.") | prefixed("ema_model.module.", OTHERS)},
        {"state_dict": prefixed("model.") | prefixed("ema.module.", OTHERS)},
        {"ema": {"module": prefixed("_orig_mod.", OTHERS), "decay": 0.999}, "model": WEIGHTS},
        {"ema_state_dict": OTHERS, "epoch": 2},
    ],
)
def test_averaged_weights_are_taken_and_said(content, tmp_path):
    checkpoint = saved(content, tmp_path / "ema.ckpt")
    assert equals(checkpoint.weights, OTHERS) and checkpoint.averaged


def test_an_average_of_a_part_is_completed_with_what_is_not_averaged(tmp_path):
    part = {"neck.txt_proj.0.weight": OTHERS["neck.txt_proj.0.weight"]}
    checkpoint = saved({"model": WEIGHTS, "ema": part}, tmp_path / "ema.pth")
    assert equals(checkpoint.weights, WEIGHTS | part)


def test_a_file_of_lightning(tmp_path):
    """Its hyperparameters are a class of Lightning's, which is not installed here."""

    class AttributeDict(dict):
        pass

    AttributeDict.__module__ = "lightning.fabric.utilities.data"
    AttributeDict.__qualname__ = "AttributeDict"
    module = types.ModuleType(AttributeDict.__module__)
    module.AttributeDict = AttributeDict
    content = {
        "state_dict": prefixed("model."),
        "hyper_parameters": AttributeDict(lr=1e-4, root=pathlib.PurePosixPath("/data")),
        "callbacks": {
            "ModelCheckpoint{'monitor': 'oiou'}": {"best_model_score": torch.tensor(1.0)}
        },
        "pytorch-lightning_version": "2.6.0",
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4, "params": [0, 1]}]}],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        torch.save(content, tmp_path / "last.ckpt")
    assert equals(checkpoint_reading.read(tmp_path / "last.ckpt").weights, WEIGHTS)


@pytest.mark.parametrize("new_format", [True, False])
def test_arguments_beside_the_weights_do_no_harm(new_format, tmp_path):
    arguments = {
        "args": argparse.Namespace(out=pathlib.Path("runs"), names=("a", "b"), scale=np.float32(2)),
        "config": types.SimpleNamespace(root=pathlib.PureWindowsPath("C:/data")),
        "best": np.float64(0.7),
        "confusion": np.arange(6).reshape(2, 3),
        "words": np.array(["red", "box"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "date": np.datetime64("2026-11-26"),
        "random": np.random.default_rng(0).bit_generator.state,
        "flags": np.array([True, False]),
    }
    path = tmp_path / "best.pth"
    torch.save(
        {"state_dict": WEIGHTS, **arguments}, path, _use_new_zipfile_serialization=new_format
    )
    assert equals(checkpoint_reading.read(path).weights, WEIGHTS)


class Unpicklable:
    def __init__(self, what, *arguments):
        self.reduced = (what, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "hostile, named",
    [
        (Unpicklable(np.load, "other.npy"), r"numpy\S*load"),
        (Unpicklable(pathlib.Path.unlink, pathlib.Path("file")), r"getattr|unlink"),
        (Unpicklable(eval, "1 + 1"), "eval"),
        (Unpicklable(pickle.loads, b"N."), r"pickle\.loads"),
    ],
)
def test_other_functions_are_refused_by_name(hostile, named, tmp_path):
    torch.save({"model": WEIGHTS, "args": hostile}, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match=rf"refers to \S*({named})\S*, which could run code"):
        checkpoint_reading.read(tmp_path / "hostile.pth")


def test_two_weights_of_one_name_are_refused_and_two_equal_ones_are_one(tmp_path):
    both = {"model": WEIGHTS, "state_dict": {name: its.clone() for name, its in WEIGHTS.items()}}
    assert equals(saved(both, tmp_path / "equal.pth").weights, WEIGHTS)
    with pytest.raises(UserError, match="two different weights 'backbone.conv1.weight'"):
        saved({"model": WEIGHTS, "state_dict": OTHERS}, tmp_path / "two.pth")


@pytest.mark.parametrize(
    "value", [torch.eye(3).to_sparse(), torch.zeros(3, device="meta")], ids=["sparse", "meta"]
)
def test_tensors_that_hold_no_plain_numbers_are_refused(value, tmp_path):
    with pytest.raises(UserError, match=r"holds model\.a as a sparse, quantized or empty tensor"):
        saved({"model": {"a": value}}, tmp_path / "odd.pth")


def test_a_file_that_holds_itself_ends(tmp_path):
    content = {"epoch": 1}
    content["model"] = {"state_dict": content}
    with pytest.raises(UserError, match="holds no weights"):
        saved(content, tmp_path / "round.pth")
