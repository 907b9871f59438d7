"""Corruptions: the same bits everywhere, the sets that files name, and what is refused."""

import hashlib
import subprocess
import sys

import numpy as np
import PIL
import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.data.images import EvaluationImages
from benchmark.evaluation.inference import build_method
from benchmark.evaluation.predict import evaluate
from benchmark.robustness import corruptions
from benchmark.robustness.corruptions import Condition, corrupt
from benchmark.runs.opened import Opened
from tests.helpers import tiny_spec

REFERENCES = {
    "gaussian_noise": ["f6be6ec21692", "d7ec2f1f3460", "c8c10ac9b281"],
    "shot_noise": ["5b38c941383b", "474c8c435014", "7c1830dcb27e"],
    "impulse_noise": ["58d02509d440", "fc31b1529e47", "03781fbb2c5c"],
    "defocus_blur": ["bf917d630cf5", "f340cfd3da3c", "a6141e205c09"],
    "glass_blur": ["85136fee1660", "a1f8d782a339", "63590bc2441c"],
    "motion_blur": ["a9723155bfae", "30aef9287c48", "3446f6e60fd0"],
    "zoom_blur": ["8604e44405d1", "027fb66e0fe7", "0b1cccf9d856"],
    "snow": ["5e18cc91e70c", "261d3cb71a37", "3a19765cc893"],
    "frost": ["08ffa9714f36", "25d5db15c805", "2892a2564bcf"],
    "fog": ["3203e41dddb7", "bc78d717b9ed", "3180e733c6e7"],
    "brightness": ["345077b079c7", "4b31d3b57bfa", "f5f4cd8889ba"],
    "contrast": ["a96abedfb9b6", "4c77888a88ab", "268df1dd4c4e"],
    "elastic_transform": ["4ba30906c8cc", "90bbbf01dca4", "94cecf08a0d6"],
    "pixelate": ["328ca497ef09", "41a4895e7dd7", "41c66533991d"],
    "jpeg_compression": ["423b69f40738", "413759e3248b", "6f36c7191399"],
    "speckle_noise": ["bd0198981b49", "e7ceee707cbd", "6c2ee6be6745"],
    "gaussian_blur": ["f4cbc7af5256", "22c3225cfbae", "ff6105676f1d"],
    "spatter": ["ee066d227d31", "89a2bd024e8c", "e989e9eb0cda"],
    "saturate": ["8c1e21ff78fe", "fba066bdbbbd", "a11d36a55440"],
}
OF_PILLOW = ("pixelate", "jpeg_compression")  # their bits depend on Pillow
PINNED_PILLOW = "13.0.0"


def picture(height: int = 64, width: int = 80) -> np.ndarray:
    """Return gradients, waves and an edge, uint8 (height, width, 3).

    They come of whole numbers alone, so they are the same bits everywhere.
    """
    y, x = np.mgrid[:height, :width]
    pixels = np.stack(
        [255 * x // (width - 1), 255 * y // (height - 1), (x * y + 7 * x) % 256], -1
    ).astype(np.uint8)
    pixels[20:40, 30:60] = (220, 40, 40)
    return pixels


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:12]


@pytest.mark.parametrize("corruption", corruptions.sets()["all"])
def test_reference_hashes(corruption):
    found = [digest(corrupt(picture(), corruption, severity, image_id=7)) for severity in (1, 3, 5)]
    if corruption in OF_PILLOW and PIL.__version__ != PINNED_PILLOW:
        pytest.skip(f"the references are of Pillow {PINNED_PILLOW}, not {PIL.__version__}")
    assert found == REFERENCES[corruption]


