"""SaG's attention, and the slots into which it shatters an image.

The paper calls them the entity discovery module. Names and their numbers are those of
the published checkpoints. `fn` is what a norm precedes, and a block's missing numbers
are published modules that do nothing.
"""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Pre-norm multi-head attention with its residual.

    Args:
        width: channels in and out.
        heads: number of heads.
        head_width: channels of a head.
        dropout: dropout of what is added to x.
        context: whether keys and values are made of something else than the queries.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, dropout: float, context: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        if context:
            self.norm_context = nn.LayerNorm(width)
        inner = heads * head_width
        self.fn = nn.ModuleDict(
            {name: nn.Linear(width, inner, bias=False) for name in ("to_q", "to_k", "to_v")}
        )
        self.fn["to_out"] = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x (B, Q, C) after attending, and the keys' shares (B, Q, K).

        The shares are averaged over heads.

        Args:
            x: (B, Q, C).
            context: (B, K, C). None where x attends to itself.
        """
        x_normal = self.norm(x)
        context = x_normal if context is None else self.norm_context(context)
        query, key, value = (
            self.fn[name](source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name, source in (("to_q", x_normal), ("to_k", context), ("to_v", context))
        )
        shares, weights = self.weigh(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5)
        gathered = (weights @ value).transpose(1, 2).flatten(2)
        return x + self.fn["to_out"](gathered), shares.mean(1)

    def weigh(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return shares and the weights of the values, both of the scores' shape (B, H, Q, K)."""
        shares = scores.softmax(-1)
        return shares, shares


class SlotAttention(Attention):
    """Attention in which the queries compete (Locatello et al., NeurIPS 2020).

    The shares of a key sum to 1 over the queries.
    """

    def weigh(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return shares, which sum to 1 over queries, and weights, which do over keys."""
        shares = scores.softmax(-2)
        return shares, shares / (shares.sum(-1, keepdim=True) + 1e-7)


class FeedForward(nn.Module):
    """Pre-norm feed-forward network with its residual.

    Args:
        width: channels in and out.
        inner: channels inside.
        dropout: dropout behind the GELU.
    """

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        layers = (nn.Linear(width, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width))
        self.fn = nn.ModuleDict({"net": nn.Sequential(*layers)})

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., C) for x (..., C)."""
        return x + self.fn["net"](self.norm(x))


class SlotBlock(nn.ModuleDict):
    """One iteration, in which slots read the image and then the others of their group.

    Args:
        width: channels of slots and tokens.
        heads: heads of both attentions.
        head_width: channels of a head of the attention to the image.
        group_head_width: channels of a head of the attention among a group's slots.
        inner: channels inside the feed-forward networks.
        dropout: dropout after attention and in the feed-forward networks.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        group_head_width: int,
        inner: int,
        dropout: float,
    ) -> None:
        group = {
            "0": Attention(width, heads, group_head_width, dropout, context=False),
            "2": FeedForward(width, inner, dropout),
        }
        super().__init__(
            {
                "0": SlotAttention(width, heads, head_width, dropout),
                "2": FeedForward(width, inner, dropout),
                "4": nn.ModuleList([nn.ModuleDict(group)]),
            }
        )

    def forward(self, slots: Tensor, tokens: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Return the slots (B, S, C) and their maps (B, S, N), which sum to 1 over slots.

        Args:
            slots: (B, S, C), those of a group side by side.
            tokens: (B, N, C), the tokens of the image.
            groups: number of groups.
        """
        slots, maps = self["0"](slots, tokens)
        slots = self["2"](slots)
        (group,) = self["4"]
        members, _ = group["0"](slots.unflatten(1, (groups, -1)).flatten(0, 1))
        return group["2"](members).unflatten(0, (-1, groups)).flatten(1, 2), maps


class Shatter(nn.Module):
    """Slots from a few learned Gaussians, and one block that refines them repeatedly.

    Args:
        width: channels of slots and tokens.
        groups: number of Gaussians.
        group_size: slots that are drawn from each.
        iterations: how often the block runs.
        heads: heads of the block's attentions.
        head_width: channels of a head of the attention to the image.
        group_head_width: channels of a head of the attention among a group's slots.
        inner: channels inside the block's feed-forward networks.
        dropout: dropout of the block.
    """

    def __init__(
        self,
        width: int,
        groups: int,
        group_size: int,
        iterations: int,
        *,
        heads: int,
        head_width: int,
        group_head_width: int,
        inner: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.groups, self.group_size, self.iterations = groups, group_size, iterations
        mean, log_variance = (
            nn.init.xavier_uniform_(torch.empty(1, groups, width)) for _ in range(2)
        )
        # Noise starts with a norm near 1, and a mean starts with one near 0.4.
        queries = {"slots_mu": mean, "slots_log_sigma": log_variance - math.log(width)}
        block = SlotBlock(width, heads, head_width, group_head_width, inner, dropout)
        self.agg = nn.ModuleDict(
            {
                "queries": nn.ParameterDict(
                    {name: nn.Parameter(value) for name, value in queries.items()}
                ),
                # Published checkpoints store this block once per iteration, with the
                # same tensors under every number.
                "agg_blocks": nn.ModuleList([block]),
                "last_layer": nn.Sequential(nn.Identity(), nn.Linear(width, width)),
            }
        )
        self.residual_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return slots (B, S, C) and their maps of the last iteration (B, S, N).

        The maps sum to 1 over slots.

        Args:
            tokens: (B, N, C), the tokens of the image, positions included.
            noise: (B, S, C), standard normal. Without it the slots of a group could not
                tell themselves apart.
        """
        queries, (block,) = self.agg["queries"], self.agg["agg_blocks"]
        mean, log_variance = (
            queries[name].repeat_interleave(self.group_size, 1)
            for name in ("slots_mu", "slots_log_sigma")
        )
        slots = mean + (0.5 * log_variance).exp() * noise
        for _ in range(self.iterations):
            slots, maps = block(slots, tokens, self.groups)
        return self.residual_norm(self.agg["last_layer"](slots)), maps
