"""Image and text masks against their definitions, counted over many draws."""

import math

import numpy as np
import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.base.pretrained import Source
from benchmark.base.rng import generator
from benchmark.data.tokenizers import Tokenizer, published_tokenizer, trained_tokenizer
from benchmark.strategies.masking import (
    SAMPLINGS,
    apply_image_masks,
    check_image_mask,
    check_text_mask,
    draw_image_mask,
    mask_words,
)


@pytest.mark.parametrize(
    ("size", "patch_size", "ratio", "masked"),
    [
        (448, 32, 0.75, 147),
        (480, 32, 0.75, 169),
        (416, 32, 0.75, 127),
        (448, 16, 0.75, 588),
        (224, 32, 0.75, 37),
        (320, 32, 0.9, 91),  # 100 * (1 - 0.9) is 9.99... in floating point: 9 are kept
        (64, 16, 0.5, 8),
        (96, 32, 0.3, 3),
        (64, 32, 0.0, 0),
        (64, 32, 1.0, 4),
        (32, 32, 0.5, 1),
    ],
)
@pytest.mark.parametrize("sampling", ["patch", "block", "cutout"])
def test_the_masked_number_is_exact(size, patch_size, ratio, masked, sampling):
    side = size // patch_size
    for sample in range(20):
        mask = draw_image_mask(generator("count", sample), size, patch_size, ratio, sampling)
        assert mask.shape == (side, side) and mask.dtype == bool
        assert mask.sum() == masked


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_any_ratio_masks_the_published_number(sampling):
    for side in (1, 2, 3, 7, 13, 14, 15):
        for ratio in (0, 0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 8 / 9, 0.95, 1):
            try:
                mask = draw_image_mask(generator(side, ratio), side * 8, 8, ratio, sampling)
            except UserError:
                assert sampling == "grid"
                continue
            assert mask.sum() == side**2 - int(side**2 * (1 - ratio))


@pytest.mark.parametrize(("size", "ratio"), [(224, 0.75), (448, 0.75), (128, 0.5)])
def test_patch_masks_every_patch_equally_often(size, ratio):
    side, draws = size // 32, 4000
    random = generator("uniform", size)
    masks = np.stack([draw_image_mask(random, size, 32, ratio) for _ in range(draws)]).reshape(
        draws, -1
    )
    share = masks[0].sum() / side**2
    deviation = (masks.mean(0) - share) / math.sqrt(share * (1 - share) / draws)
    assert np.abs(deviation).max() < 4.5
    # Without replacement: two given patches are both masked with probability m (m - 1) / L (L - 1).
    masked, total = int(masks[0].sum()), side**2
    together = masked * (masked - 1) / (total * (total - 1))
    pair = (masks[:, 0] & masks[:, 1]).mean()
    assert abs(pair - together) < 4.5 * math.sqrt(together * (1 - together) / draws)


def test_grid_keeps_one_patch_of_every_block():
    offsets = set()
    for sample in range(40):
        mask = draw_image_mask(generator(sample), 448, 32, 0.75, "grid")
        assert mask.sum() == 147
        kept = np.argwhere(~mask)
        top, left = kept.min(0)
        offsets.add((int(top), int(left)))
        assert {tuple(place) for place in kept} == {
            (y, x) for y in range(top, 14, 2) for x in range(left, 14, 2)
        }
    assert offsets == {(0, 0), (0, 1), (1, 0), (1, 1)}
    mask = draw_image_mask(generator(0), 288, 32, 8 / 9, "grid")
    assert (~mask).reshape(3, 3, 3, 3).sum((1, 3)).tolist() == [[1] * 3] * 3


def test_block_masks_in_rectangles():
    """Neighbours are masked together far more often than independent patches would be."""
    masks = np.stack(
        [draw_image_mask(generator(sample), 448, 32, 0.5, "block") for sample in range(300)]
    )
    alike = (masks[:, :, 1:] == masks[:, :, :-1]).mean()
    assert alike > 0.8
    assert masks.any(0).all() and not masks.all(0).any()
    wide = (masks.any(1).sum(1) > masks.any(2).sum(1)).sum()
    tall = (masks.any(1).sum(1) < masks.any(2).sum(1)).sum()
    assert abs(int(wide) - int(tall)) < 5 * math.sqrt(int(wide) + int(tall))


