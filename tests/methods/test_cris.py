"""CRIS' loss, groups, schedule and names against what is published."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.base.geometry import Geometry
from methods.contract import Batch, Output, Text
from methods.cris import weights
from methods.cris.method import CRIS
from methods.cris.network import sinusoid
from tests.helpers import PROJECT

KEYS = json.loads(str(np.load(PROJECT / "tests" / "parity" / "fixtures" / "cris_r50.npz")["keys"]))
CLIP_WORDS = 49408


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return CRIS(CRIS.definition.variants["paper-rn50"], CLIP_WORDS)


def test_parameters_are_counted_as_published(published):
    count = sum(parameter.numel() for parameter in published.parameters())
    assert count == 146_849_122
    with torch.device("meta"):
        large = CRIS(CRIS.definition.variants["paper"], CLIP_WORDS)
    assert sum(parameter.numel() for parameter in large.parameters()) == 161_251_682


def test_groups_are_the_published_ones(published):
    backbone, rest = published.parameter_groups(CRIS.definition.recipes["paper-rn50"])
    assert (
        len(backbone["params"]) == 325 and sum(p.numel() for p in backbone["params"]) == 103_964_513
    )
    assert len(rest["params"]) == 124


@pytest.mark.parametrize(
    "epoch, rates",
    [
        (0, [1e-4, 1e-4]),
        (1, [1e-5, 1e-4]),
        (34, [1e-5, 1e-4]),
        (35, [1e-6, 1e-5]),
        (49, [1e-6, 1e-5]),
    ],
)
def test_schedule_with_its_first_epoch(published, epoch, rates):
    steps = 662
    for step in (epoch * steps, (epoch + 1) * steps - 1):
        assert published.schedule(
            CRIS.definition.recipes["paper-rn50"], step, steps
        ) == pytest.approx(rates)


def test_refcocog_takes_22_words_as_published():
    assert (
        CRIS.definition.config_for("paper", "refcocog").max_length == 22
        and CRIS.definition.config_for("paper", "refcoco+").max_length == 17
    )
    assert (
        CRIS.definition.config_for("tiny", "refcocog").max_length
        == CRIS.definition.variants["tiny"].max_length
    )


def test_published_names_come_in_and_go_out(published):
    flat = {name: torch.empty(shape, device="meta") for name, (shape, _) in KEYS.items()}
    own = weights.from_published(flat)
    assert {n: list(v.shape) for n, v in own.items()} == {
        n: list(v.shape) for n, v in published.network.state_dict().items()
    }
    assert list(weights.to_published(own)) == list(flat)
    assert list(weights.checkpoint(own)["state_dict"]) == [f"module.{name}" for name in flat]


def test_loss_is_bce_on_the_nearest_soft_target():
    method = CRIS(CRIS.definition.variants["tiny"], 50)
    logits, target = torch.randn(2, 1, 24, 24), torch.rand(2, 1, 96, 96)
    batch = Batch(
        torch.zeros(2, 3, 96, 96), Text(torch.zeros(2, 20), torch.zeros(2, 20)), target, [0, 1]
    )
    (value,) = method.loss(Output(logits), batch).values()
    torch.testing.assert_close(
        value, F.binary_cross_entropy_with_logits(logits, target[:, :, ::4, ::4])
    )
    teacher = torch.randn(2, 1, 24, 24)
    torch.testing.assert_close(
        method.distillation(Output(logits), Output(teacher)),
        F.binary_cross_entropy(logits.sigmoid(), teacher.sigmoid()),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_losses_are_computed_in_float32_or_better(dtype):
    method = CRIS(CRIS.definition.variants["tiny"], 50)
    logits = 8 * torch.randn(2, 1, 24, 24, dtype=dtype)
    target = torch.rand(2, 1, 24, 24, dtype=torch.promote_types(dtype, torch.float32))
    batch = Batch(
        torch.zeros(2, 3, 96, 96), Text(torch.zeros(2, 20), torch.zeros(2, 20)), target, []
    )
    (value,) = method.loss(Output(logits), batch).values()
    assert value.dtype == target.dtype
    exact = logits.double()
    # -t log(s(x)) - (1 - t) log(1 - s(x)) is log(1 + e^x) - t x.
    expected = (torch.logaddexp(exact, torch.zeros(())) - target.double() * exact).mean()
    limit = 1e-12 if dtype == torch.float64 else 1e-5
    assert float(value) == pytest.approx(float(expected), rel=limit)
    distilled = method.distillation(Output(logits), Output(logits))
    expected = (torch.logaddexp(exact, torch.zeros(())) - exact.sigmoid() * exact).mean()
    assert float(distilled) == pytest.approx(float(expected), rel=limit)


@pytest.mark.parametrize("width", [32, 64, 256, 512])
def test_position_codes_are_the_published_ones_to_the_last_digit(width):
    """The oracle is written out in numpy: the exponential of a product, in float32."""
    even = torch.arange(0, width, 2, dtype=torch.float32)
    rate = (even * -(np.log(10000.0) / width)).exp().numpy()
    angle = torch.from_numpy(np.arange(26, dtype=np.float32)[:, None] * rate)
    codes = sinusoid(torch.arange(26), width)
    assert torch.equal(codes[:, 0::2], angle.sin()) and torch.equal(codes[:, 1::2], angle.cos())
    exact = np.arange(26)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    np.testing.assert_allclose(codes[:, 0::2], np.sin(exact), atol=5e-6)


def test_mask_is_where_the_probability_exceeds_035():
    method = CRIS(CRIS.definition.variants["tiny"], 50)
    geometry = Geometry(96, 96, 96, "letterbox")
    for probability in (0.34, 0.36):
        logits = torch.full((24, 24), probability).logit()
        assert method.mask(logits, geometry).all() == (probability > 0.35)
