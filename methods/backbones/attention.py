"""Multi-head attention with the parameters of `nn.MultiheadAttention`, without its detours."""

import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return what every query attends to, (B, Q, C), as `attention` itself would.

    That module projects tokens in an order in which they do not lie in memory. Where its
    weights are frozen, as CLIP's are in ETRIS, torch then computes a small product for
    each token, which takes a third of a training step.

    Args:
        attention: its parameters and its dropout are used. Tokens have C channels.
        query: (B, Q, C).
        key: (B, K, C), or None where the queries attend to themselves.
        value: (B, K, C), or None where the keys are the values.
        mask: bool, True where a query sees a key, or a float that is added to the scores.
            Its shape expands to (B, heads, Q, K). None where every query sees every key.
    """
    # Places come first, as in that module. A gradient of a weight is a sum over all tokens, and
    # in another order its last digits would be others, and so the numbers of stored runs.
    given = [x.transpose(0, 1).contiguous() for x in (query, key, value) if x is not None]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    # The last one that is given makes all the projections that remain.
    width = query.shape[-1]
    projected: list[Tensor] = []
    for number, x in enumerate(given):
        last = number == len(given) - 1
        rows = slice(number * width, None if last else (number + 1) * width)
        projected += F.linear(x, weight[rows], bias[rows]).split(width, -1)
    heads = (x.unflatten(-1, (attention.num_heads, -1)).permute(1, 2, 0, 3) for x in projected)
    dropout = attention.dropout if attention.training else 0.0
    attended = F.scaled_dot_product_attention(*heads, mask, dropout)
    return attention.out_proj(attended.permute(2, 0, 1, 3).flatten(2)).transpose(0, 1)
