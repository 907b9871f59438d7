"""Examples that are cut out of data: their pictures, masks, numbers and order."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.evaluation import examples, masks, metrics
from benchmark.evaluation.example_rules import RULES, Wanted
from benchmark.evaluation.examples import Pair, picture, picture_size, shrunk
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened, opened_for
from benchmark.runs.rundir import RunDir
from tests.helpers import copied

EVERY = Wanted(tuple(RULES), 2)


@pytest.fixture(scope="module")
def pair(trained, tmp_path_factory):
    """Return two runs as a pair of strategies, with a second seed that is the first one again."""
    folder = tmp_path_factory.mktemp("runs")
    runs = copied(folder, trained("cris", "baseline"), trained("cris", "maskris"))
    before, after = ({run: run.records("val")} for run in runs)
    return Pair(before, after, "val")


def cut(pair, wanted=EVERY):
    run = next(iter(pair.other))
    return examples.cut([pair], wanted, opened_for(Places(None, runs=run.path.parent)))


def test_an_example_holds_what_was_evaluated(pair, boxes):
    run = next(iter(pair.other))
    dataset = Opened(Places(boxes)).data(run.spec())
    its, pictures = cut(pair)
    assert its and {example.rule for example in its} <= RULES.keys()
    refs = {sentence.sent_id: ref for ref in dataset.refs_of("val") for sentence in ref.sentences}
    for example in its:
        ref = refs[example.sent_id]
        assert (example.dataset, example.split_by, example.split) == ("refcoco", "unc", "val")
        assert example.picture in pictures and example.image_id == ref.image_id
        # These images are smaller than a picture may be, so all keeps its size.
        np.testing.assert_array_equal(masks.decode(example.truth), dataset.target(ref))
        ious = []
        for one in (*pair.reference, *pair.other):
            code = masks.codes(one.masks("val"))[example.sent_id]
            records = one.records("val").set_index("sent_id")
            row = records.loc[example.sent_id]
            ious.append(row["intersection"] / row["union"] if row["union"] else 0.0)
            assert example.masks[one.key].rle == code
            assert example.masks[one.key].iou == ious[-1]
            assert example.sentence == row["sentence"]
        assert example.difference == pytest.approx(ious[1] - ious[0])
    assert list(its[0].masks) == [run.key for run in (*pair.reference, *pair.other)]


def test_the_same_examples_have_the_same_bytes(pair, tmp_path):
    contents = []
    for name in ("a", "b"):
        path = examples.write(tmp_path / name, *cut(pair))
        contents.append({file.name: file.read_bytes() for file in path.parent.iterdir()})
    assert contents[0] == contents[1]
    assert examples.read(tmp_path / "a") == cut(pair)[0]
    chosen, pictures = cut(pair, Wanted(("largest gain", "largest loss"), 1))
    examples.write(tmp_path / "a", chosen, pictures)
    assert {file.name for file in (tmp_path / "a").iterdir()} == {*pictures, "examples.json"}


def test_seeds_are_averaged(pair):
    (first, before), (other, after) = (
        next(iter(side.items())) for side in (pair.reference, pair.other)
    )
    worse = after.assign(intersection=after["intersection"] // 2)
    several = Pair(
        {first: before, RunDir(first.path / "x"): before},
        {other: after, RunDir(other.path / "x"): worse.sample(frac=1, random_state=0)},
        "val",
    )
    means = several.ious()
    expected = (metrics.iou(after) + metrics.iou(worse)) / 2 - metrics.iou(before)
    np.testing.assert_allclose(means["difference"], expected)


def test_a_picture_is_at_most_480_pixels_long():
    assert picture_size(640, 480) == (480, 360) and picture_size(30, 40) == (30, 40)
    assert picture_size(1, 5000) == (1, 480)
    pixels = np.full((300, 960, 3), 100, np.uint8)
    image = Image.open(io.BytesIO(picture(pixels)))
    assert (image.format, image.size) == ("WEBP", (480, 150))
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - 100).max() <= 3


def test_a_small_mask_has_the_share_of_the_large_one():
    mask = np.zeros((600, 800), bool)
    mask[100:200, 300:500] = True
    small = shrunk(mask, picture_size(*mask.shape))
    assert small.shape == (360, 480) and small[60:120, 180:300].all()
    assert small.sum() == 60 * 120
    np.testing.assert_array_equal(shrunk(mask, mask.shape), mask)


def test_runs_without_masks_are_named_at_once(pair, tmp_path):
    runs = copied(tmp_path, *pair.reference, *pair.other)
    for run in runs:
        run.masks_path("val").unlink()
    sides = ({run: run.records("val")} for run in runs)
    with pytest.raises(
        UserError, match="2 runs were made before masks.*predict RUN --split val"
    ) as e:
        cut(Pair(*sides, "val"))
    assert all(run.key in str(e.value) for run in runs)


def test_an_expression_that_is_not_there_is_named(pair):
    with pytest.raises(UserError, match="sent_id 99999 is no expression of the split"):
        cut(pair, Wanted((), 1, (99999,)))
