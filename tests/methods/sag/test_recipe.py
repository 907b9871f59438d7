"""SaG's sizes, parameter groups and schedule."""

import math

import pytest
import torch
from torch import nn

from methods.sag import weights
from methods.sag.method import SaG
from tests.methods.sag.build import meta, size


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


@pytest.mark.parametrize("warmup", [0, 1, 2, 5000])
def test_the_cosine_moves_behind_the_last_update_of_the_warm_up(warmup):
    """The published loop counts its iterations from 1, and from the warm-up's count on it moves
    the scheduler behind each update.
    """
    method = meta("tiny")
    recipe = SaG.definition.recipes["paper"].model_copy(update={"warmup_steps": warmup})
    steps = 50 * 200
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    expected = []
    for iteration in range(1, steps + 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if iteration >= warmup:
            scheduler.step()
    found = [method.schedule(recipe, step, 200)[1] for step in range(steps)]
    assert found == pytest.approx(expected, rel=1e-6)
    constant = max(warmup, 1)
    assert set(found[:constant]) == {1e-5} and found[constant] < 1e-5


def test_the_cosine_ends_above_zero():
    method, recipe = meta("tiny"), SaG.definition.recipes["paper"]
    last = method.schedule(recipe, 50 * 200 - 1, 200)[1]
    assert last == pytest.approx(1e-5 * (1 + math.cos(math.pi * 5000 / 10000)) / 2)


def test_the_warm_up_is_one_of_the_loss():
    method, recipe = meta("tiny"), SaG.definition.recipes["paper"]
    assert [method.loss_scale(recipe, step) for step in (0, 2499, 4999, 5000, 10**6)] == [
        1 / 5000,
        0.5,
        1,
        1,
        1,
    ]
