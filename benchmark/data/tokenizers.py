"""Tokenizers: sentences to the ids that a network reads, published or trained on the training sentences."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import html
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.base.errors import UserError, choose
from benchmark.base.pretrained import Source

if TYPE_CHECKING:
    from methods.contract import Text

Family = Literal["bert", "clip"]
FAMILIES = ("bert", "clip")

PAD_ID = 0
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PUBLISHED_BERT_SIZE = 30522
PUBLISHED_BERT_SPECIAL_IDS = (0, 100, 101, 102, 103)
TRAINED_SIZE = 2000
"""Largest size of a trained vocabulary: the embedded sentences need a tenth of it, RefCOCO's frequent words fit."""

_HUB_NAMES = ("google-bert/bert-base-uncased", "bert-base-uncased")
_HUB_ADDRESS = "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Sentences to ids.

    Attributes:
        family: `bert` cuts a long sentence to its first ids, so that it loses [SEP]; `clip` puts the end id into the
            last place.
        size: number of ids, hence of embedding rows.
        start_id, end_id: [CLS] and [SEP], or CLIP's start and end of text (the two largest ids, the end the largest:
            CLIP finds it by argmax).
        mask_id: what a masked word becomes. CLIP has no [MASK]; neither MaskRIS' paper nor its code decides what does
            instead: id 0 stands in.
        special_ids: ids that text masking never selects.
        random_ids: ids that a random replacement word is drawn from. BERT: all, special and unused ones too (as
            published). CLIP: all but start and end, which would move the position of the sentence state.
        pieces: sentence -> ids, without start and end.
        fingerprint: digest of what decides the ids.
        pad_id: fills up short sentences; 0 in both families.
    """

    family: Family
    size: int
    start_id: int
    end_id: int
    mask_id: int
    special_ids: frozenset[int]
    random_ids: range
    pieces: Callable[[str], list[int]] = dataclasses.field(repr=False, compare=False)
    fingerprint: str
    pad_id: int = PAD_ID

    def encode(self, sentences: Sequence[str], max_length: int, keep_end: bool = True) -> Text:
        """Return B sentences as int64 ids (B, max_length) and attention (B, max_length), 1 up to and including the end id.

        CLIP's piece "!" shares its id with the padding and is taken for padding, as published (CRIS, ETRIS: True where
        id == 0).

        Sentences with more than `max_length` ids are cut as published: BERT keeps the first ids (LAVT, CARIS); CLIP also
        sets the last to the end id (CRIS, ETRIS) unless `keep_end` is False (TRIS).
        """
        import torch

        from methods.contract import Text

        ids = torch.full((len(sentences), max_length), self.pad_id, dtype=torch.int64)
        attention = torch.zeros_like(ids)
        for row, sentence in enumerate(sentences):
            sequence = [self.start_id, *self.pieces(sentence), self.end_id]
            if len(sequence) > max_length:
                sequence = sequence[:max_length]
                if self.family == "clip" and keep_end:
                    sequence[-1] = self.end_id
            ids[row, : len(sequence)] = torch.tensor(sequence)
            attention[row, : len(sequence)] = 1
        if self.family == "clip":
            attention[ids == self.pad_id] = 0
        return Text(ids, attention)

    def identity(self) -> str:
        """Return a digest of what decides the ids (family, rules, vocabulary): part of the run key."""
        return self.fingerprint


def published_tokenizer(family: str, source: Source) -> Tokenizer:
    """Return the tokenizer that the published weights of `family` were trained with.

    `bert`: bert-base-uncased's `vocab.txt`, from the source's folder if it lies there, else from the Hugging Face cache,
    else downloaded unless the source is offline. `clip`: OpenAI's BPE, which open_clip brings along.

    Raises:
        UserError: the family is not known, or the vocabulary cannot be had or is another.
    """
    if choose(family, FAMILIES, "tokenizer") == "clip":
        return _published_clip()
    folder = source.local("bert-base-uncased")
    path = folder / "vocab.txt" if folder else _cached_or_downloaded(source)
    pieces = _read_vocabulary(path)
    places = tuple(pieces.index(piece) if piece in pieces else None for piece in BERT_SPECIAL)
    if (
        len(pieces) != PUBLISHED_BERT_SIZE
        or len(set(pieces)) != len(pieces)
        or places != PUBLISHED_BERT_SPECIAL_IDS
    ):
        raise UserError(
            f"{path} is not bert-base-uncased's vocabulary ({PUBLISHED_BERT_SIZE} different pieces, "
            f"{', '.join(BERT_SPECIAL)} at {', '.join(map(str, PUBLISHED_BERT_SPECIAL_IDS))}): replace it with "
            f"{_HUB_ADDRESS}."
        )
    return _bert(pieces)


def trained_tokenizer(family: str, sentences: Iterable[str]) -> Tokenizer:
    """Return a small tokenizer of `family` made from the training sentences alone: no download.

    A function of the multiset of sentences, not of their order.

    Raises:
        UserError: the family is not known.
    """
    if choose(family, FAMILIES, "tokenizer") == "clip":
        return _trained_clip(sentences)
    return _bert(_word_pieces(sentences))


def _bert(pieces: list[str]) -> Tokenizer:
    """Return BERT's uncased WordPiece: accents stripped, split at spaces and punctuation, longest match first."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    ids = {piece: number for number, piece in enumerate(pieces)}
    backend = Backend(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = _bert_rules()
    # As in the published loader's tokenizer, a sentence that spells out "[MASK]" gets its id.
    backend.add_special_tokens(list(BERT_SPECIAL))
    return Tokenizer(
        family="bert",
        size=len(pieces),
        start_id=ids["[CLS]"],
        end_id=ids["[SEP]"],
        mask_id=ids["[MASK]"],
        special_ids=frozenset(ids[piece] for piece in BERT_SPECIAL),
        random_ids=range(len(pieces)),
        pieces=functools.partial(_backend_ids, backend),
        fingerprint=_digest("bert uncased WordPiece", pieces),
    )


def _bert_rules() -> tuple[Any, Any]:
    from tokenizers import normalizers, pre_tokenizers

    return normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()


def _word_pieces(sentences: Iterable[str]) -> list[str]:
    """Return a WordPiece vocabulary: special pieces, characters (first and `##` form), then whole words by frequency.

    The trainer of `tokenizers` is not used: it numbers the `##` pieces in the order of a hash map and breaks ties by
    these numbers, so its vocabulary differs from process to process (huggingface/tokenizers issue 1794).
    """
    normaliser, splitter = _bert_rules()
    words: collections.Counter[str] = collections.Counter()
    for sentence in sentences:
        words.update(
            word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(sentence))
        )
    characters = sorted(set(itertools.chain.from_iterable(words)))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    continued = [f"##{character}" for character in characters]
    return list(dict.fromkeys([*BERT_SPECIAL, *characters, *continued, *frequent]))[:TRAINED_SIZE]


