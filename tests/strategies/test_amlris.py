"""AMLRIS against its released code's functions and step, and what must hold for any method."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.data.samples import TrainingSamples
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.resolve import resolve_strategy
from benchmark.runs.rundir import RunDir
from benchmark.strategies import amlris
from benchmark.strategies.strategy import MicroBatch
from benchmark.training.trainer import Trainer
from methods.caris.method import CARIS
from methods.contract import Aligned, Batch, Text
from tests.helpers import tiny_spec
from tests.parity import caris, fill
from tests.parity.network import without_dropout
from tests.strategies.test_steps import prepared, step

FIXTURES = Path(__file__).parents[1] / "parity" / "fixtures"
GUIDING = [name for name in methods.names() if methods.definition(name).guides]


def unit(name, shape, seed):
    return fill.fill(name, shape, seed).astype(np.float64) * np.sqrt(np.prod(shape[1:]))


def unpacked(archive, name, size):
    return torch.from_numpy(np.unpackbits(archive[name], axis=-1)[..., :size].astype(bool))


@pytest.fixture(scope="module")
def functions():
    with np.load(FIXTURES / "amlris_functions.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size", [448, 224])
def test_relevance_weak_pixels_and_blocks_are_the_released_ones(functions, size, seed):
    config = json.loads(str(functions["config"]))
    sizes = config["sizes"][str(size)]
    grid, channels, text = sizes["grid"], sizes["visual_channels"], sizes["text_channels"]
    places = unit("aml.visual", (2, channels, grid, grid), seed)
    words = unit("aml.text", (2, 20, text), seed) * config["text_scale"][str(seed)]
    weight = torch.from_numpy(fill.fill("aug.text_proj.weight", (channels, text), seed)).double()
    bias = torch.from_numpy(fill.fill("aug.text_proj.bias", (channels,), seed)).double()
    aligned = Aligned(torch.from_numpy(places), torch.from_numpy(words))

    found = amlris.relevance(aligned, weight, bias)
    expected = torch.from_numpy(functions[f"relevance_{size}_seed{seed}"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    single = amlris.relevance(aligned, weight.float(), bias.float())
    # The released function's own float32 noise was 2.8e-6 where the fixture was made.
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=4e-6)

    weak = amlris.weak_pixels(found, size, 0.4)
    published = unpacked(functions, f"weak_{size}_seed{seed}", size)
    assert torch.equal(weak, published)
    differing = amlris.weak_pixels(single, size, 0.4) != published
    assert differing.flatten(1).sum(1).max() <= 1

    selected = unpacked(functions, f"selected_{size}_seed{seed}", size)
    blocks = torch.from_numpy(functions[f"blocks_{size}_seed{seed}"])
    assert torch.equal(amlris.touched_blocks(selected, grid), blocks)
    drawn = amlris.draw_pixels(torch.rand(weak.shape, dtype=torch.float64), weak, 0.25)
    assert torch.equal(drawn.flatten(1).sum(1), selected.flatten(1).sum(1))


def test_the_number_of_weak_pixels_and_blocks_is_the_released_one(functions):
    relevance = torch.from_numpy(functions["controlled_relevance"])
    weak = amlris.weak_pixels(relevance, 448, 0.4)
    assert weak.flatten(1).sum(1).tolist() == functions["controlled_weak_pixels"].tolist()
    random = torch.from_numpy(np.random.default_rng(0).random(weak.shape))
    found = amlris.touched_blocks(amlris.draw_pixels(random, weak, 0.25), 14).flatten(1).sum(1)
    published = functions["controlled_blocks"].reshape(len(relevance), -1).sum(1)
    # Which pixels are drawn decides over the few blocks that hold but some weak ones.
    assert np.abs(found.numpy() - published).max() <= 3
    assert (found.numpy() == published).sum() >= 4


@pytest.fixture(scope="module")
def released_step():
    with np.load(FIXTURES / "amlris_step_64.npz") as archive:
        return dict(archive)


def test_a_step_on_caris_has_the_losses_and_gradients_of_the_released_code(
    released_step, monkeypatch
):
    """Both passes of weight 0.5 in float64, with the pixels that the released code drew."""
    config = json.loads(str(released_step["config"]))
    keys = json.loads(str(released_step["keys"]))
    method = caris.build({"swin_type": "tiny", "window": 7, "size": 64}, keys, config["words"])
    without_dropout(method)
    state = {
        name: torch.from_numpy(np.asarray(fill.fill(name, tuple(shape))))
        for name, (shape, dtype) in keys.items()
        if dtype.startswith("float") and not name.startswith(("aug.", "criterion."))
    }
    own = method.network.state_dict()
    method.network.load_state_dict({**own, **caris.weights.from_published(state)})
    method.double().train()

    def projection(seed, channels, text_channels, device):
        gain = config["text_proj_gain"]
        names = {"weight": (channels, text_channels), "bias": (channels,)}
        filled = [fill.fill(f"aug.text_proj.{name}", shape) for name, shape in names.items()]
        return tuple(gain * torch.from_numpy(values).double() for values in filled)

    relevances = []
    relevance = amlris.relevance
    monkeypatch.setattr(amlris, "_projection", projection)
    monkeypatch.setattr(
        amlris, "relevance", lambda *args: relevances.append(relevance(*args)) or relevances[-1]
    )
    selected = unpacked(released_step, "selected", 64)
    monkeypatch.setattr(amlris, "draw_pixels", lambda random, weak, share: selected & weak)

    losses = strategies.get("amlris").step(filled_micro(method, config))
    torch.testing.assert_close(
        relevances[0], torch.from_numpy(released_step["relevance"]), rtol=0, atol=1e-10
    )
    first = released_step["released_losses"][0]
    second = released_step["plain_loss"]
    assert losses["train/loss_ce"].item() == pytest.approx(float(first), abs=1e-8)
    assert losses["train/loss_masked"].item() == pytest.approx(float(second), abs=1e-8)
    assert_norms(method, json.loads(str(released_step["grad_norms"])))
    assert losses["train/masked_share"].item() == released_step["blocks"].mean()

    method.zero_grad()
    strategies.get("amlris-paper").step(filled_micro(method, config))
    assert_norms(method, json.loads(str(released_step["plain_grad_norms"])))


def filled_micro(method, config):
    """Return the fixture's batch as a micro-batch of its network, in float64."""
    size, count = config["size"], config["batch"]
    ids, attention = map(torch.from_numpy, fill.bert_tokens(count, config["words"], 0))
    images = torch.from_numpy(fill.image(count, size, size, 0)).double()
    target = torch.from_numpy(fill.mask(count, size, size)).double()[:, None]
    batch = Batch(images, Text(ids, attention), target, list(range(count)))
    micro = MicroBatch(
        network=method,
        method=method,
        samples=batch,
        tokenizer=None,
        seed=0,
        epoch=0,
        key=(0,),
        share=1.0,
        add_gradient=lambda loss: loss.backward(),
        device=CPU,
    )
    micro.__dict__["batch"] = batch
    return micro


