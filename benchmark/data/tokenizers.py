"""Tokenizers turn sentences into the ids that a network reads.

They are published ones, or small ones that are trained on the training sentences.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import html
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.base.errors import UserError, choose
from benchmark.base.files import open_regular
from benchmark.base.pretrained import Source

if TYPE_CHECKING:
    from methods.contract import Text

Family = Literal["bert", "clip"]
FAMILIES = ("bert", "clip")

PAD_ID = 0
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PADDING = "<pad>"  # of a trained byte-level BPE
PUBLISHED_BERT_SIZE = 30522
PUBLISHED_BERT_SPECIAL_IDS = (0, 100, 101, 102, 103)
TRAINED_SIZE = 2000
"""Largest size of a trained vocabulary.

The embedded sentences need a tenth of it, and RefCOCO's frequent words fit into it.
"""

_HUB_NAMES = ("google-bert/bert-base-uncased", "bert-base-uncased")
_HUB_ADDRESS = "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Turns sentences into ids.

    Attributes:
        family: `bert` cuts a long sentence to its first ids, so that it loses [SEP]. `clip` puts
            the end id into the last place.
        size: number of ids, hence of embedding rows.
        start_id: [CLS], or CLIP's start of text.
        end_id: [SEP], or CLIP's end of text. CLIP finds its end by argmax, so it must be the
            largest id.
        mask_id: what a masked word becomes. CLIP has no [MASK], and neither MaskRIS' paper nor its
            code decides what takes its place. Here it is id 0.
        special_ids: ids that text masking never selects.
        random_ids: ids that a random replacement word is drawn from. For BERT these are all, with
            special and unused ones, as published. For CLIP they are all but start and end, which
            would move the position of the sentence state.
        pieces: returns the ids of a sentence, without start and end.
        fingerprint: digest of what decides the ids.
        pad_id: fills up short sentences. It is 0 in both families.
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
        """Return B sentences as ids and attention.

        Sentences that are too long are cut as published. Both families keep the first ids, as LAVT
        and CARIS do. CLIP then sets the last one to the end id, as CRIS and ETRIS do, unless
        `keep_end` is False (TRIS).

        Args:
            sentences: B texts.
            max_length: number of ids of each sentence.
            keep_end: whether a long sentence of CLIP keeps its end id.

        Returns:
            ids, int64 (B, max_length), and attention, int64 (B, max_length), which is 1 up to and
            including the end id.
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
            # The piece "!" shares its id with the padding and is taken for padding, as published
            # (CRIS and ETRIS mask every place whose id is 0).
            attention[ids == self.pad_id] = 0
        return Text(ids, attention)

    def identity(self) -> str:
        """Return a digest of what decides the ids (family, rules, vocabulary), for the run key."""
        return self.fingerprint


