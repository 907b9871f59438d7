"""SaG: sizes, groups, schedule, slots, noise, losses, decision, positions, names; its
numbers are proven by parity.
"""

import dataclasses
import json
import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from benchmark.base import pretrained
from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry
from benchmark.base.rng import generator
from benchmark.data.images import EvaluationImages
from benchmark.data.samples import TrainingSamples
from benchmark.evaluation.inference import build_method
from benchmark.evaluation.predict import evaluate, predict
from benchmark.runs.opened import Opened
from benchmark.strategies.strategy import MicroBatch
from benchmark.training.start import start_from_published
from methods.backbones import vit
from methods.backbones.positions import resize_positions
from methods.backbones.sizes import VitSize
from methods.backbones.vit import Vit
from methods.contract import Batch, Output, Text
from methods.sag import weights
from methods.sag.method import SaG
from methods.sag.slots import SlotBlock
from tests.base.test_pretrained import SMALL_BERT, save_bert
from tests.helpers import PROJECT, tiny_spec
from tests.parity.names import published_names

FIXTURE = PROJECT / "tests" / "parity" / "fixtures" / "sag_vits16.npz"
VIT = "vit_small_patch16_384.augreg_in21k_ft_in1k"
CPU = torch.device("cpu")


def meta(variant: str) -> SaG:
    """Return a variant without memory for its weights."""
    with torch.device("meta"):
        return SaG(SaG.definition.variants[variant], 30522 if variant == "paper" else 200)


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("sag test", *shape).standard_normal(shape, dtype=np.float32))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def draws_of(method: SaG, *names: object) -> dict[str, torch.Tensor]:
    return method.draws([generator("noise", name) for name in names])


@pytest.fixture(scope="module")
def tiny() -> SaG:
    torch.manual_seed(0)
    return SaG(SaG.definition.variants["tiny"], 200).eval()


@pytest.fixture(scope="module")
def batch(tiny) -> Batch:
    """Four pairs without any target."""
    side, words = tiny.config.size, tiny.config.max_length
    ids = torch.zeros(4, words, dtype=torch.int64)
    for row in range(4):
        ids[row, : 4 + row] = torch.tensor([2, *range(9 + 5 * row, 11 + 6 * row), 3])
    return Batch(random(4, 3, side, side), Text(ids, (ids != 0).long()), None, [0, 1, 2, 3])


@pytest.fixture(scope="module")
def keys() -> dict[str, list]:
    with np.load(FIXTURE) as archive:
        return json.loads(str(archive["keys"]))


@pytest.fixture(scope="module")
def aliases() -> dict[str, str]:
    with np.load(FIXTURE) as archive:
        return json.loads(str(archive["aliases"]))


@pytest.fixture(scope="module")
def unread() -> set[str]:
    with np.load(FIXTURE) as archive:
        return set(json.loads(str(archive["no_grad_keys"])))


# --- sizes, groups, schedule ----------------------------------------------------------------------


def test_published_sizes(aliases):
    method = meta("paper")
    network = method.network
    image, text = network.encoders["img_enc"], network.encoders["txt_enc"]
    assert size(image.img_backbone) == 21_936_000
    assert size(text.bert) == 108_891_648 and size(text.linear) == 393_728
    assert size(image.spm_1x1) == 197_120 and size(network.decoder) == 1_011_073
    assert (round(size(image.set_pred_module) / 1e6, 2), round(size(network.cma) / 1e6, 2)) == (
        7.63,
        4.20,
    )
    published = weights.to_published(network.state_dict())
    assert len(published) == 558
    assert (
        sum(value.numel() for name, value in published.items() if name not in aliases)
        == 145_955_305
    )
    assert method.config.slots == 36 and method.definition.weakly_supervised


