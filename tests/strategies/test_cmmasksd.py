"""CM-MaskSD's branches and split masking, which no published code can be compared with.

These tests stand in for parity: what is hidden, where gradients come from, and what the relevance
is (facts/cmmasksd.md, section 9).
"""

import dataclasses

import numpy as np
import open_clip
import pytest
import torch

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.base.rng import reseed_dropout
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.resolve import resolve_strategy
from benchmark.runs.rundir import RunDir
from benchmark.strategies import cmmasksd
from benchmark.strategies.maskris import detached
from benchmark.training.trainer import Trainer
from methods.contract import Batch, Hidden
from tests.helpers import tiny_spec
from tests.parity.network import without_dropout
from tests.strategies.test_steps import prepared, step

NAMES = ("cmmasksd", "lmvsd", "vmlsd")


def hidden_of(strategy, network, micro):
    """Return what each branch of a step hides, and the aligned features that it was chosen by."""
    output = detached(network(micro.batch, {}, "loss"))
    branches, _ = strategy.branches(micro, output)
    return {branch.name: branch.batch.hidden for branch in branches}, network.aligned(output)


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "total", "parts"),
    [
        ("paper", 190_391_042, (150_465_537, 22_503_936, 12_631_552, 4_788_737, 1_280)),
        ("paper-480", 190_086_914, (150_161_409, 22_503_936, 12_631_552, 4_788_737, 1_280)),
        ("paper-vitl14", 517_278_466, (428_833_025, 49_287_936, 28_384_512, 10_771_201, 1_792)),
    ],
)
def test_the_network_has_the_counted_parameters(variant, total, parts):
    method = methods.get("cmmasksd")
    with torch.device("meta"):
        network = method(method.definition.variants[variant], 49408).network
    names = ("backbone", "neck", "decoder", "proj", "mask")
    counts = {
        name: sum(p.numel() for n, p in network.named_parameters() if n.startswith(name))
        for name in names
    }
    assert tuple(counts.values()) == parts and sum(counts.values()) == total


