"""How the passes of a training step are executed: with less memory, or compiled.

Neither is part of a run's key, and both change the network in place, so that the names of its state
stay what they are. Evaluation computes as without them.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from benchmark.base.errors import UserError
from benchmark.runs.execution import Numerics
from methods.contract import Method

# A strategy has passes of several kinds, and each of them is compiled for itself.
MOST_KINDS = 32


def prepare(method: Method, numerics: Numerics) -> None:
    """Let the passes of a method be executed as `numerics` says.

    Raises:
        UserError: the method names no blocks for checkpointing.
    """
    if numerics.checkpointing:
        recompute_blocks(method)
    if numerics.compile:
        compile_passes(method)


def recompute_blocks(method: Method) -> None:
    """Let blocks keep nothing but their inputs until the backward pass, which computes them again.

    That takes less memory and about a third more time (Chen et al., arXiv 1604.06174). A block has
    the same dropout both times, and BatchNorm's running statistics are moved by the first alone.

    Raises:
        UserError: the method names no blocks.
    """
    if not method.blocks:
        raise UserError(
            f"the method {method.definition.name} names no blocks that can be computed again: set"
            " checkpointing to false."
        )
    for module in method.network.modules():
        if isinstance(module, method.blocks):
            module.forward = functools.partial(_recomputed, module, module.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **more: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **more)
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]

    def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
        return contextlib.nullcontext(), _second_time(norms, tracked)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **more)


@contextlib.contextmanager
def _second_time(norms: list[_BatchNorm], tracked: list[bool]) -> Iterator[None]:
    """Let BatchNorm compute what it did the first time, and move copies of its statistics.

    Args:
        norms: the norms of a block.
        tracked: whether each of them moved its running statistics the first time.
    """
    kept = [(norm.track_running_stats, dict(norm._buffers)) for norm in norms]
    for norm, track in zip(norms, tracked, strict=True):
        norm.track_running_stats = track
        copies = {name: its.clone() for name, its in norm.named_buffers(recurse=False)}
        norm._buffers.update(copies)
    try:
        yield
    finally:
        for norm, (track, buffers) in zip(norms, kept, strict=True):
            norm.track_running_stats = track
            norm._buffers.update(buffers)


def compile_passes(method: Method, backend: str = "inductor") -> None:
    """Let torch compile the forward pass, each kind of pass as one graph.

    Args:
        method: its `forward` is what training enters.
        backend: of torch.compile.
    """
    # Beyond the limit a pass would silently be executed as if it were not compiled.
    torch._dynamo.config.recompile_limit = MOST_KINDS
    method.compile(backend=backend, fullgraph=True)