@pytest.mark.parametrize("variant", SaG.definition.variants)
def test_the_vit_learns_slowly_and_everything_decays(variant):
    method, recipe = meta(variant), SaG.definition.recipes[variant]
    groups = {group["name"]: group for group in method.parameter_groups(recipe)}
    vit_names = {name for name, _ in method.network.named_parameters() if "img_backbone" in name}
    backbone = {id(parameter) for parameter in groups["backbone"]["params"]}
    assert {name for name, p in method.network.named_parameters() if id(p) in backbone} == vit_names
    assert len(backbone) + len(groups["rest"]["params"]) == len(list(method.parameters()))
    assert all("weight_decay" not in group for group in groups.values())
    slow, full = method.schedule(recipe, 0, 100)
    assert (slow, full) == (recipe.backbone_multiplier * recipe.learning_rate, recipe.learning_rate)


def test_published_recipe():
    recipe = SaG.definition.recipes["paper"]
    assert (recipe.epochs, recipe.batch_size, recipe.micro_batch, recipe.precision) == (
        50,
        32,
        32,
        "fp16",
    )
    assert (recipe.clip_norm, recipe.weight_decay, recipe.drop_last) == (0.1, 1e-4, False)
    assert meta("paper").schedule(recipe, 0, 3770) == pytest.approx([1e-6, 1e-5])
    needs = meta("paper").needs
    assert (needs.unit, needs.masks, needs.size, needs.mean) == (
        "expression",
        "none",
        384,
        (0.5, 0.5, 0.5),
    )


