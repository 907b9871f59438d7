"""Every random number of the suite comes from here. Each is a function of what it is for.

A generator is keyed by the seed, the purpose, the epoch or step, and the sample. It never depends
on how many numbers were drawn before, or on which worker or device draws them. So all strategies
see the same samples, sentences and noise, and a run that is resumed or spread over devices
continues the same stream. The names of the purposes must not change, because another word gives
another stream.
"""

import hashlib

import numpy as np


def _digest(parts: tuple[object, ...]) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()


def generator(*key: object) -> np.random.Generator:
    """Return the generator of `key`, which always yields the same stream.

    An example is `generator(seed, "sentence", epoch, unit)`.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(key), "little")))


def torch_seed(*key: object) -> int:
    """Return a 63-bit seed for `torch.manual_seed` that depends on `key` alone."""
    return int.from_bytes(_digest(key)[:8], "little") >> 1


def reseed_dropout(*key: object) -> None:
    """Seed torch's default generators from `key`, on the CPU and on devices.

    Dropout and drop path read them. The key says which pass of which step is meant.
    """
    import torch

    torch.manual_seed(torch_seed(*key))
