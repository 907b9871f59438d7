"""Sentences that say where several variants depart from the published training.

A method's own departures stand in its `config.py`. These are the ones that more than
one method has. All of them are stored in specs and enter run keys, so not a letter of
them may change.
"""

BERT_WORDS = "word pieces trained on the training sentences in place of BERT's 30,522"
CLIP_WORDS = "word pieces trained on the training sentences in place of CLIP's 49,408"
HIGHER_RATE = "a higher learning rate than the published one, which fine-tunes"
HIGHER_RATE_TOWERS = (
    "a higher learning rate than the published one, which starts from trained towers"
)
KERNEL_GROWS_IN = (
    "branch_gain 0 and kernel_gain 0.1: a start from which the decoder's attention and the"
    " sentence's kernel grow in"
)
HIGHER_RATE_SHORT_WARMUP = f"{HIGHER_RATE}, and a warm-up as short as the training"


def from_scratch(encoders: str) -> str:
    """Return that `encoders`, such as "Swin and BERT", start from random weights."""
    return (
        f"trained from scratch: {encoders} start from random weights, not from the published ones"
    )


def full_rate(encoders: str) -> str:
    """Return that `encoders`, such as "towers", learn as fast as the rest of a network."""
    return (
        f"backbone_multiplier 1: {encoders} that start from random weights need the full"
        " learning rate"
    )
