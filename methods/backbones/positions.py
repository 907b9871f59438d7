"""Position codes and the resizing of position tables, which several methods share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sine_position(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Return position codes (h * w, channels) of a map, row-major.

    The first half of the channels codes the row, the second the column. Row k of h
    stands at 2 pi (k + 1) / h. Even channels hold its sine and odd ones its cosine, at
    temperature 10000 (Carion et al., DETR, ECCV 2020, with normalized coordinates).
    """
    half = channels // 2
    # Published: codes are computed in float32 whatever the network's dtype.
    divisor = 10000 ** (2 * torch.arange(half // 2, device=device, dtype=torch.float32) / half)

    def axis(size: int) -> Tensor:
        place = torch.arange(1, size + 1, device=device, dtype=torch.float32)
        place = place / (size + 1e-6) * (2 * math.pi)
        angle = place[:, None] / divisor
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    down = axis(height)[:, None].expand(-1, width, -1)
    across = axis(width).expand(height, -1, -1)
    return torch.cat([down, across], -1).flatten(0, 1)


def resize_positions(table: Tensor, shape: tuple[int, int], mode: str) -> Tensor:
    """Return a ViT's position table (1, 1 + g^2, C), resized to (1, 1 + h * w, C).

    The class token's row comes first and stays. align_corners is False. There is no
    antialiasing, as in timm until 0.6 (SaG) and in ETRIS (section 2). Today's timm and
    open_clip antialias.

    Args:
        table: (1, 1 + g^2, C), float32.
        shape: height h and width w of the new grid, in tokens.
        mode: `bilinear` or `bicubic`.
    """
    first, rest = table[:, :1], table[:, 1:]
    side = math.isqrt(rest.shape[1])
    grid = rest.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, shape, mode=mode, align_corners=False)
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)
