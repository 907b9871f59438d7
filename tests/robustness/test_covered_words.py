"""Covered words against plain strings, and subsets that match whole words alone."""

import numpy as np
import pandas as pd
import pytest

from benchmark.data.refs import Ref, Sentence
from benchmark.data.tokenizers import trained_tokenizer
from benchmark.robustness.covered_words import CoveredWords, CoveringTokenizer, read_covered
from benchmark.robustness.language import holds, keywords, lengths, subsets, tokens

SENTENCES = ["the red box", "unforeseeable zebra on the left", "red", "man in white, 2nd from left"]


@pytest.fixture(scope="module", params=("bert", "clip"))
def tokenizer(request):
    return trained_tokenizer(request.param, ["the red box on the left", "a man in white"] * 3)


def marked(sentence):
    ref = Ref(1, 1, 1, 1, "val", (Sentence(5, sentence, sentence.capitalize()),))
    ((_, (changed,)),) = CoveredWords().views(None, [ref], np.zeros((2, 2, 3), np.uint8))
    return changed.sentences


@pytest.mark.parametrize("sentence", SENTENCES)
def test_one_word_at_a_time_becomes_masks(tokenizer, sentence):
    covering, length = CoveringTokenizer(tokenizer), 40
    texts = [its.sent for its in marked(sentence)]
    found, plain = covering.encode(texts, length), tokenizer.encode([sentence], length)
    assert len(texts) == 1 + len(sentence.split())
    assert (found.ids[0] == plain.ids[0]).all(), "the first covers nothing"
    assert (found.attention == plain.attention).all(), "the attention stays the original's"
    for number, word in enumerate(sentence.split()):
        # Oracle: the pieces of the words by themselves, put together with those of one word masked.
        pieces = [tokenizer.pieces(its) for its in sentence.split()]
        pieces[number] = [tokenizer.mask_id] * len(pieces[number])
        expected = [
            tokenizer.start_id,
            *(piece for its in pieces for piece in its),
            tokenizer.end_id,
        ]
        assert found.ids[number + 1, : len(expected)].tolist() == expected, word


def test_a_word_beyond_the_cut_changes_nothing_and_the_end_stays(tokenizer):
    sentence, covering = "the red box on the left", CoveringTokenizer(tokenizer)
    texts = [its.sent for its in marked(sentence)]
    for length in (4, 5, 6):
        found, plain = covering.encode(texts, length), tokenizer.encode([sentence], length)
        special = np.isin(plain.ids[0].numpy(), [tokenizer.start_id, tokenizer.end_id])
        assert (found.ids[:, special] == plain.ids[0, special]).all()
        assert (found.ids[-1] == plain.ids[0]).all()


def test_records_of_covered_words_are_read_back():
    texts = [its.sent for its in marked("the red box")]
    read = read_covered(pd.DataFrame({"sent_id": [5] * 4, "sentence": texts[::-1]}))
    assert read["position"].tolist() == [-1, 0, 1, 2] and read["word"].tolist() == [
        "",
        "the",
        "red",
        "box",
    ]
    assert set(read["sentence"]) == {"the red box"}


def test_whole_words_alone():
    assert tokens("Man's \"third-left\", isn't red") == ("man's", "third", "left", "isn't", "red")
    assert holds(tokens("cup on top of box"), [("on", "top", "of")]) and not holds(
        tokens("on the top"), [("on", "top")]
    )
    found = subsets(
        [
            "aboveboard cat",
            "cat above the board",
            "No. the lefty",
            "reddish",
            "person without a hat",
            "red",
        ]
    )
    assert found["position"].tolist() == [False, True, False, False, False, False]
    assert found["colour"].tolist() == [False, False, False, False, False, True]
    assert found["negation"].tolist() == [False, False, True, False, True, False]


def test_every_length_is_in_one_subset():
    sentences = [" ".join(["word"] * count) for count in range(1, 40)]
    found = subsets(sentences)
    assert (np.sum([found[name] for name in lengths()], axis=0) == 1).all()
    assert found["3-5 words"].sum() == 3


def test_the_lists_are_clean():
    for name, entries in keywords().items():
        assert len(set(entries)) == len(entries), name
        assert all(tokens(" ".join(entry)) == entry for entry in entries), (
            "an entry that can never match"
        )
