"""TRIS, step 1: losses, masks, groups, names; its numbers are proven by parity."""

import copy
import math

import numpy as np
import pytest
import torch

from benchmark.base.geometry import Geometry
from benchmark.base.pretrained import Source
from benchmark.base.rng import generator
from methods.contract import Batch, Output
from methods.tris import weights
from methods.tris.method import TRIS, classification_logits, coverage, decide
from methods.tris.pseudo import response_similarities, select_response
from tests.methods.tris.build import (
    NEGATIVES,
    WORDS,
    batch_of,
    build,
    random,
    sentences,
    shapes,
)


def test_parameters_are_counted_as_published(published):
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(published) == count(published.network) == 113_559_906
    assert count(published.network.attn_fusion) == 8_404_992
    assert count(published.auxiliary) == 151_277_313  # CLIP ViT-B/32


def test_published_names_come_in_and_go_out(published, keys):
    flat = {name: torch.empty(shape, device="meta") for name, (shape, _) in keys["keys"].items()}
    own = weights.from_published(flat)
    assert shapes(own) == shapes(published.network.state_dict())
    assert list(weights.to_published(own)) == list(flat)
    assert weights.checkpoint(own)["model"].keys() == flat.keys()
    assert shapes(published.auxiliary.state_dict()) == {
        name: shape for name, (shape, _) in keys["aux_keys"].items()
    }


def test_both_clips_are_started_from_published_weights(published, keys, monkeypatch):
    towers = {
        name.removeprefix("backbone."): entry
        for name, entry in keys["keys"].items()
        if "backbone." in name
    }
    clips = {"openai-RN50": towers, "openai-ViT-B-32": keys["aux_keys"]}

    def published_clip(name, source):
        return {key: torch.empty(shape, device="meta") for key, (shape, _) in clips[name].items()}

    monkeypatch.setattr("methods.backbones.clip.starting_weights", published_clip)
    state = weights.starting_weights(published.config, Source())
    own = shapes(published.network.state_dict()) | {
        f"auxiliary.{name}": shape
        for name, shape in shapes(published.auxiliary.state_dict()).items()
    }
    assert shapes(state).items() <= own.items()
    assert {name.split(".")[0] for name in own.keys() - state.keys()} == {
        "logit_scale",
        "vis_project",
        "lan_project",
        "attn_fusion",
    }


def test_groups_are_the_published_ones():
    method = build()
    recipe = TRIS.definition.recipes["paper"]
    backbone, rest = method.parameter_groups(recipe)
    names = {id(parameter): name for name, parameter in method.network.named_parameters()}
    assert all(names[id(parameter)].startswith("backbone.") for parameter in backbone["params"])
    assert {names[id(parameter)].split(".")[0] for parameter in rest["params"]} == {
        "vis_project",
        "lan_project",
        "attn_fusion",
    }
    assert len(names) - len(backbone["params"]) - len(rest["params"]) == 1
    assert not method.network.logit_scale.requires_grad
    assert method.network.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    # Everything decays, norms and biases too.
    assert (
        "weight_decay" not in backbone
        and "weight_decay" not in rest
        and recipe.weight_decay == 0.01
    )


@pytest.mark.parametrize("step, factor", [(0, 1.0), (6630, 0.5**0.9), (13259, (1 / 13260) ** 0.9)])
def test_schedule_decays_per_iteration(tiny, step, factor):
    rates = tiny.schedule(TRIS.definition.recipes["paper"], step, 884)
    assert rates == pytest.approx([5e-6 * factor, 5e-5 * factor])


def test_both_published_weightings():
    found = {
        name: (c.foreground_weight, c.classification_weight, c.negative_weight, c.negatives)
        for name, c in TRIS.definition.variants.items()
    }
    assert found["paper"] == (2, 5, 1, 6) and found["paper-head"] == (1, 5, 2, 3)
    assert build("tiny").needs.negatives == NEGATIVES


def naive_losses(scores, foreground, negatives):
    """Return the three losses, unweighted, number by number."""
    images, texts, height, width = scores.shape
    classification = 0.0
    for i in range(images):
        share = np.zeros(texts)
        for y in range(height):
            for x in range(width):
                powers = np.exp(scores[i, :, y, x])
                share += powers / (math.e + powers.sum())
        for n in range(texts):
            p = share[n] / (height * width)
            logit = scores[i, n].mean() + scores[i, n].max() + (1 - p) ** 3 * math.log(0.01 + p)
            probability = 1 / (1 + math.exp(-logit))
            classification -= math.log(probability if i == n else 1 - probability) / (
                images * texts
            )
    first = -np.mean([math.log(min(max(value, 1e-4), 0.9999)) for value in foreground])
    third = -np.mean([math.log(1 - value) for row in negatives for value in row])
    return first, classification, third


def test_losses_in_closed_form(tiny):
    scores = random(3, 3, 2, 4)
    foreground, negatives = torch.tensor([[0.3], [-0.2], [1.0]]), torch.tanh(random(3, 5))
    output = Output(
        scores[:, :1], {"scores": scores, "foreground": foreground, "negatives": negatives}
    )
    terms = tiny.loss(output, batch_of())
    expected = naive_losses(scores.double().numpy(), foreground[:, 0].tolist(), negatives.tolist())
    weighted = [weight * value for weight, value in zip((2, 5, 1), expected, strict=True)]
    assert list(terms) == ["foreground", "classification", "negative"]
    assert [term.item() for term in terms.values()] == pytest.approx(weighted, rel=1e-5)
    assert coverage(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1 / (1 + math.e))
    assert classification_logits(scores).shape == (3, 3)


