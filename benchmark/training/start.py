"""The start and the stop of a training: its optimizer and published weights, and its signals."""

import signal

import torch

from benchmark.base import pretrained
from benchmark.base.errors import UserError
from benchmark.runs.spec import RunSpec
from benchmark.training import auxiliary
from methods.contract import Method


def build_optimizer(method: Method, spec: RunSpec) -> torch.optim.Optimizer:
    """Return the recipe's optimizer (Adam or AdamW) over the method's published groups."""
    recipe = spec.recipe
    groups = [
        {"weight_decay": recipe.weight_decay, **group} for group in method.parameter_groups(recipe)
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate, fused=True)


def start_from_published(method: Method, spec: RunSpec, source: pretrained.Source) -> None:
    """Start the encoders from the published weights that the spec names.

    Args:
        method: the method whose network gets the weights.
        spec: the spec of the run.
        source: where published weights are looked for.

    Raises:
        UserError: the weights cannot be found, or are not those that the run's key names.
    """
    weights = method.weights.starting_weights(spec.network, source)
    if pretrained.digest(weights) != spec.weights:
        raise UserError(
            f"the weights '{spec.network.pretrained}' on this machine are not those of the run"
            f" (digest {spec.weights}): restore them, or plan the matrix again for these."
        )
    # The weights of the auxiliary come with them and are no part of the network.
    own = {name: value for name, value in weights.items() if not name.startswith(auxiliary.PREFIX)}
    pretrained.start(method.network, own, spec.network.pretrained)


class Stop:
    """Remembers Ctrl-C and SIGTERM until the loop can save its state.

    Attributes:
        asked: whether one of these signals has come.
    """

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
