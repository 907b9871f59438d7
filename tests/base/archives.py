"""Modules to write as TorchScript archives."""

from collections.abc import Mapping

from torch import Tensor, nn


class _Node(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def modules_of(state: Mapping[str, Tensor]) -> nn.Module:
    """Return modules inside each other whose state dict is `state`."""
    root = _Node()
    for name, value in state.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, _Node())
            node = node._modules[part]
        node.register_buffer(last, value)
    return root
