"""The precision in which networks, outputs and losses are computed."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from methods.config import AUTOCAST

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def computed_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute the passes of a network in the precision of its recipe.

    How float32 products are computed is set beyond the block, since the backward pass comes later.
    `tf32` rounds their factors to TensorFloat-32 on a GPU, and every other precision keeps
    float32, which torch does not do for convolutions of itself.

    Args:
        precision: a precision of `Recipe`.
        device: of the network.
    """
    set_float32(precision)
    with torch.autocast(device.type, _TYPES.get(precision), enabled=precision in AUTOCAST):
        yield


def set_float32(precision: str) -> None:
    """Set how float32 products are computed, and how cuDNN chooses its kernels."""
    rounded = precision == "tf32"
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32 = rounded
    # A kernel that is chosen by trial may be another in the next session of the same run.
    cudnn.benchmark = False
    cudnn.deterministic = False


def float32_settings() -> dict[str, bool]:
    """Return how float32 products are computed now, and how cuDNN chooses its kernels."""
    return {
        "tf32": torch.get_float32_matmul_precision() != "highest",
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
    }


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 if it was less precise, and unchanged if it was not."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
