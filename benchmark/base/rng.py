"""Every random draw of the suite comes from here: counter-based CPU generators, keyed by what is drawn.

A generator is a function of its key alone, never of how many draws came before on some worker or device. So baseline and
MaskRIS see the same samples, sentences and noise, and a run resumed or spread over devices continues the same stream.
"""

import hashlib

import numpy as np
import torch


def _digest(parts: tuple[object, ...]) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()


def generator(*key: object) -> np.random.Generator:
    """Return the generator of `key`, e.g. `generator(seed, epoch, sample, "sentence")`: always the same stream."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(key), "little")))


def torch_seed(*key: object) -> int:
    """Return a 63-bit seed for `torch.manual_seed` that depends on `key` alone (dropout of one pass of one step)."""
    return int.from_bytes(_digest(key)[:8], "little") >> 1


def reseed_dropout(*key: object) -> None:
    """Seed torch's default generators (CPU and devices), which dropout and drop path read, from `key`."""
    torch.manual_seed(torch_seed(*key))
