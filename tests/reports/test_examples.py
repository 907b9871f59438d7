"""The qualitative figures: what they show, the same bytes, and what is refused."""

import matplotlib.style
import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation import examples, masks
from benchmark.evaluation.examples import Answer, Example
from reports.collected import collect
from reports.compare import settings
from reports.examples import figures as drawing
from reports.examples.figures import figures
from reports.figures import DPI, STYLE, files
from reports.parts import PlanReport
from tests.reports.fakes import make_runs, make_spec, plan

SIZE = (30, 40)


def box(top, left, side=10):
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return masks.encode(mask)


@pytest.fixture
def made(tmp_path):
    """Return the settings of four runs, and a folder with two examples of theirs."""
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1)]
    make_runs(tmp_path, *specs)
    ious = [0.1, 0.3, 0.2, 0.7]  # The mean difference is 0.25, to which seed 0 is nearest.
    answers = {
        spec.key: Answer(rle=box(5, 5 + number), iou=iou)
        for number, (spec, iou) in enumerate(zip(specs, ious, strict=True))
    }
    example = Example(
        sent_id=3,
        image_id=9,
        dataset="refshapes",
        split_by="unc",
        split="testA",
        sentence="the <b>red</b> box & $x$",
        rule="largest gain",
        difference=0.25,
        picture="refshapes-9.webp",
        size=SIZE,
        truth=box(5, 5),
        masks=answers,
    )
    nothing = {key: Answer(rle=masks.encode(np.zeros(SIZE, bool)), iou=0) for key in answers}
    failed = example.model_copy(
        update={"sent_id": 4, "rule": "both fail", "difference": 0.0, "masks": nothing}
    )
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    place = examples.folder(tmp_path, "set")
    examples.write(place, [example, failed], {example.picture: examples.picture(pixels)})
    return settings(collect(plan(specs), tmp_path)), place


def texts(figure):
    return [text.get_text() for text in figure.texts]


def drawn(made):
    every, place = made
    with matplotlib.style.context(STYLE):
        return figures(place, every)


def test_a_figure_per_rule_shows_sentence_ious_and_the_typical_seed(made):
    found = drawn(made)
    start = "refshapes-unc-testA-cris-tiny-MaskRIS"
    assert list(found) == [f"{start}-largest-gain", f"{start}-both-fail"]
    gain, failed = map(texts, found.values())
    assert {"Largest gain: cris tiny, refshapes (unc) testA", "the IoU rises most"} <= {*gain}
    assert {"image", "ground truth", "baseline", "+MaskRIS"} <= {*gain}
    assert {"IoU 10.0 %", "IoU 20.0 %", "+25.0 points over 2 seeds, here seed 0"} <= {*gain}
    assert failed.count("IoU 0.0 %, nothing marked") == 2
    assert len(found[f"{start}-largest-gain"].axes) == 4


def test_the_report_has_a_part_of_them(made, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "files", lambda name, figure: {f"{name}.png": b""})
    specs = [run.spec for by_seed in made[0][0].strategies.values() for run in by_seed.values()]
    collected = collect(plan(specs), tmp_path)
    contents = PlanReport(collected, pd.DataFrame(), tmp_path).parts["examples"].make()
    start = "examples/refshapes-unc-testA-cris-tiny-MaskRIS"
    assert [*contents] == [f"{start}-largest-gain.png", f"{start}-both-fail.png"]


def test_text_of_data_is_no_markup(made):
    figure = next(iter(drawn(made).values()))
    (shown,) = [text for text in figure.texts if "<b>red" in text.get_text()]
    assert shown.get_text() == "“the <b>red</b> box & $x$”" and not shown.get_parse_math()


def test_the_bytes_are_the_same_again(made):
    def content():
        with matplotlib.style.context(STYLE):
            return files("x", next(iter(drawn(made).values())))

    first = content()
    assert first == content()
    # Text of the PDF is text, in fonts of type 42 (TrueType).
    assert b"/FontFile2" in first["x.pdf"] and b"/Type3" not in first["x.pdf"]


def test_examples_of_other_runs_are_left_out(made):
    every, place = made
    assert figures(place, every[:0]) == {}
    assert figures(place.with_name("other"), every) == {}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("examples.json", lambda text: text[:-9], "examples.json is damaged: delete it"),
        ("examples.json", lambda text: text.replace(b'"sentence"', b'"said"'), "is damaged"),
        ("examples.json", lambda text: text.replace(b'"refshapes-9', b'"../x'), "is damaged"),
        ("examples.json", lambda text: text.replace(b"   30,", b"   31,", 1), "missing or damaged"),
        ("refshapes-9.webp", lambda content: content[:40], "webp is missing or damaged"),
    ],
)
def test_what_is_damaged_is_named(made, name, change, message):
    path = made[1] / name
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    with pytest.raises(UserError, match=message):
        drawn(made)


def test_a_damaged_mask_is_named(made):
    every, place = made
    (example, failed) = examples.read(place)
    other = masks.encode(np.ones((2, 2), bool))
    examples.write(place, [example.model_copy(update={"truth": other})], {})
    assert not (place / example.picture).exists(), "no example that is left shows it"
    examples.write(
        place,
        [example.model_copy(update={"truth": other})],
        {example.picture: examples.picture(np.zeros((*SIZE, 3), np.uint8))},
    )
    with pytest.raises(UserError, match="mask of sent_id 3.*another size than its picture"):
        drawn(made)


def test_a_large_picture_has_the_resolution_that_is_printed():
    across = drawing.WIDTH * DPI
    for size in ((360, 480), (480, 360), (480, 480)):
        printed = drawing._printed(size)
        assert max(printed) == round(across)
        assert printed[0] / printed[1] == pytest.approx(size[0] / size[1], rel=0.01)
    assert drawing._printed(SIZE) == SIZE
