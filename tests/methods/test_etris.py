"""ETRIS' sizes, frozen towers, groups, fusion, gate, position table and names; its
numbers are proven in test_parity.
"""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.base import pretrained
from benchmark.base.rng import generator
from methods.backbones import clip as clip_towers
from methods.backbones.clip import ResNetStages, VitStages, build_clip
from methods.backbones.positions import resize_positions
from methods.backbones.sizes import ClipConfig
from methods.contract import Batch, Text
from methods.etris import weights
from methods.etris.config import EtrisConfig
from methods.etris.method import ETRIS
from methods.etris.network import Gate
from tests.helpers import PROJECT
from tests.parity.names import published_names

FIXTURES = PROJECT / "tests" / "parity" / "fixtures"
CLIP_WORDS = 49408
SMALL_VIT = ClipConfig(
    embed=32,
    layers=3,
    width=64,
    image_size=64,
    text_width=64,
    text_heads=4,
    text_layers=3,
    context=20,
)
PARTS = {
    "paper-rn50": {
        "bridger": 1_942_080,
        "neck": 12_867_072,
        "decoder": 7_899_136,
        "proj": 5_968_897,
        "backbone": 104_106_337,
    },
    "paper": {
        "bridger": 1_942_080,
        "neck": 11_556_352,
        "decoder": 7_899_136,
        "proj": 4_788_737,
        "backbone": 120_737_633,
    },
    "paper-vitb16": {
        "bridger": 598_592,
        "neck": 9_983_488,
        "decoder": 7_899_136,
        "proj": 4_788_737,
        "backbone": 149_989_377,
    },
}
TRAINED = {"paper-rn50": 28_819_009, "paper": 26_328_129, "paper-vitb16": 23_829_313}
TABLES = {"paper-rn50": 141_824, "paper": 141_824, "paper-vitb16": 559_360}


def meta(variant):
    with torch.device("meta"):
        return ETRIS(
            ETRIS.definition.variants[variant], CLIP_WORDS if variant.startswith("paper") else 100
        )


def random(*shape):
    return torch.from_numpy(
        generator("etris test", *shape).standard_normal(shape, dtype=np.float32)
    )


def batch_for(config, count=4):
    ids = torch.zeros(count, config.max_length, dtype=torch.int64)
    for row in range(count):
        ids[row, : row + 4] = torch.tensor([98, *range(5 + 3 * row, 7 + 4 * row), 99])
    targets = (random(count, 1, config.size, config.size) > 1).float()
    return Batch(
        random(count, 3, config.size, config.size),
        Text(ids, (ids != 0).long()),
        targets,
        list(range(count)),
    )


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return ETRIS(ETRIS.definition.variants["tiny"], 100)


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return ETRIS(
        EtrisConfig(size=64, max_length=12, clip=SMALL_VIT, bridger_width=32, bridger_heads=8), 100
    )


@pytest.mark.parametrize("variant", PARTS)
def test_published_sizes_and_what_is_trained(variant):
    method, recipe = meta(variant), ETRIS.definition.recipes[variant]
    counts = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in method.network.named_children()
    }
    assert counts == PARTS[variant]
    groups = {group["name"]: group["params"] for group in method.parameter_groups(recipe)}
    trained = {name: p for name, p in method.network.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == TRAINED[variant]
    assert {id(p) for p in trained.values()} == {id(p) for group in groups.values() for p in group}
    assert {id(p) for p in groups["backbone"]} == {
        id(p) for p in method.network.bridger.parameters()
    }
    table = (
        "backbone.visual.positional_embedding"
        if "vit" in variant
        else ("backbone.visual.attnpool.positional_embedding")
    )
    tables = {name: p.numel() for name, p in trained.items() if name.startswith("backbone.")}
    assert (
        tables.keys() == {"backbone.positional_embedding", table}
        and sum(tables.values()) == TABLES[variant]
    )


@pytest.mark.parametrize("epoch, rate", [(0, 1e-4), (1, 1e-4), (34, 1e-4), (35, 1e-5), (49, 1e-5)])
def test_schedule(tiny, epoch, rate):
    for step in (epoch * 1325, (epoch + 1) * 1325 - 1):
        assert tiny.schedule(ETRIS.definition.recipes["paper"], step, 1325) == pytest.approx(
            [rate, rate]
        )


def test_refcocog_takes_22_words_as_published():
    assert ETRIS.definition.config_for("paper-vitb16", "refcocog").max_length == 22
    assert ETRIS.definition.config_for("paper", "refcoco+").max_length == 17
    assert (
        ETRIS.definition.config_for("tiny", "refcocog").max_length
        == ETRIS.definition.variants["tiny"].max_length
    )


@pytest.mark.parametrize("variant", ["tiny", "small", "paper-rn50"])
def test_resnet_variants_have_the_same_module_types(variant):
    assert {type(m) for m in meta(variant).modules()} - {nn.Identity} == {
        type(m) for m in meta("paper").modules()
    } - {nn.Identity}


@pytest.mark.parametrize(
    "fixture, variant", [("etris_r50", "paper-rn50"), ("etris_vitb16", "paper-vitb16")]
)
def test_published_names_come_in_and_go_out(fixture, variant):
    keys = json.loads(str(np.load(FIXTURES / f"{fixture}.npz")["keys"]))
    published = {
        name: torch.empty(shape, dtype=getattr(torch, kind), device="meta")
        for name, (shape, kind) in keys.items()
    }
    own = weights.from_published(published)
    network = meta(variant).network
    assert {name: (value.shape, value.dtype) for name, value in own.items()} == {
        name: (value.shape, value.dtype) for name, value in network.state_dict().items()
    }
    back = weights.to_published(own)
    assert back.keys() == published.keys() and all(
        back[name] is published[name] for name in published
    )
    names = published_names(weights, network)
    assert (
        set(names) == dict(network.named_parameters()).keys()
        and set(names.values()) <= published.keys()
    )


def cubic(before, after):
    """Return the matrix (after, before) of cubic convolution (Keys, a = -0.75) between
    half-pixel centres, edges repeated.
    """
    matrix = np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) * before / after - 0.5
        for column in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            x = abs(centre - column)
            weight = (
                1.25 * x**3 - 2.25 * x**2 + 1 if x <= 1 else -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            )
            matrix[row, min(max(column, 0), before - 1)] += weight
    return matrix


