"""Tests of what figures have in common."""

import base64
import io
import re

import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reports.figures import STYLE, files

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def style():
    with matplotlib.style.context(STYLE):
        yield


def embedded(svg):
    """Return the images inside an SVG file."""
    found = re.findall(rb"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", svg)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_vector_formats_hold_the_pixels_of_a_picture_as_they_are():
    figure = Figure(figsize=(3, 3))
    figure.subplots().imshow(PIXELS)
    made = files("picture", figure)
    (image,) = embedded(made["picture.svg"])
    assert np.array_equal(np.asarray(image.convert("RGB")), PIXELS)
    assert b"pixelated" not in made["picture.svg"], "viewers smooth a picture"
    assert b"/Width 40" in made["picture.pdf"] and b"/Height 30" in made["picture.pdf"]
    assert files("picture", figure) == made


def test_the_png_of_a_picture_is_smooth_and_a_heat_map_keeps_its_edges():
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    axes.imshow(PIXELS)
    plain = io.BytesIO()
    figure.savefig(plain, format="png", metadata={"Software": None})
    assert files("picture", figure)["picture.png"] == plain.getvalue()
    heat = Figure(figsize=(3, 3))
    heat.subplots().imshow(PIXELS[..., 0])
    (image,) = embedded(files("heat", heat)["heat.svg"])
    assert min(image.size) > 100, "every cell has many pixels"
