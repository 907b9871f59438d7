"""Subsets of referring expressions by the words they use and by their length."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml


@functools.cache
def keywords() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return subset -> the words, or sequences of words, that put an expression into it (`language.yaml`)."""
    lists = yaml.safe_load((Path(__file__).parent / "language.yaml").read_text())
    return {
        name: tuple(tuple(entry.split()) for entry in entries)
        for name, entries in lists["keywords"].items()
    }


@functools.cache
def lengths() -> dict[str, tuple[int, int]]:
    """Return subset -> least and greatest number of words."""
    lists = yaml.safe_load((Path(__file__).parent / "language.yaml").read_text())
    return {name: (low, high) for name, (low, high) in lists["lengths"].items()}


def tokens(sentence: str) -> tuple[str, ...]:
    """Return the words of a sentence in lower case, without punctuation; "third-left" is two, "isn't" one."""
    return tuple(re.findall(r"[a-z0-9]+(?:'[a-z]+)?", sentence.lower()))


def holds(words: tuple[str, ...], entries: Sequence[tuple[str, ...]]) -> bool:
    """Return whether one of the sequences stands among the words, whole words only."""
    # Words hold no space, so a space on either side is where one ends.
    text = f" {' '.join(words)} "
    return any(f" {' '.join(entry)} " in text for entry in entries)


def subsets(sentences: Sequence[str]) -> dict[str, np.ndarray]:
    """Return subset -> which of N sentences are in it, bool (N,). An expression can be in several, or in none."""
    split = [tokens(sentence) for sentence in sentences]
    found = {
        name: np.array([holds(words, entries) for words in split], bool)
        for name, entries in keywords().items()
    }
    count = np.array([len(words) for words in split])
    return found | {
        name: (count >= low) & (count <= high) for name, (low, high) in lengths().items()
    }