def test_cutout_masks_one_square_region():
    places = set()
    for sample in range(60):
        mask = draw_image_mask(
            generator(sample), 320, 32, 0.75, "cutout"
        )  # 75 of 100: rows of 9, 9th row of 3
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(columns) == 9 and len(rows) == 9
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside[:-1].all() and inside[-1].tolist() == [True] * 3 + [False] * 6
        places.add((int(rows[0]), int(columns[0])))
    assert places == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert draw_image_mask(generator(0), 320, 32, 0.64, "cutout").sum() == 64


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_same_key_draws_the_same_mask(sampling):
    def draw(sample):
        return draw_image_mask(generator(7, 3, sample, "image mask"), 448, 32, 0.75, sampling)

    assert (draw(5) == draw(5)).all()
    assert any((draw(5) != draw(sample)).any() for sample in range(6, 12))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            (450, 32, 0.75, "patch"),
            r"patch size 32 does not divide the image size 450: choose one of 1, 2, .* 225, 450\.",
        ),
        ((448, 0, 0.75, "patch"), "patch size 0"),
        ((448, -32, 0.75, "patch"), "patch size -32"),
        ((448, 896, 0.75, "block"), "patch size 896"),
        ((448, 32, 1.5, "patch"), "ratio 1.5 must lie between 0 and 1"),
        ((448, 32, -0.1, "cutout"), "ratio -0.1"),
        ((448, 32, math.nan, "patch"), "ratio nan"),
        ((448, 32, 0.75, "gird"), "did you mean grid"),
        ((480, 32, 0.75, "grid"), r"every 2x2, for which patch size 32 does not fit .* 240\."),
        ((448, 32, 0.7, "grid"), "cannot give image mask ratio 0.7 at image size 448"),
        ((448, 32, 1.0, "grid"), "cannot give image mask ratio 1.0"),
    ],
)
def test_what_does_not_fit_is_named(request_, message):
    with pytest.raises(UserError, match=message):
        check_image_mask(*request_)
    with pytest.raises(UserError, match=message):
        draw_image_mask(generator(0), *request_)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_masked_pixels_are_zero_and_all_others_unchanged(layout):
    images = torch.randn(3, 3, 64, 64).to(memory_format=layout)
    images[0, 0, 0, 0], images[1, 2, 63, 63] = math.inf, math.nan
    masks = np.stack([draw_image_mask(generator(sample), 64, 16, 0.75) for sample in range(3)])
    masks[0, 0, 0] = masks[1, 3, 3] = True
    assert (masks[0] != masks[1]).any() and (masks[1] != masks[2]).any()
    before = images.clone()
    result = apply_image_masks(images, torch.from_numpy(masks))
    assert result.shape == images.shape and np.array_equal(images, before, equal_nan=True)
    for sample, row, column in np.ndindex(3, 4, 4):
        place = (
            sample,
            slice(None),
            slice(16 * row, 16 * row + 16),
            slice(16 * column, 16 * column + 16),
        )
        assert torch.equal(
            result[place], torch.zeros(3, 16, 16) if masks[sample, row, column] else before[place]
        )


@pytest.fixture(scope="module")
def clip():
    return published_tokenizer("clip", Source())


@pytest.fixture(scope="module")
def bert():
    """The published layout of ids. Masking reads nothing else of a tokenizer."""
    special = frozenset((0, 100, 101, 102, 103))
    return Tokenizer("bert", 30522, 101, 102, 103, special, range(30522), lambda sentence: [], "")


BERT_IDS = np.array([101, 2158, 100, 1999, 2417, 3797, 103, 102, 0, 0])
CLIP_IDS = np.array([49406, 786, 530, 736, 0, 2523, 49407, 0, 0, 0])


