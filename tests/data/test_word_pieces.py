"""Word pieces that are kept are those that would be trained, and only for their own data."""

import os
from pathlib import Path

import pytest

from benchmark.data import word_pieces
from benchmark.data.tokenizers import as_text, trained_tokenizer

SENTENCES = ["the small red circle on the left", "large café, rightmost", "the red one"]


@pytest.fixture
def trainings(monkeypatch):
    """Return a list that gets the family of each training."""
    families = []

    def train(family, sentences):
        families.append(family)
        return trained_tokenizer(family, sentences)

    monkeypatch.setattr(word_pieces, "trained_tokenizer", train)
    return families


def kept(family, digest="a" * 64, field="sent", sentences=SENTENCES):
    return word_pieces.kept_tokenizer(family, field, digest, lambda: sentences)


@pytest.mark.parametrize("family", ["bert", "clip"])
def test_they_are_trained_once_and_are_the_same_pieces(trainings, family):
    expected = trained_tokenizer(family, SENTENCES)
    first, again = kept(family), kept(family)
    assert trainings == [family]
    for tokenizer in (first, again):
        assert tokenizer == expected and tokenizer.identity() == expected.identity()
        # Exports hold this text.
        assert as_text(tokenizer) == as_text(expected)
        for sentence in [*SENTENCES, "never seen: œ 日本 &amp; [MASK] <pad>"]:
            assert tokenizer.pieces(sentence) == expected.pieces(sentence)


def test_pieces_of_other_data_are_not_taken(trainings):
    kept("bert")
    others = ["wholly other words"]
    assert kept("bert", "b" * 64, sentences=others) == trained_tokenizer("bert", others)
    assert kept("bert", field="raw", sentences=others) == trained_tokenizer("bert", others)
    kept("clip")
    assert trainings == ["bert", "bert", "bert", "clip"]


def test_other_rules_or_packages_train_again(trainings, monkeypatch, tmp_path):
    kept("bert")
    changed = tmp_path / "rules.py"
    changed.write_text(Path(word_pieces.tokenizers.__file__).read_text() + "# another rule\n")
    with monkeypatch.context() as patch:
        patch.setattr(word_pieces.tokenizers, "__file__", str(changed))
        kept("bert")
    monkeypatch.setattr(word_pieces.importlib.metadata, "version", lambda name: "0")
    kept("bert")
    assert len(trainings) == 3


@pytest.mark.parametrize("content", ["", "{", "0" * 64 + '\n{"family": "bert"}'])
def test_a_damaged_file_is_made_again(trainings, content):
    first = kept("clip")
    (path,) = (Path(os.environ["XDG_CACHE_HOME"]) / "risbench" / word_pieces.KIND).iterdir()
    good = path.read_text()
    path.write_text(content)
    assert kept("clip") == first and trainings == ["clip", "clip"]
    assert path.read_text() == good


def test_a_cache_that_cannot_be_written_is_no_error(trainings, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert kept("bert") == kept("bert") == trained_tokenizer("bert", SENTENCES)
    assert trainings == ["bert", "bert"]