def test_the_cosine_starts_after_the_warm_up_and_ends_above_zero():
    method, recipe = meta("tiny"), SaG.definition.recipes["paper"]
    steps = 50 * 200
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    expected = []
    for step in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step >= 5000:
            scheduler.step()
    found = [method.schedule(recipe, step, 200)[1] for step in range(steps)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert set(found[:5001]) == {1e-5} and found[5001] < 1e-5
    assert (
        found[-1] == pytest.approx(1e-5 * (1 + math.cos(math.pi * 4999 / steps)) / 2)
        and found[-1] > 5e-6
    )


def test_the_warm_up_is_one_of_the_loss():
    method, recipe = meta("tiny"), SaG.definition.recipes["paper"]
    assert [method.loss_scale(recipe, step) for step in (0, 2499, 4999, 5000, 10**6)] == [
        1 / 5000,
        0.5,
        1,
        1,
        1,
    ]


# --- slots and noise ------------------------------------------------------------------------------


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


# --- losses and decision --------------------------------------------------------------------------


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
        set(every.extras) == {"sentences", "gathered", "tokens", "reconstruction"}
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


# --- positions ------------------------------------------------------------------------------------


def kernel(mode: str, distance: float) -> float:
    """Return the weight of a sample at `distance`: a triangle, or Keys' cubic with
    torch's a = -0.75.
    """
    x = abs(distance)
    if mode == "bilinear":
        return max(0.0, 1 - x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def axis(mode: str, before: int, after: int) -> np.ndarray:
    """Return how an axis is resized, (after, before): half-pixel centres, the border repeated."""
    matrix = np.zeros((after, before))
    for row in range(after):
        place = (row + 0.5) * before / after - 0.5
        if mode == "bilinear":
            place = max(place, 0.0)
        for near in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[row, min(max(near, 0), before - 1)] += kernel(mode, place - near)
    return matrix


@pytest.mark.parametrize(
    "mode, before, after", [("bicubic", 24, 30), ("bilinear", 30, 24), ("bilinear", 8, 8)]
)
def test_position_tables_are_resized_as_torch_defines_it(mode, before, after):
    table = random(1, 1 + before**2, 3)
    found = resize_positions(table, (after, after), mode)
    assert torch.equal(found[:, 0], table[:, 0])
    grid, matrix = (
        table[0, 1:].double().numpy().reshape(before, before, 3),
        axis(mode, before, after),
    )
    expected = np.einsum("yh,xw,hwc->yxc", matrix, matrix, grid)
    np.testing.assert_allclose(found[0, 1:].numpy().reshape(after, after, 3), expected, atol=1e-5)


def test_every_forward_reduces_the_table_and_trains_the_whole_of_it():
    torch.manual_seed(0)
    network = Vit(
        VitSize(width=16, layers=1, heads=2, mlp=32, patch=4, positions=10, drop_path=0.0)
    )
    images = random(2, 3, 32, 32)
    tokens = network.forward_features(images)
    plain = timm.models.VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=16,
        depth=1,
        num_heads=2,
        mlp_ratio=2,
        num_classes=0,
        global_pool="",
    )
    reduced = resize_positions(network.pos_embed.detach(), (8, 8), "bilinear")
    plain.load_state_dict({**network.state_dict(), "pos_embed": reduced})
    for module in plain.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    torch.testing.assert_close(tokens, plain.forward_features(images))
    tokens.square().sum().backward()
    assert (network.pos_embed.grad != 0).any(-1).all()


# --- names and starting weights -------------------------------------------------------------------


def test_published_names_come_in_and_go_out(keys, aliases, unread):
    state = {
        name: torch.tensor(float(number)).expand(shape)  # no memory
        for number, (name, (shape, _)) in enumerate(keys.items())
        if name not in aliases
    }
    state |= {alias: state[name] for alias, name in aliases.items()}
    own = weights.from_published(state)
    network = meta("paper").network
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    back = weights.to_published(own)
    assert {name: [list(value.shape), str(value.dtype)[6:]] for name, value in back.items()} == keys
    lost = {name for name, value in back.items() if not torch.equal(value, state[name])}
    assert lost == unread and all(not back[name].any() for name in lost), (
        "layers that nothing reads go out as zeros"
    )
    assert published_names(weights, network).keys() == {
        name for name, _ in network.named_parameters()
    }
    storages = {
        value.untyped_storage().data_ptr() for name, value in back.items() if name in aliases
    }
    assert len(storages) == len(aliases), "safetensors refuses shared memory"


@pytest.fixture
def source(tmp_path):
    """Return a folder of local files with a ViT as timm has it, with its classifier,
    and a small BERT.
    """
    torch.manual_seed(1)
    state = timm.create_model(VIT, pretrained=False).state_dict()
    save_file(state, tmp_path / f"{VIT}.safetensors")
    save_bert(tmp_path)
    return pretrained.Source(tmp_path, offline=True)


def test_starting_weights_from_local_files(source):
    config = SaG.definition.variants["paper"].model_copy(
        update={"pretrained": f"{VIT}+small-bert", "bert": SMALL_BERT}
    )
    method = SaG(config, 90)
    digest = pretrained.digest(weights.starting_weights(config, source))
    spec = type("Spec", (), {"network": config, "weights": digest})
    start_from_published(method, spec, source)
    state, stored = method.network.state_dict(), load_file(source.folder / f"{VIT}.safetensors")
    prefix = "encoders.img_enc.img_backbone."
    own = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    assert (
        stored.keys() - own.keys() == {"head.weight", "head.bias"} and own.keys() <= stored.keys()
    )
    assert all(torch.equal(own[name], stored[name]) for name in own if name != "pos_embed")
    assert stored["pos_embed"].shape == (1, 577, 384)
    grid = stored["pos_embed"][:, 1:].reshape(1, 24, 24, 384).permute(0, 3, 1, 2)
    enlarged = F.interpolate(grid, (30, 30), mode="bicubic", align_corners=False).permute(
        0, 2, 3, 1
    )
    torch.testing.assert_close(own["pos_embed"][:, 1:].reshape(1, 30, 30, 384), enlarged)
    assert torch.equal(own["pos_embed"][:, :1], stored["pos_embed"][:, :1])
    starting = set(weights.starting_weights(config, source))
    assert all(".bert." in name or "img_backbone" in name for name in starting)


def test_a_vit_that_lacks_a_part_is_refused(source):
    path = source.folder / f"{VIT}.safetensors"
    state = {name: value for name, value in load_file(path).items() if "blocks.5" not in name}
    save_file(state, path)
    with pytest.raises(
        UserError, match=r"could not be loaded.*huggingface\.co/timm/vit_small.*--pretrained"
    ):
        vit.starting_weights(VIT, source, 30)


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
