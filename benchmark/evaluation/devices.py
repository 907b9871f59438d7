"""The device that networks are computed on, which is never another one than was asked for."""

import os

import torch

from benchmark.base.errors import UserError, choose
from benchmark.runs.execution import DEVICES

VISIBLE = "CUDA_VISIBLE_DEVICES"


def pick_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`. `auto` takes a GPU if one can be used.

    Processes that torchrun has started take one GPU each.

    Raises:
        UserError: the name is another, it is `cuda` and no GPU can be used, or there are more
            processes than GPUs.
    """
    choose(name, DEVICES, "device")
    reason = "" if name == "cpu" else _why_no_gpu()
    if name == "cuda" and reason:
        raise UserError(f"no GPU can be used here, since {reason}: mend it or use --device cpu.")
    if name == "cpu" or reason:
        return torch.device("cpu")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > torch.cuda.device_count():
        raise UserError(
            f"{processes} processes take a GPU each, and torch sees {torch.cuda.device_count()}:"
            f" start fewer with --processes, name more in {VISIBLE}, or use --device cpu."
        )
    return torch.device("cuda")


def describe_choice(name: str, device: torch.device) -> str:
    """Return what `auto` took in a sentence, and nothing for any other name of a device."""
    if name != "auto":
        return ""
    if device.type == "cuda":
        return f"The device auto takes the GPU {torch.cuda.get_device_name(device)}."
    return f"The device auto takes the processor, since {_why_no_gpu()}."


def _why_no_gpu() -> str:
    """Return why no GPU can be used, as the rest of a sentence, or nothing where one can."""
    if not torch.backends.cuda.is_built():
        return "this torch was built without CUDA"
    if not torch.cuda.is_available():
        listed = os.environ.get(VISIBLE)
        return "torch finds no GPU" + ("" if listed is None else f" ({VISIBLE} is '{listed}')")
    try:
        # A card that is listed may still be too old for this torch, or in an exclusive mode.
        torch.zeros(1, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}").item()
    except RuntimeError as error:
        return f"the GPU refuses to compute ({str(error).splitlines()[0]})"
    return ""
