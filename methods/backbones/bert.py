"""BERT as a text encoder: transformers' `BertModel` without its pooler, named as the published checkpoints are."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from transformers import BertConfig, BertModel
from transformers.masking_utils import create_bidirectional_mask

from benchmark.base.pretrained import local, obtaining

UNNEEDED = {
    r"embeddings\.position_ids$": "0, 1, 2, ...: older BERTs stored it",
    r"pooler\.": "BERT's pooler is never used",
}
"""What a published checkpoint may hold of a BERT and `build`'s encoder does without: pattern -> reason."""


class BertSize(BaseModel):
    """The size of a BERT; the defaults are bert-base-uncased (Devlin et al., NAACL 2019).

    Attributes:
        hidden: channels of a word's state.
        layers, heads: transformer layers and attention heads.
        intermediate: channels inside the feed-forward network.
        positions: longest sentence.
        dropout: of hidden states and attention weights, in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    positions: int = 512
    dropout: float = 0.1


def build(size: BertSize, vocabulary_size: int) -> BertModel:
    """Return a BERT with fresh weights, in eval mode."""
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
    return BertModel(config, add_pooling_layer=False).eval()


def encode(bert: BertModel, states: Tensor, attention: Tensor) -> Tensor:
    """Return the last hidden states (B, L, C) of embedded tokens.

    Args:
        bert: the encoder.
        states: (B, L, C), `bert.embeddings(ids)`; a method may append prompts to it.
        attention: int64 (B, L), 0 where a token is padding. Padding keeps a state of its own; nothing attends to it.
    """
    mask = create_bidirectional_mask(config=bert.config, inputs_embeds=states, attention_mask=attention)
    return bert.encoder(states, attention_mask=mask).last_hidden_state


def starting_weights(name: str) -> dict[str, Tensor]:
    """Return the published weights called `name` under the names of `build`'s encoder: transformers reads them from a local
    folder of that name, its cache or the hub.

    Raises:
        UserError: they cannot be had, or lack a part of the encoder.
    """
    address = f"https://huggingface.co/google-bert/{name} (config.json, model.safetensors, vocab.txt)"
    with obtaining(f"the weights '{name}'", address, f"{name}/"):
        source, report = BertModel.from_pretrained(
            local(name) or name, add_pooling_layer=False, dtype=torch.float32, output_loading_info=True
        )
        if report["missing_keys"]:  # transformers would leave them random
            raise ValueError(f"'{sorted(report['missing_keys'])[0]}' is missing in it")
    return source.state_dict()
