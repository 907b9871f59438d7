"""Position codes that several methods share."""

import math

import torch
from torch import Tensor


def sine_position(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Return position codes (h * w, channels) of a map, row-major.

    The first half of the channels codes the row, the second the column. Row k of h
    stands at 2 pi (k + 1) / h. Even channels hold its sine and odd ones its cosine, at
    temperature 10000 (Carion et al., DETR, ECCV 2020, with normalised coordinates).
    """
    half = channels // 2
    # In float32 whatever the network's dtype, as published.
    divisor = 10000 ** (2 * torch.arange(half // 2, device=device, dtype=torch.float32) / half)

    def axis(size: int) -> Tensor:
        place = torch.arange(1, size + 1, device=device, dtype=torch.float32)
        place = place / (size + 1e-6) * (2 * math.pi)
        angle = place[:, None] / divisor
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    down = axis(height)[:, None].expand(-1, width, -1)
    across = axis(width).expand(height, -1, -1)
    return torch.cat([down, across], -1).flatten(0, 1)
