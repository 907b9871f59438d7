"""Tokenizers against published ids, transformers' own, and what training relies on."""

import json
import pickle
import random
import subprocess
import sys

import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.base.pretrained import Source
from benchmark.data.tokenizers import TRAINED_SIZE, published_tokenizer, trained_tokenizer
from tests.helpers import PROJECT

CLIP_TOKENS = json.loads(
    (PROJECT / "tests" / "parity" / "fixtures" / "clip_tokens.json").read_text()
)
SENTENCES = [
    "the small red circle on the left",
    "large blue square below the red circle",
    "the green triangle, rightmost",
    "man's 2nd café chair!",
    "the small red square",
]
TEXTS = [
    "  Man in a RED shirt, café-goer!! ",
    "unaffable [MASK] zebras",
    "left man left man left man left",
    "",
    "日本 x\t2nd",
]


@pytest.fixture(scope="module")
def clip():
    return published_tokenizer("clip", Source())


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """Return a vocabulary that is laid out like the published one and holds few words."""
    words = "a in red man shirt cafe go left x 2 ##er ##nd un ##aff ##able zebra ##s".split()
    words += "- ! , 日 [ ] mask".split()
    pieces = [
        "[PAD]",
        *(f"[unused{i}]" for i in range(99)),
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words,
    ]
    pieces += [f"[unused{i}]" for i in range(99, 99 + 30522 - len(pieces))]
    folder = tmp_path_factory.mktemp("pretrained") / "bert-base-uncased"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bert(bert_folder):
    return published_tokenizer("bert", Source(bert_folder.parent))


@pytest.mark.parametrize("words", [17, 22])
def test_clip_gives_the_published_ids(clip, words):
    sentences = [sentence for sentence in CLIP_TOKENS if sentence != "__ids__"]
    text = clip.encode(sentences, words)
    assert text.ids.dtype == text.attention.dtype == torch.int64
    assert text.ids.tolist() == [CLIP_TOKENS[sentence][str(words)] for sentence in sentences]


def test_clip_single_pieces(clip):
    known = CLIP_TOKENS["__ids__"]
    assert (
        (clip.start_id, clip.end_id)
        == (known["<|startoftext|>"], known["<|endoftext|>"])
        == (49406, 49407)
    )
    whole = {
        piece.removesuffix("</w>"): number
        for piece, number in known.items()
        if piece.endswith("</w>")
    }
    assert {piece: clip.pieces(piece) for piece in whole} == {
        piece: [number] for piece, number in whole.items()
    }
    assert clip.size == 49408 and clip.mask_id == clip.pad_id == known["!"] == 0
    assert clip.special_ids == {0, 49406, 49407} and clip.random_ids == range(49406)


def test_clip_takes_the_exclamation_mark_for_padding_as_published(clip):
    text = clip.encode(["!~"], 17)
    assert 0 in text.ids[0].tolist()[: text.ids[0].tolist().index(49407)]
    assert torch.equal(text.attention, (text.ids != 0).long())


@pytest.mark.parametrize("words", [4, 8, 20])
def test_bert_gives_what_transformers_gives(bert, bert_folder, words):
    from transformers import BertTokenizer

    reference = BertTokenizer(str(bert_folder / "vocab.txt"))
    text = bert.encode(TEXTS, words)
    for row, sentence in enumerate(TEXTS):
        ids = reference.encode(sentence)[
            :words
        ]  # the first ids, [SEP] lost where the sentence is long
        assert text.ids[row].tolist() == ids + [0] * (words - len(ids))
        assert text.attention[row].tolist() == [1] * len(ids) + [0] * (words - len(ids))


def test_bert_conventions(bert):
    assert bert.size == 30522 and (bert.pad_id, bert.start_id, bert.end_id, bert.mask_id) == (
        0,
        101,
        102,
        103,
    )
    assert bert.special_ids == {0, 100, 101, 102, 103} and bert.random_ids == range(30522)
    long = bert.encode(["left man left man left"], 4).ids[0].tolist()
    assert long[0] == 101 and 102 not in long
    assert bert.encode(["qqq"], 3).ids[0].tolist() == [101, 100, 102]


def test_a_cut_clip_sentence_keeps_its_end_unless_asked_otherwise(clip):
    sentence = " ".join(["man"] * 30)
    kept, lost = (
        clip.encode([sentence], 20, keep_end).ids[0].tolist() for keep_end in (True, False)
    )
    assert kept[:-1] == lost[:-1] and kept[-1] == clip.end_id != lost[-1]
    assert clip.encode(["man"], 20, False).ids.tolist() == clip.encode(["man"], 20).ids.tolist()


