"""TRIS, step 2: attention, losses, decision, groups, names; its numbers are proven by parity."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.base.geometry import Geometry
from benchmark.base.rng import generator
from methods.contract import Batch, Output, Text
from methods.tris_step2 import weights
from methods.tris_step2.method import TrisStep2
from methods.tris_step2.network import PixelWordAttention
from tests.helpers import PROJECT

FIXTURE = PROJECT / "tests" / "parity" / "fixtures" / "tris_stage2_rn50.npz"
SIDES = {"head1": 24, "head2": 24, "head3": 12, "head4": 6}


def random(*shape):
    return torch.from_numpy(
        generator("tris step 2", *shape).standard_normal(shape, dtype=np.float32)
    )


def output_of(*key):
    first, *others = (random(2, 1, side, side) + sum(key) for side in SIDES.values())
    return Output(first, dict(zip(("head2", "head3", "head4"), others, strict=True)))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return TrisStep2(TrisStep2.definition.variants["tiny"], 60)


@pytest.fixture
def batch():
    ids = torch.zeros(2, 20, dtype=torch.int64)
    ids[0, :4], ids[1, :5] = torch.tensor([58, 9, 11, 59]), torch.tensor([58, 8, 7, 6, 59])
    targets = torch.zeros(2, 1, 96, 96)
    targets[0, :, 10:50, 20:60], targets[1, :, 40:, :30] = 1, 1
    return Batch(random(2, 3, 96, 96), Text(ids, (ids != 0).long()), targets, [0, 1])


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return TrisStep2(TrisStep2.definition.variants["paper"], 49408)


def test_published_names_come_in_and_go_out(published):
    with np.load(FIXTURE) as archive:
        keys = json.loads(str(archive["keys"]))
    flat = {name: torch.empty(shape, device="meta") for name, (shape, _) in keys.items()}
    own = weights.from_published(flat)
    assert (
        len(own) == 625
        and sum(parameter.numel() for parameter in published.parameters()) == 142_085_869
    )
    assert {n: v.shape for n, v in own.items()} == {
        n: v.shape for n, v in published.network.state_dict().items()
    }
    assert list(weights.to_published(own)) == list(flat)


def test_groups_are_the_published_ones(tiny):
    backbone, rest = tiny.parameter_groups(TrisStep2.definition.recipes["paper"])
    names = {id(parameter): name for name, parameter in tiny.network.named_parameters()}
    fast = {names[id(parameter)] for parameter in rest["params"]}
    assert {name for name in fast if name.startswith("backbone")} == {
        "backbone.positional_embedding",
        "backbone.visual.attnpool.positional_embedding",
    }
    assert len(names) == len(fast) + len(backbone["params"])


def test_the_rate_is_in_effect_constant(tiny):
    recipe = TrisStep2.definition.recipes["paper"]
    assert tiny.schedule(recipe, 883, 884) == [5e-6, 5e-5]
    assert tiny.schedule(recipe, 15 * 884 - 1, 884) == pytest.approx([5e-6, 5e-5], rel=1e-3)
    assert tiny.schedule(recipe, 884, 884)[1] == pytest.approx(5e-5 * (1 - 1 / 13260) ** 0.9)


def test_attention_is_a_softmax_over_all_words():
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6)
    x, words = random(2, 8, 3, 4), random(2, 6, 5)

    def normed(layer, values):
        mean, variance = (
            values.mean((2, 3), keepdim=True),
            values.var((2, 3), keepdim=True, unbiased=False),
        )
        return (values - mean) / (variance + 1e-5).sqrt() * layer.weight[
            :, None, None
        ] + layer.bias[:, None, None]

    for norm in (attention.ins_q, attention.ins_w):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    query = normed(attention.ins_q, attention.Wq(x)).flatten(2)
    shares = (torch.einsum("bcp,bcl->bpl", query, attention.Wk(words)) / 8**0.5).softmax(-1)
    gathered = torch.einsum("bpl,bcl->bcp", shares, attention.Wv(words)).reshape(2, 8, 3, 4)
    gate = normed(attention.ins_w, attention.Ww(gathered))
    expected = x + attention.Wo(attention.Wm(x).relu() * gate).relu()
    torch.testing.assert_close(attention(x, words), expected)


def test_words_come_after_the_whole_visual_tower(tiny, batch):
    maps = tiny.eval().encode_image(batch.images, {})
    assert [list(map.shape[-2:]) for map in maps] == [[24, 24], [12, 12], [6, 6], [3, 3]]
    with torch.no_grad():
        first, second = (tiny.segment(maps, text) for text in (batch.text, batch.text[[1, 0]]))
    assert not torch.allclose(first.logits, second.logits)
    assert {
        "head1": first.logits.shape[-1],
        **{name: x.shape[-1] for name, x in first.extras.items()},
    } == SIDES


def test_loss_is_bce_of_every_head_at_input_size(tiny, batch):
    output = output_of(0)
    terms = tiny.loss(output, batch)
    assert list(terms) == list(SIDES)
    for name, value in terms.items():
        logits = output.logits if name == "head1" else output.extras[name]
        p = F.interpolate(
            logits, scale_factor=96 // SIDES[name], mode="bilinear", align_corners=False
        ).sigmoid()
        expected = torch.where(batch.targets > 0, p, 1 - p).log().mean()
        torch.testing.assert_close(value, -expected)


def test_distillation_is_the_same_sum_at_every_heads_stride(tiny):
    student, teacher = output_of(0), output_of(1)
    expected = 0.0
    for name in SIDES:
        p, q = (
            (o.logits if name == "head1" else o.extras[name]).sigmoid() for o in (student, teacher)
        )
        expected -= (q * p.log() + (1 - q) * (1 - p).log()).mean()
    torch.testing.assert_close(tiny.distillation(student, teacher), expected)


def test_decision_on_signed_logits(tiny):
    geometry = Geometry(40, 70, 96, "square")
    logits = torch.full((24, 24), -1.0)
    assert tiny.mask(logits, geometry).all(), (
        "negative throughout: the published division changes the sign"
    )
    logits[:, 12:] = 1.0
    mask = tiny.mask(logits, geometry)
    assert not mask[:, :34].any() and mask[:, 36:].all()


def test_only_pseudo_masks_are_asked_for(tiny):
    definition = tiny.definition
    assert tiny.needs.masks == "pseudo" and definition.weakly_supervised
    assert definition.targets_from == "tris"


def test_loss_falls_on_one_batch(batch):
    torch.manual_seed(0)
    method = TrisStep2(TrisStep2.definition.variants["tiny"], 60).train()
    optimizer = torch.optim.AdamW(
        method.parameter_groups(TrisStep2.definition.recipes["tiny"]), lr=1e-3
    )
    losses = []
    for _ in range(10):
        loss = sum(method.loss(method(batch, {}, "loss"), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