@pytest.mark.parametrize("family", ["bert", "clip"])
def test_word_masking_statistics(family, bert, clip):
    tokenizer, ids = (bert, BERT_IDS) if family == "bert" else (clip, CLIP_IDS)
    draws, ratio = 20_000, 0.3
    random = generator("words", family)
    masked = np.stack(
        [mask_words(random, ids, tokenizer, ratio, (0.6, 0.3, 0.1)) for _ in range(draws)]
    )
    assert masked.dtype == np.int64
    special = np.isin(ids, sorted(tokenizer.special_ids))
    assert special.sum() == 6
    assert (masked[:, special] == ids[special]).all()
    words, original = masked[:, ~special], ids[~special]
    changed = words != original

    def within(count, probability):
        expected = words.size * probability
        return abs(int(count) - expected) < 4.5 * math.sqrt(expected)

    hidden = changed & (words == tokenizer.mask_id)
    replaced = changed & ~hidden
    assert within(hidden.sum(), ratio * 0.6) and within(replaced.sum(), ratio * 0.3)
    per_place = changed.mean(0)
    assert np.abs(per_place - ratio * 0.9).max() < 4.5 * math.sqrt(0.27 * 0.73 / draws)
    # Pieces are selected independently of each other.
    both = (changed[:, 0] & changed[:, 1]).mean()
    assert abs(both - 0.27**2) < 4.5 * math.sqrt(0.27**2 / draws)
    # Random words are uniform over all that may be drawn, special and rare ones included.
    drawn = words[replaced]
    assert 0 <= drawn.min() and drawn.max() < tokenizer.random_ids.stop
    counts, _ = np.histogram(drawn, bins=10, range=(0, tokenizer.random_ids.stop))
    expected = len(drawn) / 10
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 33.7  # chi-square, 9 degrees of freedom, p = 1e-4


def test_default_shares_are_the_published_ones(bert):
    ids = np.full(200_000, 2158)
    masked = mask_words(generator("default"), ids, bert)
    hidden, other = (masked == 103).sum(), ((masked != 103) & (masked != 2158)).sum()
    assert abs(hidden - 200_000 * 0.12) < 4.5 * math.sqrt(24_000)
    assert abs(other - 200_000 * 0.015) < 4.5 * math.sqrt(3_000)


def test_random_words_of_bert_are_any_id_and_of_clip_never_start_or_end(bert):
    clip = trained_tokenizer("clip", [])
    for tokenizer in (bert, clip):
        word = next(
            number for number in range(200, tokenizer.size) if number not in tokenizer.special_ids
        )
        masked = mask_words(
            generator("any"), np.full(500_000, word), tokenizer, 1.0, (0.0, 1.0, 0.0)
        )
        allowed = set(range(tokenizer.size)) - (
            set() if tokenizer is bert else {tokenizer.start_id, tokenizer.end_id}
        )
        assert set(masked.tolist()) == allowed


def test_published_clip_end_stays_the_argmax(clip):
    ids = clip.encode(["the woman's left-most blue umbrella"], 17).ids[0].numpy()
    random = generator("end")
    for _ in range(3000):
        masked = mask_words(random, ids, clip, 1.0, (0.5, 0.5, 0.0))
        assert (
            masked.argmax() == ids.argmax()
            and (masked == 49406).sum() == (masked == 49407).sum() == 1
        )


def test_only_ids_change_and_only_in_the_copy(clip):
    text = clip.encode(["man in red shirt", "guy"], 17)
    ids, attention = text.ids.clone(), text.attention.clone()
    row = text.ids[0].numpy()
    masked = mask_words(generator(0), row, clip, 1.0, (1.0, 0.0, 0.0))
    assert masked.tolist() == [49406, 0, 0, 0, 0, 49407, *[0] * 11]
    assert torch.equal(text.ids, ids) and torch.equal(text.attention, attention)


def test_the_extremes_and_the_key(bert):
    assert (mask_words(generator(0), BERT_IDS, bert, ratio=0.0) == BERT_IDS).all()
    assert (mask_words(generator(0), BERT_IDS, bert, 1.0, (0.0, 0.0, 1.0)) == BERT_IDS).all()
    first, again, other = (mask_words(generator(key), BERT_IDS, bert, 0.9) for key in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [
        (1.2, (0.8, 0.1, 0.1)),
        (math.nan, (0.8, 0.1, 0.1)),
        (0.15, (0.8, 0.2, 0.1)),
        (0.15, (1.2, -0.1, -0.1)),
        (0.15, (0.8, 0.2)),
    ],
)
def test_impossible_text_masks_are_refused(ratio, shares, bert):
    with pytest.raises(UserError, match="text mask"):
        check_text_mask(ratio, shares)
    with pytest.raises(UserError, match="text mask"):
        mask_words(generator(0), BERT_IDS, bert, ratio, shares)
