"""Occlusion: areas are exact, stay in the region, and a larger share covers a smaller one."""

import json

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data.refer import read_refer
from benchmark.robustness.occlusion import TARGETS, Occlusion, covered
from tests.data.layouts import BOXES, mask_of, write_grefcoco


@pytest.fixture(scope="module")
def dataset(boxes):
    return read_refer(boxes, "refcoco", "unc")


def test_a_cover_is_exact_and_grows():
    draw = np.random.default_rng(0)
    for number in range(20):
        region = draw.random((40 + number, 57)) < draw.uniform(0.05, 1)
        area, before = region.sum(), np.zeros_like(region)
        for count in (0, area // 10, area // 2, area - 1, area, area + 50):
            cover = covered(region, count, "test", number)
            assert cover.sum() == min(count, area) and not (cover & ~region).any()
            assert not (before & ~cover).any(), "a larger share covers what a smaller one does"
            before = cover


def test_patches_are_patches():
    cover = covered(np.ones((120, 120), bool), 7200, "test")
    blocks = cover.reshape(6, 20, 6, 20).mean((1, 3))
    assert np.isin(blocks, (0, 1)).sum() >= 35, (
        "half of a square of 6 x 6 patches, one of them cut at most"
    )


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_covered_is_the_target(dataset, target):
    refs = [ref for ref in dataset.refs_of("val") if ref.image_id == 7]
    pixels = dataset.image(7)
    truths = {ref.ann_id: dataset.mask(ref.ann_id).astype(bool) for ref in refs}
    views = Occlusion(target, 40).views(dataset, refs, pixels)
    assert [ref.ref_id for _, asked in views for ref in asked] == [ref.ref_id for ref in refs]
    assert len(views) == (1 if target == "image" else len(refs))
    colour = pixels.reshape(-1, 3).mean(0).round().astype(np.uint8)
    for picture, asked in views:
        changed = (picture != pixels).any(-1)
        assert (picture[changed] == colour).all()
        own = truths[asked[0].ann_id]
        others = np.any(
            [mask for ann_id, mask in truths.items() if ann_id != asked[0].ann_id], axis=0
        )
        expected = {
            "image": np.ones_like(own),
            "referent": own,
            "distractors": others,
            "background": ~(own | others),
        }
        region = expected[target]
        assert not (changed & ~region).any()
        area = own.sum() if target == "background" else region.sum()
        assert changed.sum() <= round(0.4 * area)
        if target in (
            "referent",
            "distractors",
        ):  # boxes of another colour than the mean: every covered pixel shows
            assert changed.sum() == round(0.4 * area)
    again = Occlusion(target, 40).views(dataset, refs, pixels)
    assert all((one[0] == other[0]).all() for one, other in zip(views, again, strict=True))


def test_nothing_and_all(dataset):
    refs, pixels = dataset.refs_of("val")[:1], dataset.image(dataset.refs_of("val")[0].image_id)
    for target in TARGETS:
        assert (Occlusion(target, 0).views(dataset, refs, pixels)[0][0] == pixels).all()
    whole = Occlusion("image", 100).views(dataset, refs, pixels)[0][0]
    assert (whole == whole[0, 0]).all()


def test_names():
    assert (
        Occlusion.parse("referent-30") == Occlusion("referent", 30)
        and str(Occlusion("image", 5)) == "image-5"
    )
    for wrong in ("referent", "refferent-30", "image-101"):
        with pytest.raises(UserError):
            Occlusion.parse(wrong)


def test_a_referent_may_be_several_objects_or_none(tmp_path):
    dataset = read_refer(write_grefcoco(tmp_path), "grefcoco", "unc")
    refs = dataset.refs_of("val")
    pixels = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    both = mask_of(*BOXES)
    regions = {
        "referent": (mask_of(BOXES[0]), both, ~(both | True)),
        "distractors": (mask_of(BOXES[1]), ~(both | True), both),
    }
    for target, expected in regions.items():
        views = Occlusion(target, 100).views(dataset, refs, pixels)
        assert [asked for _, asked in views] == [[ref] for ref in refs]
        for (picture, _), region in zip(views, expected, strict=True):
            changed = (picture != pixels).any(-1)
            np.testing.assert_array_equal(changed, region)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_may_have_no_annotation(tmp_path, target):
    path = write_grefcoco(tmp_path, ("val",)) / "grefcoco" / "instances.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    dataset = read_refer(tmp_path, "grefcoco", "unc")
    refs = [ref for ref in dataset.refs_of("val") if not ref.ann_ids]
    pixels = np.full((40, 60, 3), 7, np.uint8)
    ((_, asked),) = Occlusion(target, 30).views(dataset, refs, pixels)
    assert asked == refs
