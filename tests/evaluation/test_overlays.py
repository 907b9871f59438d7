"""Overlays show the photograph, the ground truth and the prediction of each object."""

import warnings

import numpy as np
import pytest
from PIL import ImageColor

from benchmark.data.expressions import expressions_of
from benchmark.data.refer import read_refer
from benchmark.evaluation import drawn_text, overlays
from benchmark.evaluation.overlays import GAP, LINE, WIDTH
from benchmark.evaluation.records import Prediction
from benchmark.evaluation.tint import PREDICTION, TRUTH


@pytest.fixture
def prediction(boxes):
    """An image of three boxes, of which everything is predicted for each sentence."""
    dataset = read_refer(boxes, "refcoco", "unc")
    refs = [ref for ref in dataset.refs_of("train") if ref.image_id == 1]
    expressions = expressions_of(dataset, refs)
    first = dataset.target(refs[0])
    masks = [np.ones(first.shape, bool) for _ in expressions.sentences]
    return dataset.image(1), Prediction(expressions, masks, [])


def panels(sheet, column, rows=3):
    """Return the pictures of a column below their titles of one line, float64 (h, w, 3)."""
    pixels = np.asarray(sheet).astype(float)
    height = (sheet.height - GAP * (rows + 1)) // rows
    left = GAP + column * (WIDTH + GAP)
    tops = [GAP + row * (height + GAP) for row in range(rows)]
    return [pixels[top + LINE : top + height, left : left + WIDTH] for top in tops]


def tinted_share(panel, color):
    """Return the share of pixels that are nearer to a color's hue than to grey."""
    chosen = np.array(ImageColor.getrgb(color)) - 128.0
    centred = panel - panel.mean(-1, keepdims=True)
    return (centred @ (chosen - chosen.mean()) > 2000).mean()


def test_a_row_per_object_with_its_own_masks(prediction):
    image, predicted = prediction
    sheet = overlays.draw(image, predicted)
    truths = [predicted.truth(2 * number).mean() for number in range(3)]
    for panel, share in zip(panels(sheet, 1), truths, strict=True):
        assert tinted_share(panel, TRUTH) == pytest.approx(share, abs=0.03)
        assert tinted_share(panel, PREDICTION) < 0.01
    for panel in panels(sheet, 2):
        assert tinted_share(panel, PREDICTION) > 0.9
    first = panels(sheet, 0)[0]
    top = image[0, image.shape[1] // 2]
    assert np.abs(first[1, WIDTH // 2] - top).max() < 12, "the photograph has its own colors"


def test_photographs_of_any_shape_fit(prediction):
    for shape in ((1, 1), (600, 20), (20, 600), (2000, 3000)):
        drawn = overlays.panel(np.zeros((*shape, 3), np.uint8), "a title")
        assert drawn.width == WIDTH and drawn.height <= LINE + overlays.HEIGHT
        assert (np.asarray(drawn)[LINE:] < 128).any()


def test_the_same_picture_gives_the_same_bits(prediction):
    once, again = (overlays.draw(*prediction).tobytes() for _ in range(2))
    assert once == again


def test_a_character_that_no_font_has_is_a_box_and_no_warning():
    from PIL import Image, ImageDraw

    def drawn(text):
        picture = Image.new("RGB", (60, 20), "white")
        drawn_text.draw_line(ImageDraw.Draw(picture), 30, 0, text, 14, "black")
        return picture.tobytes()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nobody = drawn("\U000f0000")
    assert nobody == drawn("\U000f0001") != drawn("a") != drawn("b")
    assert drawn("") == Image.new("RGB", (60, 20), "white").tobytes()
