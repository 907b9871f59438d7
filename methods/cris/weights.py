"""CRIS checkpoints: published names and ours are the same; only wrappers differ.

A published run saves `{epoch, cur_iou, best_iou, prec, state_dict, optimizer, scheduler}` with `module.`-prefixed names. No
official checkpoint was ever published; these are the names that the published code would write.
"""

from torch import Tensor, nn


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under the names of `CrisNetwork`, for a published state dict with or without `module.`."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def to_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `CrisNetwork.state_dict()` under the names a published checkpoint holds."""
    return {f"module.{name}": value for name, value in state.items()}


def to_published_names(network: nn.Module) -> dict[str, str]:
    """Return own parameter name -> name in the parity fixtures (published, without `module.`)."""
    return {name: name for name, _ in network.named_parameters()}
