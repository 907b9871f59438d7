"""Multi-scale deformable attention in plain torch.

Zhu et al., Deformable DETR, ICLR 2021, section 4.1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = list[tuple[int, int]]


def sample_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum (B, Q, H, D) of bilinear samples of every level.

    Args:
        value: (B, N, H, D), the levels' cells one after the other, each level
            row-major. N is the sum of h * w.
        shapes: (h, w) of the levels.
        locations: (B, Q, H, levels, points, 2), x, then y. 0 and 1 are a level's outer
            edges. Beyond them lie zeros.
        weights: (B, Q, H, levels, points), the weight of each sample.
    """
    batch, _, heads, _ = value.shape
    # grid_sample knows no heads, so they become images of their own.
    images = value.permute(0, 2, 3, 1).flatten(0, 1)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
    total = images.new_zeros(())
    cells = [height * width for height, width in shapes]
    for level, image in enumerate(images.split(cells, -1)):
        image, grid = image.unflatten(-1, shapes[level]), grids[:, :, level]
        samples = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
        total = total + (samples * weights[..., level, :]).sum(-1)
    return total.unflatten(0, (batch, heads)).permute(0, 3, 1, 2)


def level_sides(shapes: Shapes, like: Tensor) -> Tensor:
    """Return the sides (levels, 2) of maps in cells, width before height.

    They are made on the device of `like`, which need not wait for the host then.

    Args:
        shapes: (h, w) of the levels.
        like: a tensor of the device, in float32 or better.
    """
    sides = [like.new_full((), side) for height, width in shapes for side in (width, height)]
    return torch.stack(sides).unflatten(0, (-1, 2))


class DeformableAttention(nn.Module):
    """Every query reads a few points of every level.

    It predicts their offsets and weights itself.

    Args:
        width: channels of queries and values.
        heads: number of attention heads.
        levels: number of maps.
        points: points that are read per head and level.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.reset()

    def reset(self) -> None:
        """Initialize as published.

        Head k looks at angle 2 pi k / heads, its point p at p + 1 cells in the maximum
        norm, and all points weigh the same.
        """
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ring = torch.stack([angle.cos(), angle.sin()], -1)
        ring = (ring / ring.abs().amax(-1, keepdim=True))[:, None, None]
        steps = torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(
                (ring * steps).expand(-1, self.levels, -1, -1).flatten()
            )

    def forward(
        self, query: Tensor, value: Tensor, reference: Tensor, shapes: Shapes, sides: Tensor
    ) -> Tensor:
        """Return what every query reads, (B, Q, C), in float32 or better.

        Args:
            query: (B, Q, C).
            value: (B, N, C), the cells of all levels.
            reference: (Q, 2), the place x, y of each query, in [0, 1].
            shapes: (h, w) of the levels.
            sides: what `level_sides` returns for them.
        """
        dtype = torch.promote_types(query.dtype, torch.float32)
        # Published: this stays in float32. Under autocast, positions would lose what tells
        # neighbors apart.
        with torch.autocast(query.device.type, enabled=False):
            query, value, reference = query.to(dtype), value.to(dtype), reference.to(dtype)
            offsets = self.sampling_offsets(query)
            offsets = offsets.unflatten(-1, (self.heads, self.levels, self.points, 2))
            # The softmax runs over the points of all levels together.
            weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1)
            # Offsets count cells, and locations are shares of a level's sides.
            locations = reference[:, None, None, None] + offsets / sides.to(dtype)[:, None]
            values = self.value_proj(value).unflatten(-1, (self.heads, -1))
            weights = weights.unflatten(-1, (self.levels, self.points))
            return self.output_proj(sample_levels(values, shapes, locations, weights).flatten(2))
