"""SaG's slots and their noise."""

import math

import pytest
import torch
from torch import nn

from benchmark.base.rng import generator
from benchmark.data.images import EvaluationImages
from benchmark.data.samples import TrainingSamples
from benchmark.evaluation.inference import build_method
from benchmark.evaluation.predict import evaluate, predict
from benchmark.runs.opened import Opened
from benchmark.strategies.strategy import MicroBatch
from methods.sag.method import SaG
from methods.sag.slots import SlotBlock
from tests.helpers import tiny_spec
from tests.methods.sag.build import CPU, draws_of, random


def test_slots_start_as_published():
    torch.manual_seed(0)
    queries = SaG(
        SaG.definition.variants["tiny"].model_copy(update={"width": 512, "groups": 12}), 200
    ).network
    queries = queries.encoders["img_enc"].set_pred_module.agg["queries"]
    mean, log_variance = queries["slots_mu"].detach(), queries["slots_log_sigma"].detach()
    assert mean.shape == log_variance.shape == (1, 12, 512)
    assert mean.abs().max() == pytest.approx(0.030, abs=2e-4)
    assert (log_variance + math.log(512)).abs().max() == pytest.approx(0.030, abs=2e-4)
    noise = (0.5 * log_variance).exp() * random(1, 12, 512)
    assert noise.norm(dim=-1).mean() == pytest.approx(1, abs=0.05)
    assert mean.norm(dim=-1).mean() == pytest.approx(0.4, abs=0.05)


def test_slots_of_a_group_are_interchangeable_and_those_of_two_groups_are_not(tiny, batch):
    noise = draws_of(tiny, 0, 1, 2, 3)["slots"]
    order = torch.arange(tiny.config.slots)
    order[:3], order[6:9] = torch.tensor([2, 0, 1]), torch.tensor([6, 8, 7])
    across = torch.arange(tiny.config.slots)
    across[[0, 3]] = across[[3, 0]]
    with torch.no_grad():
        here = tiny.encode_image(batch.images, {"slots": noise})
        there = tiny.encode_image(batch.images, {"slots": noise[:, order]})
        other = tiny.encode_image(batch.images, {"slots": noise[:, across]})
        still = tiny.encode_image(batch.images, {"slots": torch.zeros_like(noise)})
        scores = [tiny.segment(features, batch.text).logits for features in (here, there)]
    torch.testing.assert_close(there.slots, here.slots[:, order])
    torch.testing.assert_close(there.maps, here.maps[:, order])
    torch.testing.assert_close(*scores)
    assert (other.slots - here.slots[:, across]).abs().max() > 1e-2
    groups = still.slots.unflatten(1, (-1, 3))
    torch.testing.assert_close(
        groups, groups[:, :, :1].expand_as(groups)
    )  # without noise a group is one slot


def test_slots_share_every_place_and_the_score_is_a_probability(tiny, batch):
    with torch.no_grad():
        features = tiny.encode_image(batch.images, draws_of(tiny, 0, 1, 2, 3))
        output = tiny.segment(features, batch.text)
        with torch.autocast("cpu", torch.bfloat16):
            rough = tiny(batch, draws_of(tiny, 0, 1, 2, 3), "loss")
    assert features.maps.shape == (4, 12, 8, 8) and output.logits.shape == (4, 1, 8, 8)
    torch.testing.assert_close(features.maps.sum(1), torch.ones(4, 8, 8))
    assert 0 < output.logits.min() and output.logits.max() < 1
    assert rough.logits.dtype == torch.float32 and all(
        value.dtype == torch.float32 for value in rough.extras.values()
    )
    torch.testing.assert_close(rough.logits, output.logits, rtol=0.1, atol=0)


def test_only_the_slots_of_a_group_see_each_other():
    torch.manual_seed(0)
    block = SlotBlock(16, 2, 8, 8, 32, 0.0).requires_grad_(False)
    for entry in block["0"].fn["to_out"][0].parameters():
        nn.init.zeros_(entry)  # else slots also meet in the image, for whose tokens they compete
    slots, tokens = random(2, 12, 16), random(2, 5, 16)
    moved = slots.clone()
    moved[:, 4] = random(16)
    changed = (block(moved, tokens, 4)[0] - block(slots, tokens, 4)[0]).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [number in (3, 4, 5) for number in range(12)]