def _published_clip() -> Tokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    backend = SimpleTokenizer()
    pieces = sorted(backend.encoder, key=backend.encoder.__getitem__)
    merges = sorted(backend.bpe_ranks, key=backend.bpe_ranks.__getitem__)
    return _clip(backend.encode, len(pieces), _digest("clip BPE", pieces, merges))


def _trained_clip(sentences: Iterable[str]) -> Tokenizer:
    """Return a byte-level BPE of sentences cleaned as for the published one.

    Its alphabet is fixed and sorted, so that training it, unlike a BPE with `</w>` pieces, is deterministic.
    """
    # Training uses threads, after which every fork of a data loader would print a warning.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED_SIZE - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<pad>"],
        show_progress=False,
    )
    backend.train_from_iterator(map(_clean, sentences), trainer)
    model = json.loads(backend.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    fingerprint = _digest("clip byte-level BPE", pieces, model["merges"])
    return _clip(functools.partial(_cleaned_backend_ids, backend), len(pieces) + 2, fingerprint)


def _clip(pieces: Callable[[str], list[int]], size: int, fingerprint: str) -> Tokenizer:
    start, end = size - 2, size - 1
    return Tokenizer(
        family="clip",
        size=size,
        start_id=start,
        end_id=end,
        mask_id=PAD_ID,
        special_ids=frozenset((PAD_ID, start, end)),
        random_ids=range(start),
        pieces=pieces,
        fingerprint=fingerprint,
    )


def _clean(sentence: str) -> str:
    """Return `sentence` as OpenAI's CLIP reads it: ftfy, html-unescaped twice, spaces collapsed, lower case.

    open_clip has the same function. Importing it takes four seconds, and every plan cleans sentences (a test compares).
    """
    import ftfy

    unescaped = html.unescape(html.unescape(ftfy.fix_text(sentence))).strip()
    return " ".join(unescaped.split()).lower()


# The next two are module functions, not lambdas, because a tokenizer travels to worker processes.
def _backend_ids(backend: Any, sentence: str) -> list[int]:
    return backend.encode(sentence, add_special_tokens=False).ids


def _cleaned_backend_ids(backend: Any, sentence: str) -> list[int]:
    return _backend_ids(backend, _clean(sentence))


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _cached_or_downloaded(source: Source) -> Path:
    """Return the path of bert-base-uncased's vocabulary in the Hugging Face cache, fetched if need be."""
    import huggingface_hub

    for name in _HUB_NAMES:
        found = huggingface_hub.try_to_load_from_cache(name, "vocab.txt")
        if isinstance(found, str):
            return Path(found)
    with source.obtaining(
        "bert-base-uncased's vocabulary", _HUB_ADDRESS, "bert-base-uncased/vocab.txt"
    ):
        return Path(huggingface_hub.hf_hub_download(_HUB_NAMES[0], "vocab.txt"))


def _read_vocabulary(path: Path) -> list[str]:
    """Return the pieces of a `vocab.txt`, one a line, in id order."""
    try:
        with path.open(encoding="utf-8") as lines:
            return [line.rstrip("\n") for line in lines]
    except OSError as error:
        raise UserError(
            f"bert-base-uncased's vocabulary {path} cannot be read ({error.strerror}): fetch it from {_HUB_ADDRESS}."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is damaged (not UTF-8): replace it with bert-base-uncased's vocabulary, {_HUB_ADDRESS}."
        ) from error
