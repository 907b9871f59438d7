"""BERT as a text encoder, which is transformers' `BertModel` without its pooler.

Its parameters are named as in the published checkpoints.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import BertConfig, BertModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertLayer
from transformers.utils import logging as reports

from benchmark.base.pretrained import Source
from methods.backbones.sizes import BertSize

BLOCKS = (BertLayer,)
"""Types of the modules that the encoder consists of."""

UNNEEDED = {
    r"embeddings\.position_ids$": "0, 1, 2, ...: older BERTs stored it",
    r"pooler\.": "BERT's pooler is never used",
}
"""Pattern over the entries of a published BERT that ours lacks -> why it lacks them."""


def build(size: BertSize, vocabulary_size: int) -> BertModel:
    """Return a BERT with random weights, in eval mode.

    Args:
        size: its size.
        vocabulary_size: number of word pieces that it knows.
    """
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=size.positions,
        hidden_dropout_prob=size.dropout,
        attention_probs_dropout_prob=size.dropout,
    )
    # transformers' `from_pretrained` hands it out in eval mode, which LAVT's published
    # code relies on.
    return BertModel(config, add_pooling_layer=False).eval()


def encode(bert: BertModel, states: Tensor, attention: Tensor) -> Tensor:
    """Return the last hidden states (B, L, C) of embedded tokens.

    Args:
        bert: the encoder.
        states: (B, L, C), what `bert.embeddings(ids)` returns. A method may append
            prompts to it.
        attention: int64 (B, L), 0 where a token is padding. Padding keeps a state of
            its own, and nothing attends to it.
    """
    mask = create_bidirectional_mask(
        config=bert.config,
        inputs_embeds=states,
        attention_mask=attention,
        # Whether there is padding at all is cheaply asked on a CPU, and a GPU would be waited for.
        allow_is_bidirectional_skip=states.device.type == "cpu",
    )
    return bert.encoder(states, attention_mask=mask).last_hidden_state


def longest(attention: Tensor) -> int:
    """Return the length of the longest sentence, behind which all of a batch is padding.

    Nothing attends to padding, so whoever reads no state of it may leave it out. On a GPU
    it is the whole width, since the length would have to be waited for.

    Args:
        attention: int64 (B, L), 0 where a token is padding.
    """
    if attention.device.type != "cpu" or torch.compiler.is_compiling():
        return attention.shape[1]
    return int(attention.sum(1).max())


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' bars out of the terminal. Those of a download are the hub's, and stay."""
    previous = reports.set_tqdm_hook(
        lambda make, arguments, options: make(*arguments, **options | {"disable": True})
    )
    try:
        yield
    finally:
        reports.set_tqdm_hook(previous)


def starting_weights(name: str, source: Source) -> dict[str, Tensor]:
    """Return the published weights called `name` under the names of `build`'s encoder.

    They come from a local folder of that name, transformers' cache or the hub.

    Raises:
        UserError: they cannot be had, or lack a part of the encoder.
    """
    address = (
        f"https://huggingface.co/google-bert/{name} (config.json, model.safetensors, vocab.txt)"
    )
    with source.obtaining(f"the weights '{name}'", address, f"{name}/"), _no_bars():
        published, report = BertModel.from_pretrained(
            source.local(name) or name,
            add_pooling_layer=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
        # transformers would leave missing entries random and only log that.
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"'{missing[0]}' is missing in it")
    return published.state_dict()