def test_a_published_vocabulary_that_is_missing_or_another_is_refused(tmp_path, bert_folder):
    source, folder = Source(tmp_path), tmp_path / "bert-base-uncased"
    folder.mkdir()
    with pytest.raises(UserError, match=r"vocab\.txt cannot be read .*https://"):
        published_tokenizer("bert", source)
    lines = (bert_folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    for damaged in (
        lines[:-1],
        lines[:-1] + lines[:1],
        ["[MASK]", *lines[1:103], "[PAD]", *lines[104:]],
    ):
        (folder / "vocab.txt").write_text("\n".join(damaged), encoding="utf-8")
        with pytest.raises(UserError, match="is not bert-base-uncased's vocabulary"):
            published_tokenizer("bert", source)
    (folder / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(UserError, match="damaged"):
        published_tokenizer("bert", source)


def test_without_a_connection_the_message_says_what_to_fetch(bert_folder, monkeypatch):
    import huggingface_hub

    def refuse(*_):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(
        UserError, match=r"fetch https://huggingface\.co/\S+/vocab\.txt, .* name that folder"
    ):
        published_tokenizer("bert", Source(offline=True))
    cached = str(bert_folder / "vocab.txt")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: cached)
    assert published_tokenizer("bert", Source(offline=True)).size == 30522


@pytest.mark.parametrize(
    "make",
    [
        lambda family: published_tokenizer(family, Source()),
        lambda family: trained_tokenizer(family, SENTENCES),
    ],
)
def test_a_misspelt_family_is_refused(make):
    with pytest.raises(UserError, match="did you mean bert"):
        make("bart")


@pytest.mark.parametrize("family", ["bert", "clip"])
def test_training_depends_on_the_sentences_but_not_on_their_order(family):
    many = [f"{a} {b} {c}" for a in ("red", "pale blue") for b in "xyzw" for c in SENTENCES]
    first = trained_tokenizer(family, many)
    shuffled = random.Random(0).sample(many, len(many))
    second = trained_tokenizer(family, shuffled)
    assert first == second and first.identity() == second.identity()
    assert torch.equal(first.encode(many, 20).ids, second.encode(many, 20).ids)
    assert trained_tokenizer(family, [*many, "an unseen umbrella"]).identity() != first.identity()


def test_training_is_the_same_in_another_process():
    """Hash maps are seeded per process: this is where a trainer that iterates over them shows."""
    code = (
        "import json, sys; from benchmark.data.tokenizers import trained_tokenizer as t;"
        "s = json.loads(sys.argv[1]);"
        "print(t('bert', s).identity(), t('clip', s).identity())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(SENTENCES)],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert run.stdout.split() == [
        trained_tokenizer(family, SENTENCES).identity() for family in ("bert", "clip")
    ]


def test_identities_differ_between_tokenizers(bert, clip):
    trained = [trained_tokenizer(family, SENTENCES) for family in ("bert", "clip")]
    assert len({tokenizer.identity() for tokenizer in (bert, clip, *trained)}) == 4


@pytest.mark.parametrize("family", ["bert", "clip"])
def test_every_word_of_the_training_sentences_is_one_piece(family):
    tokenizer = trained_tokenizer(family, SENTENCES)
    sentence = "the small red circle on the left"
    pieces = tokenizer.pieces(sentence)
    assert len(pieces) == 7 and pieces[0] == pieces[5] and len(set(pieces)) == 6
    assert not tokenizer.special_ids & set(pieces)
    assert tokenizer.pieces("  THE small\tRed circle on the LEFT ") == pieces
    assert (
        max(tokenizer.encode([*SENTENCES, "unseen Ωmega words!"], 40).ids.flatten().tolist())
        < tokenizer.size
    )


def test_trained_bert_layout():
    tokenizer = trained_tokenizer("bert", SENTENCES)
    assert tokenizer.special_ids == {0, 1, 2, 3, 4} and tokenizer.random_ids == range(
        tokenizer.size
    )
    text = tokenizer.encode(["red circle", "Ω", "red red red red"], 4)
    red, circle = tokenizer.pieces("red circle")
    assert text.ids.tolist() == [[2, red, circle, 3], [2, 1, 3, 0], [2, red, red, red]]
    assert text.attention.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_trained_clip_layout():
    tokenizer = trained_tokenizer("clip", SENTENCES)
    start, end = tokenizer.start_id, tokenizer.end_id
    assert (start, end) == (tokenizer.size - 2, tokenizer.size - 1)
    assert tokenizer.special_ids == {0, start, end} and tokenizer.random_ids == range(start)
    text = tokenizer.encode(["red circle", "", "the red circle on the left"], 5)
    the, red, circle = tokenizer.pieces("the red circle")
    assert text.ids.tolist() == [
        [start, red, circle, end, 0],
        [start, end, 0, 0, 0],
        [start, the, red, circle, end],
    ]
    assert text.attention.tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert text.ids.argmax(1).tolist() == [3, 1, 4]
    assert tokenizer.pieces("red!") != tokenizer.pieces("red") and 0 not in tokenizer.pieces(
        "!!! <pad"
    )


@pytest.mark.parametrize("family", ["bert", "clip"])
def test_a_trained_vocabulary_is_small_and_keeps_the_frequent_words(family):
    rare = [f"w{i}q{i * 7919}" for i in range(3000)]
    tokenizer = trained_tokenizer(family, [*rare, *["umbrella umbrella"] * 50])
    assert tokenizer.size == TRAINED_SIZE
    assert len(tokenizer.pieces("umbrella")) == 1


def test_tokenizers_travel_to_worker_processes(bert, clip):
    for tokenizer in (
        bert,
        clip,
        *(trained_tokenizer(family, SENTENCES) for family in ("bert", "clip")),
    ):
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy == tokenizer and torch.equal(
            copy.encode(SENTENCES, 9).ids, tokenizer.encode(SENTENCES, 9).ids
        )
