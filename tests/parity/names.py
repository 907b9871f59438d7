"""What the parameters of a network are called in the authors' checkpoints."""

from torch import nn

from methods.weights import PublishedWeights


def published_names(weights: PublishedWeights, network: nn.Module) -> dict[str, str]:
    """Return own parameter name -> published name.

    Raises:
        KeyError: `to_published` drops a parameter.
    """
    own = dict(network.named_parameters())
    published = {id(value): name for name, value in weights.to_published(own).items()}
    return {name: published[id(parameter)] for name, parameter in own.items()}
