"""Loader processes, which prepare images ahead of a network.

Torch gives each of them one thread of its own accord.
"""

from collections.abc import Callable, Iterable
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset


def loader(
    dataset: Dataset,
    order: Iterable[Any],
    workers: int,
    pinned: bool = False,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """Return what loads the items of a data set in some order.

    Args:
        dataset: makes the items.
        order: keys of items. With `collate` these are lists of keys that belong together.
        workers: processes that make items ahead. With 0 this process makes them.
        pinned: whether items are put where a GPU fetches them by itself, which an item does by its
            own `pin_memory`.
        collate: brings the items of a list together. None takes them one by one.
    """
    if workers:
        # There are as many processes as are wanted. OpenCV's threads are ended before the fork,
        # since a child that ended them would wait for threads that it does not have.
        cv2.setNumThreads(1)
    batched = {"batch_sampler": order, "collate_fn": collate}
    return DataLoader(
        dataset,
        **batched if collate else {"sampler": order, "batch_size": None},
        num_workers=workers,
        pin_memory=pinned,
    )
