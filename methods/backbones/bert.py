"""BERT as a text encoder: transformers' `BertModel` without its pooler, named as the published checkpoints are."""

from pydantic import BaseModel, ConfigDict
from torch import Tensor
from transformers import BertConfig, BertModel
from transformers.masking_utils import create_bidirectional_mask

from benchmark.errors import UserError


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


def load_pretrained(bert: BertModel, name: str) -> None:
    """Start `bert` from the published weights called `name`.

    Raises:
        UserError: the weights cannot be read or downloaded, or have another size.
    """
    try:
        source = BertModel.from_pretrained(name, add_pooling_layer=False)
        bert.load_state_dict(source.state_dict())
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"The weights '{name}' could not be loaded ({type(error).__name__}); "
            "allow access to huggingface.co or set HF_HOME to a cache that holds them."
        ) from error
