"""SaG's losses and decision; its numbers are proven by parity."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.base.geometry import Geometry
from methods.contract import Output, Text
from methods.sag.method import SaG
from tests.methods.sag.build import draws_of, random


def test_losses_in_closed_form(tiny, batch):
    """The batch has no targets: whatever the loss needs is in images and sentences."""
    sentences = random(4, 6).requires_grad_()
    gathered = F.normalize(random(4, 4, 6), dim=-1).requires_grad_()
    tokens, painted = random(4, 5, 7).requires_grad_(), random(4, 5, 7).flip(0).requires_grad_()
    extras = {
        "sentences": sentences,
        "gathered": gathered,
        "tokens": tokens,
        "reconstruction": painted,
    }
    terms = tiny.loss(Output(torch.zeros(4, 1, 2, 2), extras), batch)
    contrastive = 0.0
    for sentence in range(4):
        against = [(sentences[sentence] @ gathered[image, sentence]).item() for image in range(4)]
        contrastive += math.log(sum(map(math.exp, against))) - against[sentence]
    assert terms["contrastive"].item() == pytest.approx(contrastive / 4, rel=1e-5)
    assert terms["reconstruction"].item() == pytest.approx(
        (painted - tokens).square().mean().item(), rel=1e-5
    )
    sum(terms.values()).backward()
    assert sentences.grad is None and tokens.grad is None, "both are constants here"
    assert gathered.grad.abs().sum() > 0 and painted.grad.abs().sum() > 0


def test_the_text_encoder_learns_by_what_the_sentence_gathers(tiny, batch):
    tiny.zero_grad()
    output = tiny(batch, draws_of(tiny, 0, 1, 2, 3), "loss")
    tiny.loss(output, batch)["contrastive"].backward()
    assert tiny.network.encoders["txt_enc"].linear.weight.grad.abs().sum() > 0
    silent = {
        name for name, p in tiny.network.named_parameters() if p.grad is None or not p.grad.any()
    }
    assert silent and all(name.startswith("decoder.") for name in silent)
    tiny.zero_grad()


def test_own_pairs_are_the_diagonal_of_all_pairs(tiny, batch):
    draws = draws_of(tiny, 0, 1, 2, 3)
    with torch.no_grad():
        every, own = tiny(batch, draws, "loss"), tiny(batch, draws, "prediction")
    torch.testing.assert_close(every.logits, own.logits)
    assert (
        set(every.extras)
        == {"sentences", "gathered", "tokens", "reconstruction", "places", "words"}
        and not own.extras
    )
    torch.testing.assert_close(every.extras["gathered"].norm(dim=-1), torch.ones(4, 4))
    assert every.extras["reconstruction"].shape == every.extras["tokens"].shape == (4, 64, 64)


def test_distillation_in_closed_form_and_safe_at_its_ends(tiny):
    student, teacher = torch.rand(2, 1, 5, 5), torch.rand(2, 1, 5, 5)
    expected = -(teacher * student.log() + (1 - teacher) * (1 - student).log()).mean()
    torch.testing.assert_close(tiny.distillation(Output(student), Output(teacher)), expected)
    ends = torch.tensor([0.0, 1.0, 0.5]).requires_grad_()
    loss = tiny.distillation(Output(ends), Output(torch.tensor([1.0, 0.0, 0.5])))
    loss.backward()
    assert loss.item() == pytest.approx((2 * math.log(1e6) + math.log(2)) / 3, rel=1e-3)
    assert torch.isfinite(ends.grad).all()


def test_mask_stretches_the_score_at_the_original_size(tiny):
    score = 0.0276 + 0.0006 * torch.rand(8, 8)
    mask = tiny.mask(score, Geometry(50, 70, 64, "square"))
    large = F.interpolate(score[None, None], (50, 70), mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    half = (large.min() + large.max()) / 2
    clear = np.abs(large - half) > 1e-6
    assert (
        mask.shape == (50, 70)
        and np.array_equal(mask[clear], (large >= half)[clear])
        and clear.mean() > 0.99
    )
    assert not tiny.mask(torch.zeros(8, 8), Geometry(50, 70, 64, "square")).any()


def test_loss_falls_on_one_batch(batch):
    torch.manual_seed(0)
    method = SaG(SaG.definition.variants["tiny"], 200).train()
    optimizer = torch.optim.AdamW(method.parameter_groups(SaG.definition.recipes["tiny"]), lr=1e-3)
    losses = []
    for _ in range(80):
        loss = sum(method.loss(method(batch, draws_of(method, 0, 1, 2, 3), "loss"), batch).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(method.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def test_padding_and_neighbours_are_invisible(tiny, batch):
    """The published loader cuts no sentence; ours pads to a fixed length, which must
    not matter.
    """
    draws = draws_of(tiny, 0, 1, 2, 3)
    short = dataclasses.replace(
        batch, text=Text(batch.text.ids[:, :8], batch.text.attention[:, :8])
    )
    with torch.no_grad():
        torch.testing.assert_close(
            tiny(short, draws, "prediction").logits, tiny(batch, draws, "prediction").logits
        )
