"""Words of referring expressions, covered one by one: what a network makes of a sentence without each of its words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmark.data.refer import Ref, ReferDataset, Sentence

if TYPE_CHECKING:
    from benchmark.data.tokenizers import Tokenizer
    from methods.contract import Text

OPEN, CLOSE = "⟦", "⟧"  # around the covered word: characters that no data set's sentence holds
MARKED = re.compile(rf"(.*){OPEN}(.*){CLOSE}(.*)", re.DOTALL)


# --- covered one by one -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class CoveredWords:
    """Every expression as it is, and once for each of its words with that one covered; as text `words`.

    Every method gets the cleaned sentence, so that all see the same words.
    """

    def __str__(self) -> str:
        return "words"

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return the image, uint8 (height, width, 3), with the refs that hold the marked sentences."""
        return [
            (pixels, [dataclasses.replace(ref, sentences=_marked(ref.sentences)) for ref in refs])
        ]


def _marked(sentences: Sequence[Sentence]) -> tuple[Sentence, ...]:
    found = []
    for sentence in sentences:
        words = sentence.sent.split()
        texts = [sentence.sent]
        texts += [
            " ".join((*words[:n], f"{OPEN}{word}{CLOSE}", *words[n + 1 :]))
            for n, word in enumerate(words)
        ]
        found += [Sentence(sentence.sent_id, text, text) for text in texts]
    return tuple(found)


class CoveringTokenizer:
    """A tokenizer that reads a marked word, `the ⟦red⟧ box`, as masked; sentences without a mark as ever.

    As in MaskRIS' text mask, every piece of the word becomes the mask id and the attention stays the original sentence's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, sentences: Sequence[str], max_length: int, keep_end: bool = True) -> Text:
        """Return what `Tokenizer.encode` does of the sentences without their marks, the marked words masked."""
        own = self.tokenizer
        text = own.encode(
            [sentence.replace(OPEN, "").replace(CLOSE, "") for sentence in sentences],
            max_length,
            keep_end,
        )
        for row, sentence in enumerate(sentences):
            if found := MARKED.fullmatch(sentence):
                before, word, _ = found.groups()
                start = 1 + len(own.pieces(before))
                place = slice(
                    start, start + len(own.pieces(f"{before}{word}")) - len(own.pieces(before))
                )
                ids = text.ids[row, place]
                ids[ids != own.end_id] = (
                    own.mask_id
                )  # the end id stands there where the sentence was cut
        return text


def read_covered(records: pd.DataFrame) -> pd.DataFrame:
    """Return records of covered words with two more columns: `position` of the covered word from 0 (-1: none is covered),
    and `word` (""). `sentence` holds no mark any more."""
    found = records["sentence"].str.extract(MARKED)
    none = found[1].isna()
    position = found[0].fillna("").str.split().str.len().where(~none, -1)
    return records.assign(
        position=position.astype("int64"),
        word=found[1].fillna(""),
        sentence=records["sentence"].str.replace(f"[{OPEN}{CLOSE}]", "", regex=True),
    ).sort_values(["sent_id", "position"], ignore_index=True)