def assert_norms(method, expected):
    gradients = {
        name: parameter.grad
        for name, parameter in method.network.named_parameters()
        if parameter.grad is not None
    }
    found = {name: gradients[name].norm().item() for name in expected if name in gradients}
    assert set(found) == {name for name, norm in expected.items() if norm is not None}
    for name, norm in found.items():
        assert norm == pytest.approx(expected[name], rel=1e-7, abs=1e-12), name


# --- the functions --------------------------------------------------------------------------------


def random_features(words=6):
    rng = torch.Generator().manual_seed(0)
    places = torch.randn(3, 8, 4, 4, generator=rng)
    weight, bias = torch.randn(8, 5, generator=rng), torch.randn(8, generator=rng)
    return Aligned(places, torch.randn(3, words, 5, generator=rng)), weight, bias


def test_relevance_lies_between_one_word_in_l_and_one():
    aligned, weight, bias = random_features()
    found = amlris.relevance(aligned, weight, bias)
    assert found.shape == (3, 4, 4)
    assert (found >= 1 / 6 - 1e-6).all() and (found <= 1).all()
    same = dataclasses.replace(aligned, words=aligned.words[:, :1].expand(-1, 6, -1))
    torch.testing.assert_close(amlris.relevance(same, weight, bias), torch.full((3, 4, 4), 1 / 6))


