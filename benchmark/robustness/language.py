"""Subsets of referring expressions by the words they use and by their length."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml


@functools.cache
def keywords() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return subset -> the words or sequences of words that put an expression into it.

    They stand in `language.yaml`.
    """
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
    """Return the words of a sentence in lower case and without punctuation.

    "third-left" is two words, and "isn't" is one.
    """
    return tuple(re.findall(r"[a-z0-9]+(?:'[a-z]+)?", sentence.lower()))


def holds(words: tuple[str, ...], entries: Sequence[tuple[str, ...]]) -> bool:
    """Return whether one of the sequences of whole words stands among the words."""
    # No word holds a space, so a space on either side marks where a word ends.
    text = f" {' '.join(words)} "
    return any(f" {' '.join(entry)} " in text for entry in entries)


def subsets(sentences: Sequence[str]) -> dict[str, np.ndarray]:
    """Return subset -> which of N sentences are in it, bool (N,).

    An expression can be in several subsets, or in none.
    """
    split = [tokens(sentence) for sentence in sentences]
    by_keyword = {
        name: np.array([holds(words, entries) for words in split], bool)
        for name, entries in keywords().items()
    }
    count = np.array([len(words) for words in split])
    by_length = {name: (count >= low) & (count <= high) for name, (low, high) in lengths().items()}
    return by_keyword | by_length
