"""Words of referring expressions, covered one by one.

This shows what a network makes of a sentence without each of its words.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref, Sentence

if TYPE_CHECKING:  # Presets name these conditions, and plans need not wait for pandas.
    import pandas as pd

    from benchmark.data.tokenizers import Tokenizer
    from methods.contract import Text

# These stand around the covered word. No data set's sentence holds them.
OPEN = "⟦"
CLOSE = "⟧"
MARKED = re.compile(rf"(.*){OPEN}(.*){CLOSE}(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class CoveredWords:
    """Every expression as it is, and once more for each of its words with that word covered.

    Every method gets the cleaned sentence, so that all see the same words. Its text is `words`.
    """

    def __str__(self) -> str:
        return "words"

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return the image, uint8 (height, width, 3), with refs that hold the marked sentences."""
        return [
            (pixels, [dataclasses.replace(ref, sentences=_marked(ref.sentences)) for ref in refs])
        ]


def _marked(sentences: Sequence[Sentence]) -> tuple[Sentence, ...]:
    """Return each sentence without a mark and once with a mark around each of its words."""
    marked = []
    for sentence in sentences:
        words = sentence.sent.split()
        texts = [sentence.sent]
        for position, word in enumerate(words):
            others_marked = (*words[:position], f"{OPEN}{word}{CLOSE}", *words[position + 1 :])
            texts.append(" ".join(others_marked))
        marked += [Sentence(sentence.sent_id, text, text) for text in texts]
    return tuple(marked)


class CoveringTokenizer:
    """A tokenizer that reads a marked word as masked, as in `the ⟦red⟧ box`.

    As in MaskRIS' text mask, every piece of the word becomes the mask id, and the attention stays
    that of the original sentence. A sentence without a mark is read as ever.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, sentences: Sequence[str], max_length: int, keep_end: bool = True) -> Text:
        """Return the sentences as `Tokenizer.encode` does, with the marked words masked.

        Args and the result are those of `Tokenizer.encode`.
        """
        tokenizer = self.tokenizer
        unmarked = [sentence.replace(OPEN, "").replace(CLOSE, "") for sentence in sentences]
        text = tokenizer.encode(unmarked, max_length, keep_end)
        for row, sentence in enumerate(sentences):
            if match := MARKED.fullmatch(sentence):
                before, word, _ = match.groups()
                # The start id stands before the first piece.
                start = 1 + len(tokenizer.pieces(before))
                end = 1 + len(tokenizer.pieces(f"{before}{word}"))
                ids = text.ids[row, start:end]
                # Where the sentence was cut, the end id may stand in the word's place.
                ids[ids != tokenizer.end_id] = tokenizer.mask_id
        return text


def read_covered(records: pd.DataFrame) -> pd.DataFrame:
    """Return records of covered words with the columns `position` and `word`.

    `position` counts the words from 0 and is -1 where no word is covered. `word` is the covered
    word, or empty. `sentence` holds no mark any more. The rows are sorted by sentence and position.
    """
    matches = records["sentence"].str.extract(MARKED)
    whole = matches[1].isna()
    position = matches[0].fillna("").str.split().str.len().where(~whole, -1)
    return records.assign(
        position=position.astype("int64"),
        word=matches[1].fillna(""),
        sentence=records["sentence"].str.replace(f"[{OPEN}{CLOSE}]", "", regex=True),
    ).sort_values(["sent_id", "position"], ignore_index=True)
