"""Word pieces are trained once on the sentences of a data set, and read after that.

What is read gives the same ids as what was trained, and has the same digest in run keys.
"""

import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmark.base import cache
from benchmark.base.errors import UserError
from benchmark.data import tokenizers
from benchmark.data.tokenizers import Tokenizer, as_text, from_text, trained_tokenizer

KIND = "word_pieces"
PACKAGES = ("tokenizers", "ftfy")  # decide the pieces, with the suite's rules


def kept_tokenizer(
    family: str, field: str, data_sha256: str, sentences: Callable[[], Iterable[str]]
) -> Tokenizer:
    """Return the tokenizer of some sentences, as `trained_tokenizer` does.

    Args:
        family: `bert` or `clip`.
        field: which text of a sentence it is trained on, `sent` or `raw`.
        data_sha256: digest of the data set whose training sentences they are.
        sentences: returns them. It is called where no pieces of them are kept.

    Raises:
        UserError: the family is not known.
    """
    versions = [importlib.metadata.version(package) for package in PACKAGES]
    # Other rules may give other pieces, and no number says that they are others.
    rules = Path(tokenizers.__file__).read_text("utf-8")
    key = cache.key_of(family, field, data_sha256, versions, sys.version, rules)
    if (text := cache.recall(KIND, key)) is not None:
        try:
            return from_text(text)
        except UserError:
            pass  # They are trained again.
    tokenizer = trained_tokenizer(family, sentences())
    cache.keep(KIND, key, as_text(tokenizer))
    return tokenizer