class Forbidden:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name):
        raise AssertionError(f"a mask was asked for .{name}")


def test_no_mask_is_read():
    method = build().train()
    batch = batch_of()
    batch.targets = Forbidden()
    output = method(batch, {}, "loss")
    sum(method.loss(output, batch).values()).backward()
    teacher = Output(output.logits.detach())
    method.distillation(method(batch, {}, "prediction"), teacher).backward()
    assert method.needs.masks == "none" and method.definition.weakly_supervised


def test_a_pair_depends_on_the_batch_while_training_alone():
    method = build()
    batch = batch_of()
    other = Batch(batch.images, sentences(3, "others"), None, [0, 1, 2])
    other.text.ids[0] = batch.text.ids[0]
    with torch.no_grad():
        for mode, same in ((True, False), (False, True)):
            method.train(mode)
            first, second = (
                copy.deepcopy(method)(given, {}, "prediction").logits[0] for given in (batch, other)
            )
            assert torch.allclose(first, second, atol=1e-5) == same
        features = method.encode_image(batch.images, {})
        alone = method.network.score(
            features[1:2], method.network.encode_text(batch.text.ids[1:2])[None]
        )
        torch.testing.assert_close(method(batch, {}, "prediction").logits[1:2], alone)


def test_alone_the_visual_prompt_is_a_constant():
    fusion = build().network.attn_fusion
    torch.nn.init.normal_(fusion.v_output[1].bias)
    new_v, new_t = fusion(random(2, 128, 3, 3), random(2, 1, 128))
    torch.testing.assert_close(
        new_v, fusion.v_output[1].bias[:, None, None].expand(2, 128, 3, 3), rtol=1e-3, atol=1e-3
    )
    assert new_t.shape == (2, 1, 128) and not torch.allclose(new_t[0], new_t[1])


def test_sentences_that_lost_their_end_share_one_state(tiny):
    ids = torch.from_numpy(generator("long").integers(1, WORDS - 2, (2, 20)))
    ids[:, 0] = WORDS - 2
    with torch.no_grad():
        torch.testing.assert_close(*tiny.network.encode_text(ids))
        ids[:, -1] = WORDS - 1
        assert not torch.allclose(*tiny.network.encode_text(ids), atol=1e-3)


def test_distillation_is_bce_on_the_own_maps(tiny):
    student, teacher = random(3, 1, 3, 3), random(1, 3, 3, 3).transpose(0, 1)
    p, q = student.sigmoid(), teacher.sigmoid()
    expected = -(q * p.log() + (1 - q) * (1 - p).log()).mean()
    torch.testing.assert_close(tiny.distillation(Output(student), Output(teacher)), expected)


def bilinear(values, height, width, align):
    """Return values (h, w) resized, point by point."""
    rows, columns = values.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = (
                y * (rows - 1) / (height - 1)
                if align
                else min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            )
            u = (
                x * (columns - 1) / (width - 1)
                if align
                else min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            )
            top, left = min(int(v), rows - 2), min(int(u), columns - 2)
            down, right = v - top, u - left
            result[y, x] = (1 - down) * (
                (1 - right) * values[top, left] + right * values[top, left + 1]
            ) + down * ((1 - right) * values[top + 1, left] + right * values[top + 1, left + 1])
    return result


def test_mask_is_clipped_between_two_interpolations(tiny):
    scores = random(3, 3)
    at_input = bilinear(scores.numpy(), 96, 96, align=False)
    expected = bilinear(np.maximum(at_input, 0), 60, 90, align=True) > 1e-6
    mask = tiny.mask(scores, Geometry(60, 90, 96, "square"))
    assert 0 < mask.mean() < 1 and (mask != expected).sum() <= 2  # a score may be 0 within rounding
    signed = bilinear(at_input, 60, 90, align=True) > 0
    assert not (signed & ~mask).any() and (mask & ~signed).any(), "it grows by up to a pixel"


def test_a_map_that_is_negative_throughout_changes_its_sign():
    geometry = Geometry(20, 30, 16, "square")
    assert decide(-torch.ones(16, 16), geometry).all()
    assert not decide(torch.zeros(16, 16), geometry).any()


def test_the_map_that_agrees_with_all_sentences_is_kept(tiny):
    responses = random(3, 4, 5).abs()
    similarities = torch.tensor([[0.9, -0.9, 0.1], [0.2, 0.2, 0.2], [0.5, -0.1, 0.1]])
    kept = select_response(responses, similarities)
    torch.testing.assert_close(kept, responses[1] / (responses[1].max() + 1e-5))
    with torch.no_grad():
        found = response_similarities(
            tiny.auxiliary, random(1, 3, 96, 96), random(2, 1, 96, 96).relu(), sentences(3).ids
        )
    assert found.shape == (2, 3) and found.abs().max() <= 1


def test_loss_falls_on_one_batch():
    method = build().train()
    batch = batch_of()
    optimizer = torch.optim.AdamW(method.parameter_groups(TRIS.definition.recipes["tiny"]), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = sum(method.loss(method(batch, {}, "loss"), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
