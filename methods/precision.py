"""The precision in which outputs and losses are computed, whatever autocast ran in."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 if it was less precise, and unchanged if it was not."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