def test_slot_attention_is_that_of_its_definition():
    torch.manual_seed(0)
    attention = SlotBlock(16, 2, 8, 8, 32, 0.0).requires_grad_(False)["0"]
    slots, tokens = random(3, 16), random(5, 16)
    found, shares = attention(slots[None], tokens[None])
    x, context = attention.norm(slots), attention.norm_context(tokens)
    heads, maps = [], []
    for part in (slice(0, 8), slice(8, 16)):  # heads are contiguous channels
        query, key, value = (
            source @ attention.fn[name].weight[part].T
            for name, source in (("to_q", x), ("to_k", context), ("to_v", context))
        )
        share = (query @ key.T / math.sqrt(8)).softmax(0)  # over slots
        maps.append(share)
        heads.append(share / (share.sum(1, keepdim=True) + 1e-7) @ value)
    torch.testing.assert_close(found[0], slots + attention.fn["to_out"](torch.cat(heads, 1)))
    torch.testing.assert_close(shares[0], (maps[0] + maps[1]) / 2)


def test_an_image_has_the_same_noise_in_any_company(tiny):
    alone, together = draws_of(tiny, "b")["slots"], draws_of(tiny, "a", "b", "c")["slots"]
    assert alone.shape == (1, tiny.config.slots, tiny.config.width)
    assert torch.equal(alone[0], together[1]) and not torch.equal(together[0], together[1])
    assert together.mean().abs() < 0.1 and together.std() == pytest.approx(1, abs=0.1)


@pytest.fixture(scope="module")
def loaded(boxes):
    spec, places = tiny_spec(boxes, "sag", strategy={"patch_size": 8})
    dataset, tokenizer = Opened(places).run(spec)
    return spec, build_method(spec, tokenizer).eval(), dataset, tokenizer


@torch.no_grad()
def test_evaluation_noise_is_keyed_by_seed_and_image(loaded):
    _, method, dataset, tokenizer = loaded
    images = list(EvaluationImages(dataset, "val", method.needs))
    together = predict(method, images, tokenizer, CPU)
    again = predict(method, images[::-1], tokenizer, CPU)[::-1]
    other = predict(method, images, tokenizer, CPU, draw_seed=1)
    for one, same, different in zip(together, again, other, strict=True):
        torch.testing.assert_close(torch.stack(one.logits), torch.stack(same.logits))
        assert (torch.stack(one.logits) - torch.stack(different.logits)).abs().max() > 1e-5
    records = [evaluate(method, dataset, "val", tokenizer, CPU, draw_seed=seed) for seed in (0, 1)]
    assert not records[0].equals(records[1])


def test_both_passes_of_a_step_share_the_noise_of_each_sample(loaded):
    spec, method, dataset, tokenizer = loaded
    samples = TrainingSamples(dataset, "train", method.needs, tokenizer, spec.seed)
    assert len(samples) == sum(len(ref.sentences) for ref in dataset.refs_of("train"))
    seen = []

    def network(batch, draws, purpose):
        seen.append((draws["slots"], purpose))
        return method(batch, draws, purpose)

    raw = samples.batch([5, 0, 3], 0)
    spec.strategy.step(
        MicroBatch(
            network=network,
            method=method,
            samples=raw,
            tokenizer=tokenizer,
            seed=spec.seed,
            epoch=0,
            key=(0, "step", 7),
            share=1.0,
            add_gradient=torch.Tensor.backward,
            device=CPU,
        )
    )
    (first, clean), (second, masked) = seen
    assert (clean, masked) == ("loss", "prediction") and torch.equal(first, second)
    for row, sample in zip(first, (5, 0, 3), strict=True):
        assert torch.equal(row, method.draws([generator(0, "draws", 0, sample)])["slots"][0])