def published_tokenizer(family: str, source: Source) -> Tokenizer:
    """Return the tokenizer that the published weights of `family` were trained with.

    For `bert` it reads bert-base-uncased's `vocab.txt` from the source's folder or from the Hugging
    Face cache. If it lies in neither, it is downloaded unless the source is offline. For `clip` it
    is OpenAI's BPE, which open_clip brings along.

    Args:
        family: `bert` or `clip`.
        source: where the vocabulary is looked for.

    Raises:
        UserError: the family is not known, or the vocabulary cannot be had or is another one.
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
        ids = ", ".join(map(str, PUBLISHED_BERT_SPECIAL_IDS))
        raise UserError(
            f"{path} is not bert-base-uncased's vocabulary ({PUBLISHED_BERT_SIZE} different"
            f" pieces, {', '.join(BERT_SPECIAL)} at {ids}): replace it with {_HUB_ADDRESS}."
        )
    return _bert(pieces)


def trained_tokenizer(family: str, sentences: Iterable[str]) -> Tokenizer:
    """Return a small tokenizer of `family`, made from the training sentences without a download.

    It depends on which sentences there are and how often each occurs, but not on their order.

    Raises:
        UserError: the family is not known.
    """
    if choose(family, FAMILIES, "tokenizer") == "clip":
        return _trained_clip(sentences)
    return _bert(_word_pieces(sentences))


def as_text(tokenizer: Tokenizer) -> str:
    """Return a trained tokenizer as JSON, from which `from_text` makes it again."""
    backend = tokenizer.pieces.args[0]
    return json.dumps({"family": tokenizer.family, "backend": backend.to_str()})


def from_text(text: str) -> Tokenizer:
    """Return the trained tokenizer of a text that `as_text` made.

    It is built from the pieces alone, so that rules which a foreign text may hold are never used.

    Raises:
        UserError: the text is damaged.
    """
    try:
        content = json.loads(text)
        family, model = content["family"], json.loads(content["backend"])["model"]
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        merges = [tuple(merge) for merge in model["merges"]] if family == "clip" else []
        _check_pieces(family, pieces, model["vocab"], merges)
        return _byte_level(_byte_pairs(pieces, merges)) if family == "clip" else _bert(pieces)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError("the word pieces are damaged: export the run again.") from None


def _check_pieces(
    family: str, pieces: list[str], ids: dict[str, int], merges: list[tuple[str, ...]]
) -> None:
    """Check what `tokenizers` would only say with an error of no kind.

    Raises:
        ValueError: the pieces are no vocabulary.
    """
    needed = BERT_SPECIAL if family == "bert" else (_PADDING,)
    joined = [left + right for left, right in merges]
    if (
        family not in FAMILIES
        or [ids[piece] for piece in pieces] != list(range(len(pieces)))
        or not ids.keys() >= {*needed, *joined, *itertools.chain.from_iterable(merges)}
    ):
        raise ValueError("no vocabulary")


def _byte_pairs(pieces: list[str], merges: list[tuple[str, ...]]) -> Any:
    """Return a byte-level BPE of these pieces as `_trained_clip` makes it."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    ids = {piece: number for number, piece in enumerate(pieces)}
    backend = Backend(models.BPE(ids, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.add_special_tokens([_PADDING])
    return backend


def _bert(pieces: list[str]) -> Tokenizer:
    """Return BERT's uncased WordPiece with these pieces.

    It strips accents, splits at spaces and punctuation, and takes the longest match first.
    """
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
    """Return the vocabulary of a WordPiece for these sentences.

    It holds the special pieces, then each character in its first and its `##` form, and then whole
    words by their frequency.

    The trainer of `tokenizers` is not used. It numbers the `##` pieces in the order of a hash map
    and breaks ties by these numbers, so its vocabulary differs from process to process
    (huggingface/tokenizers issue 1794).
    """
    normalizer, splitter = _bert_rules()
    words: collections.Counter[str] = collections.Counter()
    for sentence in sentences:
        words.update(
            word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(sentence))
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
    """Return a byte-level BPE of sentences that are cleaned as for the published one.

    Its alphabet is fixed and sorted, so its training is deterministic. That of a BPE with `</w>`
    pieces is not.
    """
    # Training uses threads. Without this, every later fork of a data loader prints a warning.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED_SIZE - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[_PADDING],
        show_progress=False,
    )
    backend.train_from_iterator(map(_clean, sentences), trainer)
    return _byte_level(backend)


def _byte_level(backend: Any) -> Tokenizer:
    """Return CLIP's tokenizer with the pieces of a trained byte-level BPE."""
    model = json.loads(backend.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    fingerprint = _digest("clip byte-level BPE", pieces, model["merges"])
    return _clip(functools.partial(_cleaned_backend_ids, backend), len(pieces) + 2, fingerprint)


def _clip(pieces: Callable[[str], list[int]], size: int, fingerprint: str) -> Tokenizer:
    # The end must be the largest id, because CLIP finds it by argmax.
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
    """Return `sentence` as OpenAI's CLIP reads it.

    It is mended by ftfy, HTML-unescaped twice and lower-cased, and its spaces are collapsed.
    open_clip has the same function, and a test compares the two. But importing open_clip takes four
    seconds, and every plan cleans sentences.
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
    """Return where bert-base-uncased's vocabulary lies in the Hugging Face cache.

    It is downloaded first if it is not there.
    """
    import huggingface_hub

    for name in _HUB_NAMES:
        cached = huggingface_hub.try_to_load_from_cache(name, "vocab.txt")
        if isinstance(cached, str):
            return Path(cached)
    with source.obtaining(
        "bert-base-uncased's vocabulary", _HUB_ADDRESS, "bert-base-uncased/vocab.txt"
    ):
        return Path(huggingface_hub.hf_hub_download(_HUB_NAMES[0], "vocab.txt"))


def _read_vocabulary(path: Path) -> list[str]:
    """Return the pieces of a `vocab.txt`, which holds one a line in the order of their ids."""
    try:
        with open_regular(path) as content:
            return [line.rstrip("\n") for line in io.TextIOWrapper(content, "utf-8")]
    except OSError as error:
        raise UserError(
            f"bert-base-uncased's vocabulary {path} cannot be read ({error.strerror}): fetch it"
            f" from {_HUB_ADDRESS}."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is damaged (not UTF-8): replace it with bert-base-uncased's vocabulary,"
            f" {_HUB_ADDRESS}."
        ) from error