def test_relevance_is_what_clip_says_of_an_image_and_a_sentence(boxes):
    """Class token and sentence state are those of open_clip's own towers, not normalised."""
    _, network, micro = prepared(boxes, "cmmasksd", "cmmasksd")
    clip, batch = network.network.backbone, micro().batch
    with torch.no_grad():
        aligned = network.aligned(network(batch, {}, "loss"))
        image = clip.encode_image(batch.images)
        # open_clip reads sentences of its own length, so these are padded.
        ids = torch.nn.functional.pad(
            batch.text.ids, (0, clip.context_length - batch.text.ids.shape[1])
        )
        sentence = clip.encode_text(ids)
    assert isinstance(clip, open_clip.CLIP)
    torch.testing.assert_close(aligned.image, image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(aligned.sentence, sentence, rtol=1e-4, atol=1e-5)
    ends = batch.text.ids.argmax(1)
    torch.testing.assert_close(
        aligned.words[torch.arange(len(ends)), ends], sentence, rtol=1e-4, atol=1e-5
    )
    assert aligned.places.shape == (4, 128, 8, 8)


def test_nothing_hidden_is_the_clean_pass(boxes):
    _, network, micro = prepared(boxes, "cmmasksd", "baseline")
    batch = micro().batch
    nothing = Hidden(torch.zeros(4, 64, dtype=torch.bool), torch.zeros(4, 20, dtype=torch.bool))
    network.eval()
    with torch.no_grad():
        clean = network(batch, {}, "prediction").logits
        same = network(dataclasses.replace(batch, hidden=nothing), {}, "prediction").logits
    assert torch.equal(clean, same)


def test_a_hidden_place_is_not_seen(boxes):
    """What stands in a hidden patch, or at a hidden word, changes nothing."""
    _, network, micro = prepared(boxes, "cmmasksd", "baseline")
    batch = micro().batch
    patches = torch.zeros(4, 8, 8, dtype=torch.bool)
    patches[:, 2:5, 3:6] = True
    words = torch.zeros(4, 20, dtype=torch.bool)
    words[:, 1] = True
    hidden = dataclasses.replace(batch, hidden=Hidden(patches.flatten(1), words))
    images, ids = batch.images.clone(), batch.text.ids.clone()
    images[:, :, 24:60, 36:72] = 7.0
    ids[:, 1] = 2
    text = dataclasses.replace(batch.text, ids=ids)
    other = dataclasses.replace(hidden, images=images, text=text)
    network.eval()
    with torch.no_grad():
        one = network(hidden, {}, "prediction").logits
        assert torch.equal(one, network(other, {}, "prediction").logits)
        assert not torch.equal(one, network(batch, {}, "prediction").logits)


# --- what is hidden -------------------------------------------------------------------------------


def test_hidden_places_are_among_the_most_relevant_candidates(boxes):
    strategy, network, micro = prepared(
        boxes, "cmmasksd", "cmmasksd", strategy={"word_alpha": 1.0, "word_top_k": 0.5}
    )
    its = micro()
    hidden, aligned = hidden_of(strategy, network, its)
    patches = hidden["lmvsd"].patches
    assert hidden["lmvsd"].words is None and hidden["vmlsd"].patches is None
    relevance = torch.einsum("bchw,bc->bhw", aligned.places, aligned.sentence).flatten(1)
    best = relevance.argsort(1, descending=True)[:, :32]
    among = torch.zeros_like(patches).scatter(1, best, True)
    assert not (patches & ~among).any()
    # 0.25 of 32 candidates is a whole number.
    assert patches.sum(1).tolist() == [8] * 4

    words, ids = hidden["vmlsd"].words, its.samples.text.ids
    special = torch.isin(ids, torch.tensor(sorted(its.tokenizer.special_ids)))
    assert not (words & special).any()
    relevance = torch.einsum("bld,bd->bl", aligned.words, aligned.image)
    for row in range(4):
        pieces = [at for at in range(ids.shape[1]) if not special[row, at]]
        best = sorted(pieces, key=lambda at: -relevance[row, at])[: -(-len(pieces) // 2)]
        assert set(words[row].nonzero().flatten().tolist()) == set(best)


@pytest.mark.parametrize("number", [1, 2, 5, 17])
@pytest.mark.parametrize("alpha", [0.1, 0.25, 1.0])
def test_the_mean_number_of_hidden_places_is_alpha_of_the_candidates(boxes, number, alpha):
    _, _, micro = prepared(boxes, "cmmasksd", "cmmasksd")
    its = micro()
    candidates = torch.zeros(4, 30, dtype=torch.bool)
    candidates[:, 3 : 3 + number] = True
    relevance = torch.arange(30.0).expand(4, -1)
    counts = [
        cmmasksd._hidden(
            dataclasses.replace(its, epoch=epoch), "hidden words", relevance, candidates, 0.5, alpha
        ).sum(1)
        for epoch in range(100)
    ]
    best = -(-number // 2)
    counts = torch.stack(counts).double()
    assert counts.mean().item() == pytest.approx(alpha * best, abs=0.1)
    assert counts.min() >= np.floor(alpha * best) and counts.max() <= np.ceil(alpha * best)


def test_without_alpha_nothing_is_hidden_and_a_top_k_of_one_is_unguided(boxes):
    _, _, micro = prepared(boxes, "cmmasksd", "cmmasksd")
    every = torch.ones(4, 40, dtype=torch.bool)
    relevance = torch.arange(40.0).expand(4, -1)
    assert not cmmasksd._hidden(micro(), "hidden patches", relevance, every, 0.5, 0.0).any()
    drawn = torch.stack(
        [
            cmmasksd._hidden(
                dataclasses.replace(micro(), epoch=epoch),
                "hidden patches",
                relevance,
                every,
                1.0,
                0.25,
            )
            for epoch in range(200)
        ]
    )
    share = drawn.double().mean((0, 1))
    assert share.min() > 0.15 and share.max() < 0.35


def test_what_is_hidden_depends_neither_on_targets_nor_on_the_other_samples(boxes):
    strategy, network, micro = prepared(boxes, "cmmasksd", "cmmasksd", strategy={"word_alpha": 0.6})
    network.eval()
    whole = micro().samples
    together, _ = hidden_of(strategy, network, micro())
    shuffled, _ = hidden_of(
        strategy, network, micro(dataclasses.replace(whole, targets=whole.targets.flip(0)))
    )
    some = dataclasses.replace(
        whole,
        images=whole.images[[1, 3]],
        text=whole.text[[1, 3]],
        targets=whole.targets[[1, 3]],
        samples=[whole.samples[1], whole.samples[3]],
    )
    alone, _ = hidden_of(strategy, network, micro(some))
    for name, what in (("lmvsd", "patches"), ("vmlsd", "words")):
        hidden = getattr(together[name], what)
        assert torch.equal(getattr(shuffled[name], what), hidden)
        assert torch.equal(getattr(alone[name], what), hidden[[1, 3]])


# --- the step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["teacher", "truth"])
def test_three_passes_have_the_gradient_of_the_summed_loss(boxes, target):
    strategy, network, micro = prepared(
        boxes,
        "cmmasksd",
        "cmmasksd",
        strategy={"target": target, "word_alpha": 0.6, "batchnorm_in_masked_pass": False},
    )
    network = network.double()
    whole = micro().batch
    batch = Batch(whole.images.double(), whole.text, whole.targets.double(), whole.samples)

    def in_float64():
        its = micro()
        its.__dict__["batch"] = batch
        return its

    losses = step(strategy, network, in_float64())
    gradients = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }
    assert gradients["network.mask_patch"].norm() > 0 and gradients["network.mask_word"].norm() > 0

    network.zero_grad()
    clean = network(batch, {}, "loss")
    hidden, _ = hidden_of(strategy, network, in_float64())
    total = sum(network.loss(clean, batch).values())
    teacher = detached(clean)
    for name, weight in (("lmvsd", 0.75), ("vmlsd", 0.1)):
        reseed_dropout(0, "step", 0, name)
        branch = dataclasses.replace(batch, hidden=hidden[name])
        student = network(branch, {}, "loss")
        if target == "truth":
            total = total + weight * sum(network.loss(student, branch).values())
        else:
            total = total + weight * network.distillation(student, teacher)
    total.backward()
    assert losses["train/loss"] == pytest.approx(total.item(), rel=1e-9)
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "learns"), [("lmvsd", "mask_patch"), ("vmlsd", "mask_word")])
def test_a_mask_token_learns_from_its_own_branch_alone(boxes, name, learns):
    settings = {"word_alpha": 1.0}
    strategy, network, micro = prepared(boxes, "cmmasksd", name, strategy=settings)
    step(strategy, network, micro())
    tokens = {token: getattr(network.network, token).grad for token in ("mask_patch", "mask_word")}
    assert {token for token, gradient in tokens.items() if gradient is not None} == {learns}
    assert tokens[learns].abs().sum() > 0


@pytest.mark.usefixtures("no_pictures")
def test_weights_of_zero_equal_the_baseline_bit_for_bit(boxes, tmp_path):
    weights = {}
    for name in ("baseline", "cmmasksd", "split-masking"):
        spec, places = tiny_spec(
            boxes,
            "cmmasksd",
            name,
            strategy={
                "patch_weight": 0.0,
                "word_weight": 0.0,
                "image_weight": 0.0,
                "text_weight": 0.0,
                "patch_size": 8,
                "batchnorm_in_masked_pass": False,
            },
        )
        run = RunDir(tmp_path / spec.key)
        run.create(spec)
        Trainer(spec, run, Opened(places), Execution.of(device="cpu")).train()
        weights[name] = (run.path / "best.safetensors").read_bytes()
    assert weights["baseline"] == weights["split-masking"]
    # A weight of 0 still gives the mask tokens a gradient of 0, with which Adam does not move them.
    assert weights["baseline"] == weights["cmmasksd"]


def test_alike_inputs_and_a_detached_teacher_give_no_gradient(boxes):
    """It is why the ablation without masking (Table V) cannot be this reading with a gain."""
    strategy, network, micro = prepared(
        boxes, "cmmasksd", "lmvsd", strategy={"patch_alpha": 0.0, "batchnorm_in_masked_pass": False}
    )
    without_dropout(network)

    def gradients(strategy):
        step(strategy, network, micro())
        return {
            name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
        }

    found, expected = gradients(strategy), gradients(strategies.get("baseline"))
    assert not found.pop("network.mask_patch").any()
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", methods.names())
def test_split_masking_runs_on_every_method(boxes, method):
    strategy, network, micro = prepared(
        boxes, method, "split-masking", strategy={"patch_size": 8, "image_mask_ratio": 0.5}
    )
    seen = []
    forward = network.forward
    network.forward = lambda batch, draws, purpose: (
        seen.append(batch) or forward(batch, draws, purpose)
    )
    losses = step(strategy, network, micro())
    clean, image, text = seen
    assert torch.equal(image.text.ids, clean.text.ids) and torch.equal(text.images, clean.images)
    assert not torch.equal(image.images, clean.images)
    assert image.targets is None and text.targets is None
    assert losses["train/loss"] == pytest.approx(
        losses["train/loss_ce"]
        + 0.75 * losses["train/loss_image"]
        + 0.1 * losses["train/loss_text"],
        rel=1e-5,
    )


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_method_without_learned_tokens_is_refused_when_runs_are_planned(name):
    definition = methods.definition("cris")
    with pytest.raises(UserError, match="learned tokens, which the method cris does not have"):
        resolve_strategy(name, {}, definition, definition.variants["tiny"])


def test_a_branch_that_is_off_has_no_settings():
    definition = methods.definition("cmmasksd")
    changes = {"patch_alpha": 0.5, "word_alpha": 0.5}
    strategy = resolve_strategy("vmlsd", changes, definition, definition.variants["tiny"])
    assert strategy.word_alpha == 0.5 and strategy.patch_alpha == 0.25
    assert strategies.get("cmmasksd").passes == 3 and strategies.get("lmvsd").passes == 2


def test_the_schedule_warms_up_and_falls_to_zero():
    recipe = methods.definition("cmmasksd").recipes["paper"]
    rates = [recipe.rate(step, 100) for step in range(10_001)]
    assert rates[0] == 0 and rates[500] == pytest.approx(0.5e-5) and rates[1000] == 1e-5
    assert rates[5500] == pytest.approx(0.5e-5) and rates[10_000] == 0
    assert max(rates) == 1e-5
    assert recipe.stretched(0.5) == {"epochs": 50, "warmup_epochs": 5}
