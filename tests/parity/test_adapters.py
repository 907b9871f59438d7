"""The parity harness on a fixture whose arrays its adapter computes itself."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from tests.parity import __main__ as program
from tests.parity import check, fill
from tests.parity.arrays import Tolerance
from tests.parity.check import Row, _adapter, _difference, _norm_difference

KEYS = {"first.weight": [[3, 2], "float32"], "second.weight": [[3, 2], "float32"]}


class Shared(nn.Module):
    """A network whose state dict lists one tensor twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3, bias=False)
        self.second = self.first


class FakeMethod(nn.Module):
    """What the harness needs of a method."""

    def __init__(self):
        super().__init__()
        self.network = Shared()


def adapter_with(arrays):
    return types.SimpleNamespace(
        build=lambda config, keys, words: FakeMethod(),
        weights=types.SimpleNamespace(to_published=dict, from_published=dict),
        tolerance=lambda quantity, suffixes: Tolerance(1e-6 if quantity == "names" else 1),
        INPUTS=("given",),
        arrays=arrays,
    )


def fixture(tmp_path, monkeypatch, adapter, config=None, **arrays):
    """Write a fixture whose arrays `adapter` computes, and return its path."""
    path = tmp_path / "fixture.npz"
    config = {"method": "fake", "network": "fake", "words": 4, **(config or {})}
    aliases = {"second.weight": "first.weight"}
    np.savez(
        path,
        keys=json.dumps(KEYS),
        aliases=json.dumps(aliases),
        config=json.dumps(config),
        **arrays,
    )
    monkeypatch.setattr(check, "_adapter", lambda config: adapter)
    return path


def checked(tmp_path, monkeypatch, adapter, only=None, config=None, **arrays):
    path = fixture(tmp_path, monkeypatch, adapter, config, **arrays)
    return {row.name: row for row in check.check(path, only)}


def test_the_adapters_arrays_are_compared_and_the_rest_is_reported(tmp_path, monkeypatch):
    def arrays(filled, archive, config, keys):
        for seed in (0, 3):
            network = filled(seed)
            assert not network.training
            yield f"weight_{seed}", network.network.first.weight.detach()
        yield "norms", {"a": 2.0, "b": None}
        yield "names", {"x", "y"}
        yield "bits_packed", archive["given"]

    stored = {
        "given": np.packbits([1, 0, 1, 1]),
        "weight_0": fill.fill("first.weight", (3, 2)) + 2,
        "weight_3": fill.fill("first.weight", (3, 2), 3),
        "norms": json.dumps({"a": 1.0, "b": None}),
        "names": json.dumps(["x", "z"]),
        "bits_packed": np.packbits([0, 0, 1, 0]),
        "surprise": np.zeros(3),
    }
    rows = checked(tmp_path, monkeypatch, adapter_with(arrays), **stored)
    assert list(rows) == [
        "keys",
        "weight_0",
        "weight_3",
        "norms",
        "names",
        "bits_packed",
        "surprise",
    ]
    found = {name: row.difference for name, row in rows.items()}
    expected = {
        "keys": 0,
        "weight_0": 2,
        "weight_3": 0,
        "norms": 1,
        "names": 2,
        "bits_packed": 2,
        "surprise": None,
    }
    assert found == pytest.approx(expected)
    assert [name for name, row in rows.items() if row.ok] == ["keys", "weight_3", "norms"]
    some = checked(tmp_path, monkeypatch, adapter_with(arrays), only=["weight_3"], **stored)
    assert list(some) == ["keys", "weight_3"]


def test_an_aliased_tensor_is_filled_under_its_first_name(tmp_path, monkeypatch):
    def arrays(filled, archive, config, keys):
        network = filled(0).network
        assert network.first.weight is network.second.weight
        yield "weight", network.second.weight.detach()

    rows = checked(
        tmp_path,
        monkeypatch,
        adapter_with(arrays),
        weight=fill.fill("first.weight", (3, 2)),
        given=np.zeros(1),
    )
    assert rows["weight"] == Row("weight", 0.0, Tolerance(1))


def test_alternative_inputs_are_computed_too(tmp_path, monkeypatch):
    """Arrays `*_alt` are of the second input, whose own arrays take the place of the first's."""

    def arrays(filled, archive, config, keys):
        yield "sum_packed", float(archive["given"].sum()) + 10 * config["alternative"]
        yield "shared", 5.0
        yield "last", 7.0

    adapter = adapter_with(arrays)
    stored = {"given": np.ones(3), "given_alt": np.ones(4), "sum_packed": np.float64(3)}
    alternative = {"sum_alt_packed": np.float64(14), "shared_alt": 5.0, "absent_alt": 1.0}
    config = {"size": 8, "seed_alt": 7}
    rows = checked(tmp_path, monkeypatch, adapter, config=config, **stored, **alternative)
    assert {name: row.difference for name, row in rows.items()} == {
        "keys": 0,
        "sum_packed": 0,
        "sum_alt_packed": 0,
        "shared_alt": 0,
        "absent_alt": None,
    }
    assert not rows["absent_alt"].ok


def test_what_comes_behind_the_last_array_that_is_wanted_is_not_computed(tmp_path, monkeypatch):
    def arrays(filled, archive, config, keys):
        yield "weight", 1.0
        raise AssertionError("a training pass that nobody asked for")

    rows = checked(tmp_path, monkeypatch, adapter_with(arrays), weight=np.float64(1))
    assert rows["weight"].ok


def test_both_networks_of_tris_have_an_adapter_of_their_own():
    names = [
        _adapter({"method": "tris", "network": f"step {step}, CLIP RN50"}).__name__
        for step in (1, 2)
    ]
    assert names == ["tests.parity.tris", "tests.parity.tris_step2"]


def test_one_norm_may_be_noisier():
    assert _norm_difference({"a": 1.0, "b": 1.0}, {"a": 1.1, "b": 1.0}) > 0.09
    assert _norm_difference({"a": 1.0, "b": 1.0}, {"a": 1.1, "b": 1.0}, noisy="a") < 0.011
    assert _difference(np.array(2.0), torch.tensor(2.5), (), Tolerance(1)) == 0.5


def test_command_exits_1_where_an_array_differs_or_is_unknown(tmp_path, monkeypatch, capsys):
    def arrays(filled, archive, config, keys):
        yield "weight", filled(0).network.first.weight.detach()

    weight = fill.fill("first.weight", (3, 2))
    path = fixture(tmp_path, monkeypatch, adapter_with(arrays), weight=weight)
    monkeypatch.setattr(sys, "argv", ["parity", str(path)])
    assert program.main() == 0
    fixture(tmp_path, monkeypatch, adapter_with(arrays), weight=weight + 2, surprise=np.zeros(3))
    capsys.readouterr()
    assert program.main() == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert lines["keys"].endswith("ok") and lines["weight"].endswith("exceeded")
    assert "not compared" in lines["surprise"]


def test_command_goes_on_after_a_wrong_file(tmp_path, monkeypatch, capsys):
    path = fixture(tmp_path, monkeypatch, adapter_with(lambda *_: ()))
    monkeypatch.setattr(sys, "argv", ["parity", str(tmp_path / "absent.npz"), str(path)])
    assert program.main() == 1
    shown = capsys.readouterr()
    assert "absent.npz" in shown.err and "keys" in shown.out
