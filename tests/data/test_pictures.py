"""Pictures of every kind of file, against numpy's own turning and Pillow's own conversions."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data.pictures import DECODING_ERRORS, ORIENTATION, decode, stored
from benchmark.evaluation.inference import _photograph

# EXIF orientation -> what turns the stored pixels upright.
UPRIGHT = {
    1: lambda its: its,
    2: lambda its: its[:, ::-1],
    3: lambda its: its[::-1, ::-1],
    4: lambda its: its[::-1],
    5: lambda its: its.transpose(1, 0, 2),
    6: lambda its: np.rot90(its, -1),
    7: lambda its: its[::-1, ::-1].transpose(1, 0, 2),
    8: lambda its: np.rot90(its),
}
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)


def written(path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photograph_is_upright_and_one_of_a_data_set_is_as_it_is_annotated(orientation, tmp_path):
    path = written(tmp_path / "photo.png", orientation)
    upright = UPRIGHT[orientation](PIXELS)
    assert np.array_equal(decode(path), upright)
    assert np.array_equal(decode(path, (6, 10)), PIXELS)
    known = stored(path, whole=True)
    assert (known.height, known.width) == (6, 10)
    turned = orientation >= 5
    assert np.array_equal(decode(path, (10, 6)), upright if turned else PIXELS)
    assert known.fits_turned((10, 6)) == turned and not known.fits_turned((6, 10))
    assert known.shown_as((10, 6)) == ((10, 6) if turned else (6, 10))


def test_grey_values_of_16_bits_are_those_of_their_8_bit_twin(tmp_path):
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert np.array_equal(decode(tmp_path / "16.png"), decode(tmp_path / "8.png"))
    assert np.array_equal(decode(tmp_path / "8.png"), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("1", "png")]
)
def test_other_modes_are_converted(mode, kind, tmp_path):
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert np.array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


def png_of(width, height):
    """Return a PNG whose header has this size, and which holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(its)) + name + its + struct.pack(">I", zlib.crc32(name + its))
        for name, its in chunks
    )


def test_what_is_no_picture_is_one_sentence(tmp_path):
    (tmp_path / "huge.png").write_bytes(png_of(40_000, 40_000))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(png_of(6, 10))
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DECODING_ERRORS):
            decode(path)
        with pytest.raises(UserError, match="no image that can be decoded"):
            _photograph(path)
        if path.is_file():
            assert stored(path, whole=True) is None
    with pytest.raises(UserError, match="there is no image"):
        _photograph(tmp_path / "none.png")
