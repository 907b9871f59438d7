"""Batches do not depend on who makes them, nor on what is kept in memory."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from benchmark.data import memory
from benchmark.data.loading import loader
from benchmark.data.memory import MemoryCache
from benchmark.data.samples import TrainingSamples, batches_of_epochs
from benchmark.evaluation.inference import build_method
from benchmark.runs.opened import Opened
from tests.helpers import tiny_spec

EPOCHS = 2


@pytest.fixture(scope="module")
def ingredients(boxes):
    spec, places = tiny_spec(boxes, "cris", "baseline")
    dataset, tokenizer = Opened(places).run(spec)
    return dataset, build_method(spec, tokenizer).needs, tokenizer


def batches(ingredients, workers, cache_bytes=None):
    samples = TrainingSamples(
        ingredients[0], "train", *ingredients[1:], seed=3, cache_bytes=cache_bytes
    )
    if workers:
        samples.preload()
    epochs = ((epoch, samples.order(epoch, 5, False)) for epoch in range(EPOCHS))
    return samples, list(batches_of_epochs(samples, epochs, 3, 0, 1, workers))


def same(first, second):
    return (
        first.samples == second.samples
        and torch.equal(first.images, second.images)
        and torch.equal(first.targets, second.targets)
        and torch.equal(first.text.ids, second.text.ids)
        and torch.equal(first.text.attention, second.text.attention)
    )


@pytest.mark.parametrize("cache_bytes", [None, 0, 100_000])
def test_workers_and_a_bounded_cache_give_the_same_batches(ingredients, cache_bytes):
    samples, alone = batches(ingredients, 0)
    _, ahead = batches(ingredients, 2, cache_bytes)
    # 18 units of 6 images are 4 steps of 5 units, the last of 3.
    assert [len(step) for step in alone] == [2, 2, 2, 1] * EPOCHS
    for first, second in zip(alone, ahead, strict=True):
        assert all(same(*pair) for pair in zip(first, second, strict=True))
    seen = [unit for step in alone for batch in step for unit in batch.samples]
    assert sorted(seen) == sorted([*range(len(samples))] * EPOCHS)
    assert seen[: len(samples)] != seen[len(samples) :]


def test_a_cache_keeps_what_fits(monkeypatch):
    made = []

    def make(key):
        made.append(key)
        return np.full(10, key, np.uint8)

    its = MemoryCache(25)
    for _ in range(2):
        for key in range(3):
            assert its.get(key, lambda key=key: make(key))[0] == key
    assert made == [0, 1, 2, 2] and its.is_full
    free = MemoryCache(10**6)
    free.close()
    free.get("late", lambda: make(5))
    assert not free.kept
    # Where other programs need the memory, nothing more is kept.
    scarce = memory.psutil.virtual_memory()._replace(available=0)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: scarce)
    busy = MemoryCache(10**6)
    busy.get("late", lambda: make(6))
    assert not busy.kept and busy.is_full


def test_the_bound_follows_from_the_machine_and_its_processes(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "missing", limit))
    limit.write_text("max\n")
    whole = memory.machine_bytes()
    assert whole == memory.psutil.virtual_memory().total
    assert MemoryCache().room == whole // 4
    limit.write_text(f"{4 * 2**20}\n")
    assert memory.machine_bytes() == 4 * 2**20 and MemoryCache().room == 2**20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert MemoryCache().room == 2**18


class Threads(Dataset):
    def __getitem__(self, key):
        return key, torch.get_num_threads(), cv2.getNumThreads()


def test_a_worker_has_one_thread():
    assert [*loader(Threads(), iter([4, 7]), workers=1)] == [[4, 1, 1], [7, 1, 1]]
