"""TRIS, step 1: losses, masks, the auxiliary, groups, names; its numbers are proven by parity."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark import strategies
from benchmark.base.geometry import Geometry
from benchmark.base.pretrained import Source
from benchmark.base.rng import generator
from benchmark.data.samples import RawBatch
from benchmark.strategies.strategy import MicroBatch
from methods.contract import Batch, Output, Text
from methods.tris import auxiliary, weights
from methods.tris.method import TRIS, classification_logits, coverage, decide
from methods.tris.pseudo import response_similarities, select_response
from tests.helpers import PROJECT

FIXTURE = PROJECT / "tests" / "parity" / "fixtures" / "tris_rn50.npz"
WORDS, NEGATIVES = 60, 6
CPU = torch.device("cpu")


def random(*shape):
    return torch.from_numpy(generator("tris test", *shape).standard_normal(shape, dtype=np.float32))


def sentences(count, key="sentences"):
    ids = torch.zeros(count, 20, dtype=torch.int64)
    for row in range(count):
        pieces = torch.from_numpy(generator(key, row).integers(1, WORDS - 2, 2 + row % 5))
        ids[row, : len(pieces) + 2] = torch.tensor([WORDS - 2, *pieces, WORDS - 1])
    return Text(ids, (ids != 0).long())


def batch_of(count=3):
    return Batch(
        random(count, 3, 96, 96),
        sentences(count),
        None,
        list(range(count)),
        sentences(count * NEGATIVES, "negatives"),
    )


def build(variant="tiny"):
    torch.manual_seed(0)
    method = TRIS(TRIS.definition.variants[variant], WORDS)
    for module in method.modules():  # away from CLIP's start, at which a block adds nothing
        if hasattr(module, "bn3"):
            torch.nn.init.normal_(module.bn3.weight)
    return method


@pytest.fixture(scope="module")
def tiny():
    return build()


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return TRIS(TRIS.definition.variants["paper"], 49408)


@pytest.fixture(scope="module")
def keys():
    with np.load(FIXTURE) as archive:
        return {name: json.loads(str(archive[name])) for name in ("keys", "aux_keys")}


def shapes(state):
    return {name: list(value.shape) for name, value in state.items()}


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


def test_extras_are_the_cosines_of_what_a_map_leaves_visible():
    method = build().train()
    batch = batch_of()
    with torch.no_grad():
        output = method(batch, {}, "loss")
        scores = output.extras["scores"]
        assert scores.shape == (3, 3, 3, 3) and output.extras["negatives"].shape == (3, NEGATIVES)
        for i in range(3):
            assert torch.equal(output.logits[i, 0], scores[i, i])
            shown = F.interpolate(scores[i, i][None, None], (96, 96), mode="bilinear").sigmoid()
            small = [
                F.interpolate(x, (64, 64), mode="bilinear", align_corners=True)
                for x in (shown, batch.images[i][None])
            ]
            seen = method.auxiliary.encode_image(small[0] * small[1])
            for name, ids in (
                ("foreground", batch.text.ids[i : i + 1]),
                ("negatives", batch.negatives.ids[i * NEGATIVES : (i + 1) * NEGATIVES]),
            ):
                # open_clip's text tower takes as many ids as its context holds: 20 here.
                cosines = F.cosine_similarity(seen, method.auxiliary.encode_text(ids))
                torch.testing.assert_close(output.extras[name][i], cosines, rtol=1e-4, atol=1e-5)


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


def test_the_auxiliary_is_frozen_and_no_part_of_the_checkpoint():
    method = build()
    before = copy.deepcopy(method.auxiliary.state_dict())
    assert all(name.startswith("network.") for name in method.state_dict())
    assert method.auxiliary not in set(method.modules())
    method.train()
    batch = batch_of()
    (2 * method.loss(method(batch, {}, "loss"), batch)["negative"]).backward()
    assert not method.auxiliary.training
    assert all(
        not parameter.requires_grad and parameter.grad is None
        for parameter in method.auxiliary.parameters()
    )
    assert method.network.vis_project.weight.grad.abs().sum() > 0, (
        "the loss reaches the network through it"
    )
    assert all(
        torch.equal(value, before[name]) for name, value in method.auxiliary.state_dict().items()
    )
    assert method.double().auxiliary.visual.proj.dtype == torch.float64, "it moves with the method"


def test_the_masked_pass_does_not_ask_the_auxiliary():
    method = build().train()
    tokenizer = type(
        "Tokenizer", (), {"special_ids": {0, 58, 59}, "mask_id": 0, "random_ids": range(58)}
    )
    strategy = strategies.get("maskris").model_copy(update={"patch_size": 8})
    pixels = torch.from_numpy(generator("pixels").integers(0, 256, (3, 96, 96, 3), dtype=np.uint8))
    raw = RawBatch(pixels, None, sentences(3), [0, 1, 2], sentences(3 * NEGATIVES, "negatives"))
    asked = []
    method.auxiliary.visual.register_forward_hook(lambda *_: asked.append(1))
    micro = MicroBatch(
        network=method,
        method=method,
        samples=raw,
        tokenizer=tokenizer,
        seed=0,
        epoch=0,
        key=("step",),
        share=1.0,
        add_gradient=torch.Tensor.backward,
        device=CPU,
    )
    losses = strategy.step(micro)
    assert len(asked) == 1
    assert set(losses) >= {
        "train/loss_foreground",
        "train/loss_classification",
        "train/loss_negative",
        "train/loss_dist",
    }
    assert all(map(math.isfinite, losses.values()))


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


def coloured_batches(count):
    """Yield pictures of one colour and a word for it."""
    colours = 2 * torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    ids = torch.zeros(4, 20, dtype=torch.int64)
    ids[:, 0], ids[:, 1], ids[:, 2] = WORDS - 2, torch.tensor([5, 17, 29, 41]), WORDS - 1
    for step in range(count):
        noise = torch.from_numpy(
            generator("noise", step).standard_normal((4, 3, 96, 96), dtype=np.float32)
        )
        yield colours[:, :, None, None] + 0.3 * noise, ids


def test_an_auxiliary_learns_to_match_and_is_a_function_of_its_arguments():
    method = build()
    first = method.train_auxiliary(coloured_batches(15), 15, CPU)
    torch.manual_seed(6)
    again = method.train_auxiliary(coloured_batches(15), 15, CPU)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    method.load_auxiliary(first)
    assert not any(parameter.requires_grad for parameter in method.auxiliary.parameters())
    ((images, ids),) = coloured_batches(1)
    with torch.no_grad():
        cosines = (
            auxiliary.embed_visible(method.auxiliary, images)
            @ auxiliary.embed_words(method.auxiliary, ids).T
        )
    assert torch.equal(cosines.argmax(1), torch.arange(4)) and torch.equal(
        cosines.argmax(0), torch.arange(4)
    )


def test_only_what_has_no_published_auxiliary_trains_one():
    with torch.device("meta"):
        passes = {
            name: TRIS(config, WORDS).auxiliary_passes
            for name, config in TRIS.definition.variants.items()
        }
    assert passes == {"paper": None, "paper-head": None, "small": (10, 128), "tiny": (3, 32)}


def test_a_hidden_image_is_its_mean_colour():
    clip = build().auxiliary
    hidden = auxiliary.embed_visible(clip, random(2, 3, 96, 96), torch.zeros(2, 1, 96, 96))
    torch.testing.assert_close(hidden, auxiliary.embed_visible(clip, torch.zeros(2, 3, 96, 96)))


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
