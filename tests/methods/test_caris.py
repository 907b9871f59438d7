"""CARIS: sizes, groups, schedule, deformable attention, positions, initial weights,
names; its numbers are proven by parity.
"""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention as Reference,
)

from benchmark.base.rng import generator
from benchmark.strategies.masking import draw_image_mask
from methods.backbones.positions import sine_position
from methods.caris import weights
from methods.caris.decoder import cell_centers
from methods.caris.deformable import DeformableAttention, level_sides, sample_levels
from methods.caris.method import CARIS
from methods.contract import Batch, Output, Text
from tests.helpers import PROJECT
from tests.parity.names import published_names

FIXTURES = PROJECT / "tests" / "parity" / "fixtures"
VARIANTS = ("paper", "paper-s", "paper-t", "small", "tiny")
SHAPES = [(2, 3), (4, 5), (7, 9)]


def keys_of(fixture: str) -> dict[str, list]:
    with np.load(FIXTURES / f"{fixture}_tiny_w7.npz") as archive:
        return json.loads(str(archive["keys"]))


def meta(variant: str) -> CARIS:
    """Return a variant without memory for its weights."""
    with torch.device("meta"):
        return CARIS(
            CARIS.definition.variants[variant], 30522 if variant.startswith("paper") else 200
        )


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(
        generator("caris test", *shape).standard_normal(shape, dtype=np.float32)
    )


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def tiny() -> CARIS:
    torch.manual_seed(0)
    return CARIS(CARIS.definition.variants["tiny"], 200)


@pytest.fixture(scope="module")
def batch(tiny) -> Batch:
    side, words = tiny.config.size, tiny.config.max_length
    ids = torch.zeros(2, words, dtype=torch.int64)
    ids[0, :4], ids[1, :6] = torch.tensor([2, 9, 11, 3]), torch.tensor([2, 8, 7, 6, 5, 3])
    targets = torch.zeros(2, 1, side, side)
    targets[0, :, 10:50, 20:60], targets[1, :, 40:, :30] = 1, 1
    return Batch(random(2, 3, side, side), Text(ids, (ids != 0).long()), targets, [0, 1])


