"""Attention with the parameters of torch's module gives what that module gives."""

import pytest
import torch
from torch import nn

from methods.backbones import sizes
from methods.backbones.attention import attend
from methods.backbones.clip import VitStages, build_clip, causal_mask, run_words

BATCH, QUERIES, KEYS, WIDTH, HEADS = 3, 7, 5, 16, 4


def module(dropout=0.0, dtype=torch.float64):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=True, dtype=dtype)
    nn.init.normal_(attention.in_proj_bias)
    nn.init.normal_(attention.out_proj.bias)
    return attention


def tokens(count, dtype=torch.float64):
    return torch.randn(BATCH, count, WIDTH, dtype=dtype, requires_grad=True)


def gradients(output, wanted):
    torch.manual_seed(2)
    return torch.autograd.grad(output, wanted, torch.randn_like(output))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("given", [1, 2, 3])
@pytest.mark.parametrize("masked", ["", "padding", "causal"])
def test_it_is_torchs_own_module(frozen, given, masked):
    attention = module().requires_grad_(not frozen)
    inputs = [tokens(QUERIES), *(tokens(KEYS) for _ in range(given - 1))]
    query, key, value = [*inputs, *inputs[-1:] * 2][:3]
    keys = key.shape[1]
    ours, theirs = None, {}
    if masked == "padding":
        words = torch.arange(keys) < torch.tensor([[keys], [2], [3]])
        ours, theirs = words[:, None, None], {"key_padding_mask": ~words}
    elif masked == "causal":
        ours = causal_mask(max(QUERIES, keys), query)[:QUERIES, :keys]
        theirs = {"attn_mask": ours}
    expected = attention(query, key, value, need_weights=False, **theirs)[0]
    found = attend(attention, *inputs, *[None] * (3 - given), mask=ours)
    torch.testing.assert_close(found, expected)
    wanted = [*inputs, *([] if frozen else attention.parameters())]
    for a, b in zip(gradients(found, wanted), gradients(expected, wanted), strict=True):
        torch.testing.assert_close(a, b)


def test_small_networks_keep_their_last_bits():
    attention = module(dropout=0.1, dtype=torch.float32).train()
    x, mask = tokens(QUERIES, torch.float32), causal_mask(QUERIES, torch.zeros(1))
    torch.manual_seed(1)
    expected = attention(x, x, x, need_weights=False, attn_mask=mask)[0]
    torch.manual_seed(1)
    found = attend(attention, x, mask=mask)
    assert torch.equal(found, expected), "dropout included"
    wanted = [x, *attention.parameters()]
    for a, b in zip(gradients(found, wanted), gradients(expected, wanted), strict=True):
        assert torch.equal(a, b)


def test_clips_towers_are_open_clips_own():
    config = sizes.ClipConfig(
        **sizes.TINY_CLIP.model_dump()
        | {"layers": 3, "width": 64, "image_size": 32, "text_layers": 2}
    )
    torch.manual_seed(0)
    clip = build_clip(config, 50, patch=16).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    tower = VitStages(clip.visual)
    torch.testing.assert_close(tower.pooled(images), clip.visual(images))
    x = tower.start(images)
    for stage in range(3):
        x = tower.run(stage, x)
    torch.testing.assert_close(tower.joint(x)[:, 0], clip.visual(images))
    words = torch.randn(2, config.context, config.text_width, dtype=torch.float64)
    mask = causal_mask(config.context, words)
    expected = clip.transformer(words, attn_mask=mask)
    torch.testing.assert_close(run_words(clip.transformer.resblocks, words), expected)