@pytest.mark.parametrize("after", [26, 9, 14])
def test_position_table_is_resized_by_cubic_convolution(after):
    table = random(1 + 14 * 14, 5)
    resized = resize_positions(table[None], (after, after), "bicubic")[0]
    assert torch.equal(resized[0], table[0])
    matrix = cubic(14, after)
    expected = np.einsum("ai,bj,ijc->abc", matrix, matrix, table[1:].reshape(14, 14, 5).numpy())
    np.testing.assert_allclose(resized[1:].reshape(after, after, 5).numpy(), expected, atol=1e-5)


def test_starting_weights_are_clips_with_the_table_at_input_size(monkeypatch):
    source = build_clip(SMALL_VIT.model_copy(update={"image_size": 32}), 50).state_dict()
    monkeypatch.setattr(weights.clip, "starting_weights", lambda name, where: dict(source))
    config = EtrisConfig(size=64, max_length=12, clip=SMALL_VIT, pretrained="openai-ViT-B-16")
    method = ETRIS(config, 50)
    state = weights.starting_weights(config, pretrained.Source())
    pretrained.start(method.network, state, config.pretrained)
    own = method.network.backbone.state_dict()
    table = source.pop("visual.positional_embedding")
    resized = resize_positions(table[None], (4, 4), "bicubic")[0]
    assert torch.equal(own["visual.positional_embedding"], resized)
    assert all(torch.equal(own[name], value) for name, value in source.items())


def test_vit_stages_are_the_whole_tower():
    """Without an exchange the stages give what open_clip's own forward pass gives."""
    torch.manual_seed(0)
    visual, images = (
        build_clip(SMALL_VIT.model_copy(update={"layers": 6}), 50).visual.eval(),
        random(2, 3, 64, 64),
    )
    visual.output_tokens = True
    tower = VitStages(visual)
    with torch.no_grad():
        x, maps = tower.start(images), []
        for stage in range(3):
            x = tower.run(stage, x)
            maps.append(tower.grid(x))
        expected = visual.forward_intermediates(images, indices=[1, 3, 5])["image_intermediates"]
        patches = visual(images)[1] @ visual.proj
    for own, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(own, other)
    torch.testing.assert_close(tower.finish(x).flatten(2).transpose(1, 2), patches)
    moved = tower.add(x, torch.ones_like(maps[-1]))
    assert torch.equal(moved[:, 0], x[:, 0]) and torch.equal(tower.grid(moved), maps[-1] + 1)


def test_towers_without_an_exchange_are_those_of_cris(tiny):
    """With what the Bridger adds set to zero, three stages are CLIP's own towers."""
    network, batch = tiny.network.eval(), batch_for(tiny.config)
    with torch.no_grad():
        for module in [*network.bridger.zoom_out, *network.bridger.linear2]:
            for parameter in module.parameters():
                parameter.zero_()
        maps, words, state = network.encode(network.encode_image(batch.images), batch.text.ids)
        expected = clip_towers.resnet_stages(network.backbone.visual, batch.images)
        expected_words, expected_state = clip_towers.encode_words(network.backbone, batch.text.ids)
    for own, other in zip(
        (*maps, words, state), (*expected, expected_words, expected_state), strict=True
    ):
        torch.testing.assert_close(own, other)
    assert isinstance(network.stages(network.backbone.visual), ResNetStages)


