"""TRIS' auxiliary CLIP, which judges what a map leaves visible."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

from benchmark import strategies
from benchmark.base.rng import generator
from benchmark.data.samples import RawBatch
from benchmark.strategies.strategy import MicroBatch
from methods.tris import auxiliary
from methods.tris.method import TRIS
from tests.methods.tris.build import (
    CPU,
    NEGATIVES,
    WORDS,
    batch_of,
    build,
    random,
    sentences,
)


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
    method.auxiliary.visual.ln_pre.register_forward_hook(lambda *_: asked.append(1))
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


def test_a_sentence_has_the_same_vector_whatever_was_asked_before(monkeypatch):
    frozen = build().auxiliary
    ids = torch.cat([sentences(20).ids, sentences(5).ids])
    whole = auxiliary.embed_words(frozen, ids)
    cold, warm = auxiliary.Sentences(frozen), auxiliary.Sentences(frozen)
    assert torch.equal(cold.embed(ids), whole), "a batch has the numbers that it had without it"
    for row in reversed(range(len(ids))):
        assert torch.equal(warm.embed(ids[row : row + 1])[0], whole[row])
    asked = []
    monkeypatch.setattr(auxiliary, "embed_words", lambda *given: asked.append(given))
    assert torch.equal(cold.embed(ids.flip(0)), whole.flip(0)) and not asked, "it is kept"


def test_no_more_sentences_are_kept_than_there_is_room_for(monkeypatch):
    frozen = build().auxiliary
    monkeypatch.setattr(auxiliary, "KEPT", 4)
    kept = auxiliary.Sentences(frozen)
    ids = sentences(9).ids
    for _ in range(2):
        assert torch.equal(kept.embed(ids), auxiliary.embed_words(frozen, ids))
    assert len(kept._vectors) == 4


def test_other_weights_have_other_vectors():
    method, other = build(), build()
    batch = batch_of()
    torch.manual_seed(3)
    state = {
        name: value + 0.1 * torch.randn_like(value)
        for name, value in method.auxiliary.state_dict().items()
    }
    with torch.no_grad():
        before = method(batch, {}, "loss").extras["negatives"]
        method.load_auxiliary(state)
        other.load_auxiliary(state)
        after = method(batch, {}, "loss").extras["negatives"]
        assert not torch.equal(before, after)
        assert torch.equal(after, other(batch, {}, "loss").extras["negatives"])
        double = method.double().sentences.embed(batch.text.ids)
    assert double.dtype == torch.float64