def test_relevance_knows_no_order_of_words_and_nothing_that_all_share():
    aligned, weight, bias = random_features()
    found = amlris.relevance(aligned, weight, bias)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    permuted = dataclasses.replace(aligned, words=aligned.words[:, order])
    torch.testing.assert_close(amlris.relevance(permuted, weight, bias), found)
    moved = dataclasses.replace(aligned, words=aligned.words + torch.randn(5))
    torch.testing.assert_close(amlris.relevance(moved, weight, bias), found)
    torch.testing.assert_close(amlris.relevance(aligned, weight, bias + 3.0), found)


@pytest.mark.parametrize("weak_count", [0, 1, 3, 4, 9, 64])
def test_drawn_pixels_are_weak_and_as_many_as_published(weak_count):
    weak = torch.zeros(1, 64, dtype=torch.bool)
    weak[0, torch.randperm(64)[:weak_count]] = True
    weak = weak.reshape(1, 8, 8)
    drawn = amlris.draw_pixels(torch.rand(1, 8, 8, dtype=torch.float64), weak, 0.25)
    assert not (drawn & ~weak).any()
    assert drawn.sum() == (max(1, weak_count // 4) if weak_count else 0)


def test_a_block_with_any_drawn_pixel_is_touched():
    drawn = torch.zeros(1, 8, 8, dtype=torch.bool)
    drawn[0, 1, 5] = drawn[0, 6, 2] = drawn[0, 6, 3] = True
    expected = [[False, True], [True, False]]
    assert amlris.touched_blocks(drawn, 2)[0].tolist() == expected


def test_the_projection_depends_on_the_seed_and_the_widths_alone():
    weight, bias = amlris._projection(3, 16, 25, CPU)
    assert weight.shape == (16, 25) and weight.abs().max() <= 1 / 5 and bias.abs().max() <= 1 / 5
    amlris._projection.cache_clear()
    assert torch.equal(amlris._projection(3, 16, 25, CPU)[0], weight)
    assert not torch.equal(amlris._projection(4, 16, 25, CPU)[0], weight)


# --- the step on this suite's methods -------------------------------------------------------------

SMALL = {"patch_size": 8}
CPU = torch.device("cpu")


def widths(aligned):
    return aligned.places.shape[1], aligned.words.shape[2]


@pytest.mark.parametrize("method", GUIDING)
def test_every_guiding_method_takes_a_step(boxes, method):
    strategy, network, micro = prepared(boxes, method, "amlris", strategy=SMALL)
    losses = step(strategy, network, micro())
    assert {"train/loss_ce", "train/loss_masked", "train/weak_share", "train/masked_share"} <= set(
        losses
    )
    assert all(np.isfinite(value) for value in losses.values())
    assert losses["train/loss"] == pytest.approx(
        0.5 * losses["train/loss_ce"] + 0.5 * losses["train/loss_masked"], rel=1e-5
    )


@pytest.mark.parametrize("method", ["caris", "cris"])
def test_a_threshold_of_zero_masks_nothing_and_one_above_one_everything(boxes, method):
    strategy, network, micro = prepared(
        boxes, method, "amlris", strategy={**SMALL, "threshold": 0.0}
    )
    without_dropout(network)
    losses = step(strategy, network, micro())
    assert losses["train/masked_share"] == losses["train/weak_share"] == 0
    assert losses["train/loss_masked"] == pytest.approx(losses["train/loss_ce"], rel=1e-6)
    all_weak = strategy.model_copy(update={"threshold": 1.1, "share": 1.0})
    assert step(all_weak, network, micro())["train/masked_share"] == 1


def test_the_control_masks_as_many_blocks_of_each_image_at_other_places(boxes):
    strategy, network, micro = prepared(boxes, "lavt", "amlris", strategy=SMALL)
    aligned = network.aligned(network(micro().batch, {}, "loss"))
    # A threshold in the midst of the relevances leaves some blocks of the images.
    found = amlris.relevance(aligned, *amlris._projection(0, *widths(aligned), CPU))
    threshold = {"threshold": found.median().item()}
    hidden, weak = strategy.model_copy(update=threshold).hidden(micro(), aligned)
    control = strategies.get("amlris-random").model_copy(update={**SMALL, **threshold})
    other, same = control.hidden(micro(), aligned)
    assert weak == same and 0 < hidden.float().mean() < 1
    assert torch.equal(hidden.flatten(1).sum(1), other.flatten(1).sum(1))
    assert not torch.equal(hidden, other)


def test_masks_depend_neither_on_targets_nor_on_the_other_samples(boxes):
    strategy, network, micro = prepared(
        boxes, "caris", "amlris", strategy={**SMALL, "threshold": 0.2}
    )
    network.eval()
    seen = []

    def masks(samples):
        its = micro(samples)
        output = network(its.batch, {}, "loss")
        seen.append(its.samples.samples)
        return strategy.hidden(its, network.aligned(output))[0]

    whole = micro().samples
    together = masks(whole)
    shuffled = dataclasses.replace(whole, targets=whole.targets.flip(0))
    assert torch.equal(masks(shuffled), together)
    spec, places = tiny_spec(boxes, "caris", "amlris")
    dataset, tokenizer = Opened(places).run(spec)
    samples = TrainingSamples(dataset, "train", network.needs, tokenizer, spec.seed)
    assert torch.equal(masks(samples.batch([1, 3], 0)), together[[1, 3]])
    assert seen[-1] == [whole.samples[1], whole.samples[3]]


def test_with_weight_one_the_clean_pass_has_no_gradient(boxes):
    strategy, network, micro = prepared(boxes, "cris", "amlris-paper", strategy=SMALL)
    seen = []
    forward = network.forward
    network.forward = lambda batch, draws, purpose: (
        seen.append((batch, torch.is_grad_enabled())) or forward(batch, draws, purpose)
    )
    losses = step(strategy, network, micro())
    assert [grad for _, grad in seen] == [False, True]
    assert losses["train/loss"] == losses["train/loss_masked"]
    (clean, _), (masked, _) = seen
    assert masked.targets is clean.targets and masked.text is clean.text


def test_batchnorm_is_kept_out_of_the_masked_pass_if_asked(boxes):
    for kept_out, expected in ((False, 2), (True, 1)):
        strategy, network, micro = prepared(
            boxes, "cris", "amlris", strategy={**SMALL, "batchnorm_in_masked_pass": not kept_out}
        )
        step(strategy, network, micro())
        counts = {
            int(value)
            for name, value in network.state_dict().items()
            if name.endswith("num_batches_tracked")
        }
        assert counts == {expected}


@pytest.mark.usefixtures("no_pictures")
def test_weight_zero_equals_the_baseline_bit_for_bit(boxes, tmp_path):
    weights = {}
    for name in ("baseline", "amlris"):
        spec, places = tiny_spec(
            boxes,
            "caris",
            name,
            strategy={**SMALL, "masked_weight": 0.0, "batchnorm_in_masked_pass": False},
        )
        run = RunDir(tmp_path / spec.key)
        run.create(spec)
        Trainer(spec, run, Opened(places), Execution.of(device="cpu")).train()
        weights[name] = (run.path / "best.safetensors").read_bytes()
    assert weights["baseline"] == weights["amlris"]


def test_a_method_without_aligned_features_is_refused_when_runs_are_planned():
    definition = dataclasses.replace(methods.definition("lavt"), name="plain", guides=False)
    with pytest.raises(UserError, match="features that the method plain does not hand out"):
        resolve_strategy("amlris", {}, definition, definition.variants["tiny"])
    with pytest.raises(UserError, match="does not divide"):
        resolve_strategy(
            "amlris",
            {"patch_size": 33},
            methods.definition("lavt"),
            methods.definition("lavt").variants["tiny"],
        )


def test_only_guiding_methods_hand_out_features():
    from methods.contract import GuidedMethod

    for name in methods.names():
        assert issubclass(methods.get(name), GuidedMethod) == methods.definition(name).guides
    assert issubclass(CARIS, GuidedMethod)
