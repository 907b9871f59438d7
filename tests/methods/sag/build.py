"""Sizes, noise and random inputs of SaG for its tests."""

import numpy as np
import torch
from torch import nn

from benchmark.base.rng import generator
from methods.sag.method import SaG
from tests.helpers import PROJECT

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