@pytest.mark.parametrize("name", ["tiny", "vit"])
def test_both_sides_are_fused_from_the_same_pair(name, request):
    """Neither fusion moves the other's result, and neither moves what is carried to the
    next stage.
    """
    bridger = copy.deepcopy(request.getfixturevalue(name).network.bridger).eval()
    for layer in (bridger.linear2[1], bridger.zoom_out[1]):  # tiny starts with a silent one
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    width = bridger.linear1[1].out_features
    zoomed, t = random(2, width, 4, 4), random(2, 12, 64)
    last = random(2, 16, width), random(2, 12, width)

    def moved_by(parts):
        with torch.no_grad():
            image, words, carried = bridger.fuse(1, zoomed, t, last)
            kept = [parameter.clone() for part in parts for parameter in part.parameters()]
            for part in parts:
                for parameter in part.parameters():
                    parameter.add_(0.5 * torch.randn_like(parameter))
            changed_image, changed_words, changed_carried = bridger.fuse(1, zoomed, t, last)
            for parameter, value in zip(
                (p for part in parts for p in part.parameters()), kept, strict=True
            ):
                parameter.copy_(value)
        assert all(
            torch.equal(one, other) for one, other in zip(carried, changed_carried, strict=True)
        )
        return not torch.equal(image, changed_image), not torch.equal(words, changed_words)

    assert moved_by([bridger.fusion_v[1]]) == (True, False)
    assert moved_by([bridger.fusion_t[1]]) == (False, True)
    z = bridger.ln_v[0](zoomed.flatten(2).transpose(1, 2) + last[0])
    u = bridger.ln_t[0](bridger.linear1[1](t) + last[1])
    carried = bridger.fuse(1, zoomed, t, last)[2]
    torch.testing.assert_close(carried, (z, u))


def test_gate_is_attention_to_one_token():
    torch.manual_seed(0)
    gate = Gate(32)
    nn.init.normal_(gate.multihead_attn.in_proj_bias)
    nn.init.normal_(gate.multihead_attn.out_proj.bias)
    attention = nn.MultiheadAttention(32, 8, batch_first=True)
    attention.load_state_dict(gate.multihead_attn.state_dict())
    x, state = random(2, 32, 3, 5), random(2, 32)
    tokens = x.flatten(2).transpose(1, 2)
    expected = tokens * attention(tokens, state[:, None], state[:, None])[0]
    found = gate(x, state)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected)
    found.square().sum().backward()
    query, key, value = gate.multihead_attn.in_proj_weight.grad.chunk(3)
    assert not query.any() and not key.any() and value.any()


def test_padding_is_masked_in_the_decoder_alone(tiny):
    network, batch = tiny.network.eval(), batch_for(tiny.config)
    seen = []
    network.decoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[2]))
    with torch.no_grad():
        features = network.encode_image(batch.images)
        long = network.encode(features, batch.text.ids)[2]
        short = network.encode(features, batch.text.ids[:, :10])[2]
        network.segment(features, batch.text.ids, batch.text.attention)
    assert torch.equal(seen[0], batch.text.attention == 0)
    assert not torch.equal(long, short)


def test_frozen_towers_stay_while_their_batch_statistics_drift(tiny):
    recipe = ETRIS.definition.recipes["tiny"].model_copy(update={"freeze_backbone": True})
    groups = tiny.parameter_groups(recipe)
    before = {name: value.clone() for name, value in tiny.network.backbone.state_dict().items()}
    steps(tiny, groups, 2)
    changed = {
        name
        for name, value in tiny.network.backbone.state_dict().items()
        if not torch.equal(value, before[name])
    }
    parameters = dict(tiny.network.backbone.named_parameters()).keys()
    assert changed & parameters == {"positional_embedding", "visual.attnpool.positional_embedding"}
    assert changed - parameters == before.keys() - parameters


def steps(method, groups, count):
    batch = batch_for(method.config)
    optimizer = torch.optim.Adam(groups, lr=1e-3)
    method.train()
    values = []
    for _ in range(count):
        (loss,) = method.loss(method(batch, {}, "loss"), batch).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


@pytest.mark.parametrize("name", ["tiny", "vit"])
def test_loss_falls_on_one_batch(name, request):
    method = request.getfixturevalue(name)
    values = steps(method, method.parameter_groups(ETRIS.definition.recipes["tiny"]), 8)
    assert values[-1] < values[0] - 0.05


def test_vit_encodes_once_per_image(vit):
    batch = batch_for(vit.config)
    with torch.no_grad():
        whole = vit.eval()(batch, {}, "prediction").logits
        features = vit.encode_image(batch.images, {})
        shared = vit.segment(tuple(part[[2, 2]] for part in features), batch.text[[0, 2]]).logits
    assert whole.shape == (4, 1, 16, 16)
    torch.testing.assert_close(shared[1], whole[2], rtol=1e-4, atol=1e-4)


def test_transformer_depth_must_divide_into_stages():
    with pytest.raises(ValueError, match="multiple of 3"), torch.device("meta"):
        ETRIS(
            EtrisConfig(size=64, max_length=12, clip=SMALL_VIT.model_copy(update={"layers": 4})), 50
        )
