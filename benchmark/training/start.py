"""What a run starts from: the optimizer over the method's published groups, and published weights."""

import signal

import torch

from benchmark.base import pretrained
from benchmark.base.errors import UserError
from benchmark.runs.spec import RunSpec
from benchmark.training import auxiliary
from methods.contract import Method


def build_optimizer(method: Method, spec: RunSpec) -> torch.optim.Optimizer:
    """Return Adam or AdamW over the method's published groups."""
    recipe = spec.recipe
    groups = [
        {"weight_decay": recipe.weight_decay, **group} for group in method.parameter_groups(recipe)
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate, fused=True)


def start_from_published(method: Method, spec: RunSpec, source: pretrained.Source) -> None:
    """Start the encoders from the published weights that the spec names.

    Raises:
        UserError: they cannot be had, or are not those of the run's key.
    """
    weights = method.weights.starting_weights(spec.network, source)
    if pretrained.digest(weights) != spec.weights:
        raise UserError(
            f"the weights '{spec.network.pretrained}' on this machine are not those of the run (digest {spec.weights}):"
            " restore them, or plan the matrix again for these."
        )
    # The auxiliary's come with them and are no part of the network.
    own = {name: value for name, value in weights.items() if not name.startswith(auxiliary.PREFIX)}
    pretrained.start(method.network, own, spec.network.pretrained)


class Stop:
    """Remembers Ctrl-C and SIGTERM until the loop can save its state."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Stop":
        signals = (signal.SIGINT, signal.SIGTERM)
        self.previous = {number: signal.signal(number, self._ask) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.asked = True