@pytest.mark.parametrize("corruption", corruptions.sets()["all"])
@pytest.mark.parametrize("severity", (1, 5))
def test_a_corruption_is_keyed_by_image_and_leaves_numpy_alone(corruption, severity):
    image = picture()
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    first = corrupt(image, corruption, severity, 1)
    assert (np.random.random(4) == expected).all(), "the caller's own draws are not disturbed"
    np.random.random(9)
    assert (corrupt(image, corruption, severity, 1) == first).all(), "whatever was drawn before"
    assert (image == picture()).all(), "the original is left as it was"
    assert first.shape == image.shape and first.dtype == np.uint8 and (first != image).any()
    random = {
        "noise": True,
        "blur": corruption in ("glass_blur", "motion_blur"),
        "digital": False,
        "weather": True,
    }
    if random[corruptions.family_of(corruption)] and corruption != "brightness":
        assert (corrupt(image, corruption, severity, 2) != first).any(), (
            "another image, another draw"
        )


def test_another_process_draws_the_same():
    code = (
        "from tests.robustness.test_corruptions import *; import numpy as np; np.random.random(5);"
        "names = ('impulse_noise', 'glass_blur', 'snow');"
        "print([digest(corrupt(picture(), name, 2, 11)) for name in names])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == str(
        [
            digest(corrupt(picture(), name, 2, 11))
            for name in ("impulse_noise", "glass_blur", "snow")
        ]
    )


def test_the_sets_are_those_of_the_library():
    import imagecorruptions

    named = corruptions.sets()
    assert named["common"] == tuple(imagecorruptions.get_corruption_names("common"))
    assert named["all"] == tuple(imagecorruptions.get_corruption_names("all"))
    assert set(named["all"]) - set(named["maskris"]) == {"glass_blur", "gaussian_blur"}
    for family in ("noise", "blur"):
        members = set(corruptions.families()[family]) & set(named["common"])
        assert members == set(imagecorruptions.get_corruption_names(family))
    assert sorted(
        name for members in corruptions.families().values() for name in members
    ) == sorted(named["all"])


def test_names_are_resolved_once_and_misspelt_ones_answered():
    assert corruptions.resolve(["fog", "common", "fog", "saturate"]) == (
        "fog",
        *(name for name in corruptions.sets()["common"] if name != "fog"),
        "saturate",
    )
    with pytest.raises(UserError, match="did you mean gaussian_"):
        corruptions.resolve(["gausian_noise"])
    assert Condition.parse("motion_blur-4") == Condition("motion_blur", 4)
    assert str(Condition("motion_blur", 4)) == "motion_blur-4"
    for wrong in ("fog", "fog-6", "fogg-3"):
        with pytest.raises(UserError):
            Condition.parse(wrong)


def test_an_image_that_is_too_small_is_named():
    with pytest.raises(UserError, match="image 42 is 80 x 31 pixels"):
        corrupt(picture(31, 80), "fog", 1, 42)


@pytest.mark.parametrize("corruption", corruptions.sets()["all"])
def test_the_smallest_and_plainest_images_are_taken(corruption):
    flat = np.full((32, 32, 3), 130, np.uint8)
    for severity in corruptions.SEVERITIES:
        assert corrupt(flat, corruption, severity, 5).shape == (32, 32, 3)


def test_no_drop_on_a_small_image_is_no_black_image():
    flat = np.full((32, 32, 3), 130, np.uint8)
    spattered = [corrupt(flat, "spatter", 1, image_id) for image_id in range(300)]
    assert min(pixels.mean() for pixels in spattered) > 100
    assert any((pixels == flat).all() for pixels in spattered)


def test_an_evaluation_sees_the_transformed_images(boxes):
    spec, places = tiny_spec(boxes, "cris")
    dataset, tokenizer = Opened(places).run(spec)
    method = build_method(spec, tokenizer).eval()
    condition = Condition("gaussian_noise", 5)
    clean, noisy = (
        EvaluationImages(dataset, "val", method.needs, change)[0] for change in (None, condition)
    )
    assert (clean.image != noisy.image).any() and noisy.geometry == clean.geometry
    seen = []
    with torch.no_grad():
        evaluate(
            method,
            dataset,
            "val",
            tokenizer,
            torch.device("cpu"),
            transform=condition,
            on_image=seen.append,
        )
    assert (seen[0].image.image == noisy.image).all()
    assert all((seen[0].image.masks[ann] == mask).all() for ann, mask in clean.masks.items()), (
        "the truth stays"
    )
