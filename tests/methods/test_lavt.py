"""LAVT: loss, distillation, decision, groups, schedule, backbone and names; its numbers
are proven in test_parity.
"""

import json

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from benchmark.base.geometry import Geometry
from benchmark.base.rng import generator
from methods.backbones.sizes import SwinSize
from methods.backbones.swin import Swin, from_timm
from methods.contract import Batch, Output, Text
from methods.lavt import weights
from methods.lavt.method import LAVT
from methods.lavt.network import LavtNetwork
from tests.parity.names import published_names

WEIGHTS = torch.tensor([0.9, 1.1])


def meta(variant: str) -> LAVT:
    """Return a variant without memory for its weights."""
    with torch.device("meta"):
        return LAVT(
            LAVT.definition.variants[variant], 30522 if variant.startswith("paper") else 200
        )


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("lavt test", *shape).standard_normal(shape, dtype=np.float32))


@pytest.fixture(scope="module")
def tiny() -> LAVT:
    torch.manual_seed(0)
    return LAVT(LAVT.definition.variants["tiny"], 200)


@pytest.fixture(scope="module")
def batch(tiny) -> Batch:
    size, words = tiny.config.size, tiny.config.max_length
    ids = torch.zeros(2, words, dtype=torch.int64)
    ids[0, :4], ids[1, :6] = torch.tensor([2, 9, 11, 3]), torch.tensor([2, 8, 7, 6, 5, 3])
    targets = torch.zeros(2, 1, size, size)
    targets[:, :, 10:50, 20:60] = 1
    return Batch(random(2, 3, size, size), Text(ids, (ids != 0).long()), targets, [0, 1])


def output_of(two_class: torch.Tensor) -> Output:
    return Output(two_class[:, 1:] - two_class[:, :1], {"two_class": two_class})


def test_output_is_the_logit_difference_at_stride_four(tiny, batch):
    output = tiny.eval()(batch, {}, "prediction")
    side = tiny.config.size // 4
    assert output.logits.shape == (2, 1, side, side)
    two_class = output.extras["two_class"]
    assert torch.equal(output.logits[:, 0], two_class[:, 1] - two_class[:, 0])
    again = tiny.segment(tiny.encode_image(batch.images, {}), batch.text)
    assert torch.equal(output.logits, again.logits)


def test_padding_is_not_read(tiny, batch):
    changed = Text(torch.where(batch.text.attention == 1, batch.text.ids, 77), batch.text.attention)
    with torch.no_grad():
        one, two = (
            tiny.eval().segment(batch.images, text).logits for text in (batch.text, changed)
        )
    torch.testing.assert_close(one, two)


def test_loss_is_weighted_cross_entropy_at_input_size(tiny, batch):
    two_class = random(2, 2, 20, 20)
    (value,) = tiny.loss(output_of(two_class), batch).values()
    full = F.interpolate(two_class, (64, 64), mode="bilinear", align_corners=True)
    torch.testing.assert_close(value, F.cross_entropy(full, batch.targets[:, 0].long(), WEIGHTS))


def test_distillation_is_weighted_cross_entropy_per_pixel(tiny):
    student, teacher = random(2, 2, 24, 24), random(2, 2, 24, 24).flip(1)
    value = tiny.distillation(output_of(student), output_of(teacher))
    terms = -WEIGHTS[:, None, None] * teacher.softmax(1) * student.log_softmax(1)
    torch.testing.assert_close(value, terms.sum() / (2 * 24 * 24))


def test_mask_is_argmax_at_original_size(tiny):
    logits = random(20, 20)
    mask = tiny.mask(logits, Geometry(height=70, width=130, size=64, kind="square"))
    assert mask.shape == (70, 130) and mask.dtype == bool
    at_input = F.interpolate(logits[None, None], (64, 64), mode="bilinear", align_corners=True)
    expected = F.interpolate(at_input, (70, 130), mode="bilinear", align_corners=False)[0, 0] > 0
    assert np.array_equal(mask, expected.numpy())


def test_bert_keeps_eval_mode_in_training(tiny):
    tiny.train()
    assert tiny.network.backbone.training and not tiny.network.text_encoder.training
    dropping = LAVT(tiny.config.model_copy(update={"bert_dropout": True}), 200).train()
    assert dropping.network.text_encoder.training