def test_published_sizes():
    paper = meta("paper")
    backbone, decoder = paper.network.backbone, paper.network.pixel_decoder.requires_grad_(False)
    assert size(backbone.vis_encoder) == 86_745_016
    assert size(backbone.lang_encoder) == 108_891_648
    assert size(backbone.conditional_prompts) == 2_760_960
    assert size(decoder) == 28_175_040
    assert size(paper) == 226_572_664
    assert size(meta("paper-t")) == 166_832_250


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_have_the_same_module_types(variant):
    assert {type(m) for m in meta(variant).modules()} == {type(m) for m in meta("paper").modules()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_frozen(variant):
    method = meta(variant)
    groups = method.parameter_groups(CARIS.definition.recipes[variant])
    assert {id(p) for p in method.parameters()} == {
        id(p) for group in groups for p in group["params"]
    }
    assert all(parameter.requires_grad for parameter in method.parameters())


def test_published_parameter_groups(shared):
    oracle = json.loads((shared / "facts" / "caris_base_param_groups.json").read_text())
    method, recipe = meta("paper"), CARIS.definition.recipes["paper"]
    groups, rates = method.parameter_groups(recipe), method.schedule(recipe, 1500, 2650)
    own = {
        id(parameter): [pytest.approx(rate / recipe.learning_rate), group["weight_decay"]]
        for group, rate in zip(groups, rates, strict=True)
        for parameter in group["params"]
    }
    names = published_names(weights, method.network)
    assert oracle == {
        names[name]: own[id(parameter)] for name, parameter in method.network.named_parameters()
    }


@pytest.mark.parametrize(
    "step, rate", [(0, 1e-4), (1, 1.66600e-7), (1500, 1e-4), (1501, 9.89794e-5), (132_500, 0.0)]
)
def test_schedule_with_its_first_step(step, rate):
    method = meta("tiny")
    found = method.schedule(CARIS.definition.recipes["paper"], step, 2650)
    assert found == pytest.approx([0.1 * rate] * 4 + [rate] * 2, rel=1e-5)


def naive_samples(value, shapes, locations, shares) -> np.ndarray:
    """Deformable attention point by point, as its paper's equation 3 has it: bilinear
    between cell centres, zeros outside.
    """
    count, queries, heads, levels, points, _ = locations.shape
    total = np.zeros((count, queries, heads, value.shape[-1]))
    starts = np.cumsum([0] + [height * width for height, width in shapes])
    for b, q, h, level, point in np.ndindex(count, queries, heads, levels, points):
        height, width = shapes[level]
        x, y = locations[b, q, h, level, point] * (width, height) - 0.5
        for row, column in (
            (math.floor(y) + down, math.floor(x) + right) for down in (0, 1) for right in (0, 1)
        ):
            if 0 <= row < height and 0 <= column < width:
                near = (1 - abs(y - row)) * (1 - abs(x - column))
                cell = value[b, starts[level] + row * width + column, h]
                total[b, q, h] += shares[b, q, h, level, point] * near * cell
    return total


def test_deformable_sampling_point_by_point():
    cells = sum(height * width for height, width in SHAPES)
    value, shares = random(2, cells, 2, 5), random(2, 6, 2, 3, 4)
    locations = random(2, 6, 2, 3, 4, 2) * 0.6 + 0.5
    assert locations.min() < 0 and locations.max() > 1, "some points lie outside"
    found = sample_levels(value, SHAPES, locations, shares)
    expected = naive_samples(value.numpy(), SHAPES, locations.double().numpy(), shares.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_deformable_attention_is_that_of_transformers():
    torch.manual_seed(0)
    own, reference = DeformableAttention(32, 4, 3, 2), Reference(32, 4, 3, 2)
    nn.init.normal_(own.sampling_offsets.weight, std=0.3)
    nn.init.normal_(own.attention_weights.weight)
    reference.load_state_dict(own.state_dict())
    cells = torch.cat([cell_centers(*shape, torch.zeros(())) for shape in SHAPES])
    value, position = random(2, len(cells), 32), random(1, len(cells), 32)
    sides = level_sides(SHAPES, cells)
    with torch.no_grad():
        found = own(value + position, value, cells, SHAPES, sides)
        expected, _ = reference(
            value,
            position_embeddings=position,
            encoder_hidden_states=value,
            reference_points=cells[None, :, None].expand(2, -1, 3, -1),
            spatial_shapes_list=SHAPES,
        )
        torch.testing.assert_close(found, expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(own(value + position, value, cells, SHAPES, sides), found), (
                "float32 under autocast, too"
            )


def test_sine_position_in_closed_form():
    found = sine_position(3, 5, 8, torch.device("cpu")).reshape(3, 5, 8)
    for row, column, channel in np.ndindex(3, 5, 8):
        half, index = divmod(channel, 4)
        place = ((row + 1) / 3, (column + 1) / 5)[half] * 2 * math.pi
        angle = place / 10000 ** (2 * (index // 2) / 4)
        expected = math.cos(angle) if index % 2 else math.sin(angle)
        assert found[row, column, channel].item() == pytest.approx(expected, abs=1e-5)


def test_initial_weights_are_the_published_ones():
    torch.manual_seed(0)
    config = CARIS.definition.variants["tiny"].model_copy(
        update={"heads": 8, "points": 4, "deviation": 0.02}
    )
    decoder = CARIS(config, 200).network.pixel_decoder.requires_grad_(False)
    for layer in decoder.encoder:
        assert (layer.gamma_v2l == 1).all() and (layer.gamma_l2v == 1).all()
        assert layer.v2l_cross_attn.q_proj.weight.std() == pytest.approx(0.02, rel=0.05)
        assert layer.vis_mlp.fc1.weight.abs().max() < 0.15 and (layer.vis_mlp.fc1.bias == 0).all()
        deformable = layer.vis_self_attn
        assert (
            not deformable.sampling_offsets.weight.any()
            and not deformable.attention_weights.weight.any()
        )
        assert not deformable.attention_weights.bias.any() and not deformable.value_proj.bias.any()
        assert deformable.value_proj.weight.abs().max() == pytest.approx(
            math.sqrt(6 / 128), rel=0.01
        )  # Xavier's bound
        ring = deformable.sampling_offsets.bias.detach().reshape(8, 3, 4, 2)
        for head, (x, y) in enumerate(
            [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
        ):
            for point in range(4):
                expected = torch.tensor([x, y]).float().expand(3, 2) * (point + 1)
                torch.testing.assert_close(ring[head, :, point], expected, atol=1e-5, rtol=0)
    assert decoder.vis_prompts.weight.std() == pytest.approx(1, rel=0.2)
    # Fan out of a 3x3 convolution of width 64: kaiming's deviation is sqrt(2 / (9 * 64)).
    assert decoder.output_convs[0].conv.weight.std() == pytest.approx(math.sqrt(2 / 576), rel=0.05)
    # torch's default, since the published initialisation of this part is never called.
    assert decoder.lang_embed[0].weight.abs().max() == pytest.approx(1 / 8, rel=0.01)


def output_of(two_class: torch.Tensor) -> Output:
    return Output(two_class[:, 1:] - two_class[:, :1], {"two_class": two_class})


def test_loss_is_divided_by_weights_and_distillation_by_pixels(tiny, batch):
    target = batch.targets[:, 0].bool()
    two_class = random(2, 2, 64, 64)  # at input size already: no resizing
    logarithms = two_class.log_softmax(1)
    foreground, background = (
        logarithms[:, 1][target].sum() * 1.1,
        logarithms[:, 0][~target].sum() * 0.9,
    )
    (loss,) = tiny.loss(output_of(two_class), batch).values()
    torch.testing.assert_close(
        loss, -(foreground + background) / (1.1 * target.sum() + 0.9 * (~target).sum())
    )
    teacher = random(2, 2, 64, 64).flip(1)
    terms = torch.tensor([0.9, 1.1])[:, None, None] * teacher.softmax(1) * logarithms
    torch.testing.assert_close(
        tiny.distillation(output_of(two_class), output_of(teacher)), -terms.sum() / (2 * 64 * 64)
    )


def test_words_see_the_image_and_not_the_padding(tiny, batch):
    method, text = tiny.eval(), batch.text
    other = Text(torch.where(text.attention == 1, text.ids, 77), text.attention)
    with torch.no_grad():
        features = method.encode_image(batch.images, {})
        torch.testing.assert_close(
            method.segment(features, text).logits, method.segment(features, other).logits
        )
        encode = method.network.backbone.encode_words
        seen = encode(text.ids, text.attention, features.prompts)
        blind = encode(text.ids, text.attention, features.prompts.flip(0))
    assert seen.shape == (2, method.config.max_length, method.config.bert.hidden)
    assert (seen - blind).abs().max() > 1e-4


def test_bert_drops_out_in_training_alone(tiny, batch):
    backbone, text = tiny.network.backbone, batch.text
    prompts = random(2, 5, tiny.config.bert.hidden)

    def twice(training: bool) -> list[torch.Tensor]:
        tiny.train(training)
        with torch.no_grad():
            return [backbone.encode_words(text.ids, text.attention, prompts) for _ in range(2)]

    assert torch.equal(*twice(False)) and not torch.equal(*twice(True))
    rates = {
        module.p for module in backbone.lang_encoder.modules() if isinstance(module, nn.Dropout)
    }
    assert rates == {0.1} and CARIS.definition.variants["paper"].bert.dropout == 0.1


def test_loss_falls_on_one_batch(batch):
    torch.manual_seed(0)
    method = CARIS(CARIS.definition.variants["tiny"], 200).train()
    optimizer = torch.optim.AdamW(
        method.parameter_groups(CARIS.definition.recipes["tiny"]), lr=1e-3
    )
    losses = []
    for _ in range(15):
        (loss,) = method.loss(method(batch, {}, "loss"), batch).values()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def position_index(window: int) -> torch.Tensor:
    """Return which row of the relative position table a pair of tokens of a window reads."""
    rows, columns = np.divmod(np.arange(window**2), window)
    down, right = rows[:, None] - rows + window - 1, columns[:, None] - columns + window - 1
    return torch.from_numpy(down * (2 * window - 1) + right)


def test_published_names_come_in_and_go_out():
    keys = keys_of("caris")
    state = {
        name: torch.zeros(()).expand(shape)
        if dtype == "float32"
        else position_index(7)  # no memory
        for name, (shape, dtype) in keys.items()
    }
    state["criterion.seg_criterion.weight"] = torch.tensor([0.9, 1.1])
    own = weights.from_published(state)
    network = meta("paper-t").network
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    back = weights.to_published(own)
    assert {name: [list(value.shape), str(value.dtype)[6:]] for name, value in back.items()} == keys
    for name, value in back.items():
        assert value is state[name] or torch.equal(value, state[name])
    assert published_names(weights, network).keys() == {
        name for name, _ in network.named_parameters()
    }


def test_maskris_has_one_more_parameter_which_is_dropped():
    caris, maskris = keys_of("caris"), keys_of("maskris")
    assert maskris.keys() - caris.keys() == {"backbone.vis_encoder.mask_token"}
    assert all(maskris[name] == entry for name, entry in caris.items())
    state = {name: torch.empty(shape, device="meta") for name, (shape, _) in maskris.items()}
    assert weights.from_published(state).keys() == meta("paper-t").network.state_dict().keys()


def test_official_masks_are_what_the_suite_would_draw():
    """The fixture's masks have the suite's number of patches, and its masked words
    spare special pieces.
    """
    with np.load(FIXTURES / "maskris_tiny_w7.npz") as archive:
        patches, ids, masked = (archive[name] for name in ("image_mask", "ids", "masked_ids"))
    own = draw_image_mask(generator("any"), 448, 32, 0.75)
    assert own.shape == patches.shape[1:] and {own.sum(), *patches.sum((1, 2))} == {147}
    changed = ids != masked
    assert changed.sum() == 3 and (masked[changed] == 103).sum() == 2
    assert not np.isin(ids[changed], [0, 100, 101, 102, 103]).any()
