"""SaG's position tables, published names and starting weights."""

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
from benchmark.training.start import start_from_published
from methods.backbones import vit
from methods.backbones.positions import resize_positions
from methods.backbones.sizes import VitSize
from methods.backbones.vit import Vit
from methods.sag import weights
from methods.sag.method import SaG
from tests.base.test_pretrained import SMALL_BERT, save_bert
from tests.methods.sag.build import VIT, meta, random
from tests.parity.names import published_names


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