def test_published_parameter_groups(shared):
    oracle = json.loads((shared / "facts" / "lavt_base_param_groups.json").read_text())
    method, recipe = meta("paper"), LAVT.definition.recipes["paper"]
    groups = method.parameter_groups(recipe)
    decay = {
        id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]
    }
    names = published_names(weights, method.network)
    own = {names[name]: decay.get(id(p)) for name, p in method.network.named_parameters()}
    assert own == {name: None if entry is None else entry[1] for name, entry in oracle.items()}
    assert {entry[0] for entry in oracle.values() if entry} == {1.0}
    frozen = {name for name, p in method.network.named_parameters() if not p.requires_grad}
    assert frozen == {name for name in names if own[names[name]] is None}


@pytest.mark.parametrize("variant", ["tiny", "small"])
def test_variants_from_scratch_train_everything(variant):
    method = meta(variant)
    groups = method.parameter_groups(LAVT.definition.recipes[variant])
    assert {id(p) for p in method.parameters()} == {
        id(p) for group in groups for p in group["params"]
    }
    assert method.config.departures and not LAVT.definition.variants["paper"].departures


@pytest.mark.parametrize("variant", ["tiny", "small", "paper-t", "paper-s"])
def test_variants_have_the_same_module_types(variant):
    assert {type(m) for m in meta(variant).modules()} == {type(m) for m in meta("paper").modules()}


def test_schedule_is_polynomial_per_iteration():
    method, recipe = meta("tiny"), LAVT.definition.recipes["paper"]
    total = 40 * 10
    for step in (0, 1, 200, 399):
        assert method.schedule(recipe, step, 10) == pytest.approx(
            [5e-5 * (1 - step / total) ** 0.9] * 4
        )
    assert len(method.parameter_groups(recipe)) == 4


def test_published_sizes():
    network = meta("paper").network
    count = {
        name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()
    }
    assert count["backbone"] + count["classifier"] == 118_847_866
    assert count["text_encoder"] == 108_891_648


def test_weights_round_trip(tiny):
    own = tiny.network.state_dict()
    published = weights.to_published(own)
    assert {name.split(".")[0] for name in published} == {
        "backbone",
        "classifier",
        "embeddings",
        "encoder",
    }
    two = weights.checkpoint(own)
    assert {name.split(".")[0] for name in two["model"]} == {"backbone", "classifier"}
    joint = {
        **two["model"],
        **{f"text_encoder.{name}": value for name, value in two["bert_model"].items()},
    }
    for flat in (published, joint):
        back = weights.from_published(flat)
        assert back.keys() == own.keys() and all(back[name] is own[name] for name in own)


def test_swin_equals_timm_where_no_window_is_padded():
    # 56 patches, window 7: no map is padded and the two padding orders agree.
    torch.manual_seed(0)
    size = SwinSize(embed_dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=7, drop_path=0.0)
    reference = timm.models.swin_transformer.SwinTransformer(
        img_size=224,
        embed_dim=16,
        depths=size.depths,
        num_heads=size.heads,
        num_classes=0,
        always_partition=True,
    ).eval()
    swin = Swin(size, 224).eval()
    state = from_timm(reference.state_dict())
    missing, unexpected = swin.load_state_dict(state, strict=False)
    assert not unexpected and {name.split(".")[0] for name in missing} == {
        "norm0",
        "norm1",
        "norm2",
        "norm3",
    }
    images = random(1, 3, 224, 224)
    with torch.no_grad():
        x = swin.patch_embed(images)
        maps = []
        for stage in swin.layers:
            maps.append(stage.blocks(x))
            x = stage.downsample(maps[-1])
        expected = reference.forward_intermediates(images, intermediates_only=True)
    for own, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(own, other.permute(0, 2, 3, 1))


def test_network_names_are_unique_per_parameter():
    with torch.device("meta"):
        network = LavtNetwork(LAVT.definition.variants["tiny"], 200)
    names = published_names(weights, network)
    assert len(set(names.values())) == len(names) == len(list(network.parameters()))
