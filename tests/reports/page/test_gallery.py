"""The gallery: outlines that enclose their masks, what is chosen, and files that are damaged."""

import json
import re

import cv2
import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation import examples, masks
from reports.page import gallery
from reports.page.named import named
from tests.reports.fakes import make_spec
from tests.reports.page import constructed

SPECS = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)]


@pytest.fixture
def place(tmp_path):
    """Return a folder with three examples of six runs of one method."""
    constructed.make_examples(tmp_path, [spec.key for spec in SPECS])
    return examples.folder(tmp_path, constructed.NAME)


def filled(path, shape):
    """Return the mask that an outline encloses, by the even-odd rule."""
    polygons = [
        np.array([[int(number) for number in point.split()] for point in part.split("L")])
        for part in re.findall(r"M([^Z]*)Z", path)
    ]
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, polygons, 1)
    return mask.astype(bool)


def discs(shape, *places):
    rows, columns = np.indices(shape)
    return [(rows - y) ** 2 + (columns - x) ** 2 < r**2 for y, x, r in places]


@pytest.mark.parametrize("kind", ["disc", "ring", "two", "at the edge", "all"])
def test_an_outline_encloses_its_mask(kind, tmp_path):
    shape = (240, 320)
    disc, hole, other = discs(shape, (100, 120, 60), (100, 120, 30), (200, 260, 30))
    mask = {
        "disc": disc,
        "ring": disc & ~hole,
        "two": disc | other,
        "at the edge": np.arange(320)[None, :].repeat(240, 0) > 250,
        "all": np.ones(shape, bool),
    }[kind]
    found = filled(gallery.outline(masks.encode(mask), tmp_path), shape)
    assert (found & mask).sum() / (found | mask).sum() > 0.95


def test_an_empty_mask_has_no_outline(tmp_path):
    assert gallery.outline(masks.encode(np.zeros((4, 6), bool)), tmp_path) == ""


def test_a_mask_of_a_single_pixel_can_be_seen(tmp_path):
    mask = np.zeros((20, 20), bool)
    mask[7, 11] = True
    numbers = [
        int(number) for number in re.findall(r"\d+", gallery.outline(masks.encode(mask), tmp_path))
    ]
    assert {*numbers[::2]} == {11, 12} and {*numbers[1::2]} == {7, 8}


def test_a_card_compares_the_strategies_of_one_seed(place):
    its = gallery.gallery(named(SPECS), place)
    assert len(its.pictures) == 3 and len(its.cards) == 3
    entries = json.loads((place / "examples.json").read_text())
    by_sentence = {entry["sentence"]: entry for entry in entries}
    for card in its.cards:
        guesses = by_sentence[card.example.sentence]["masks"]
        ious = [100 * guesses[SPECS[card.seed + 3 * place].key]["iou"] for place in (0, 1)]
        labels = [panel.label for panel in card.panels]
        assert labels == ["picture", "ground truth", "baseline", "+MaskRIS"]
        assert [panel.iou for panel in card.panels[2:]] == pytest.approx(ious)
        assert card.difference == pytest.approx(ious[1] - ious[0])
    sizes = [abs(card.difference) for card in its.cards]
    assert sizes == sorted(sizes, reverse=True)
    assert its.rules == ["largest gain", "both fail"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_card_shows_the_seed_that_is_nearest_to_the_mean(place, seed):
    entries = json.loads((place / "examples.json").read_text())
    for number, spec in enumerate(SPECS):
        # The differences of the seeds are 0.1, 0.2 and 0.3.
        iou = 0.4 + (0.1 * (1 + spec.seed) if number >= 3 else 0)
        entries[0]["masks"][spec.key]["iou"] = iou
    entries[0]["difference"] = 0.1 * (1 + seed) + 0.02
    (place / "examples.json").write_text(json.dumps(entries[:1]))
    (card,) = gallery.gallery(named(SPECS), place).cards
    assert card.seed == seed and card.difference == pytest.approx(10 * (1 + seed))


def test_an_outline_that_several_runs_share_is_there_once(place):
    its = gallery.gallery(named(SPECS), place)
    assert len(set(its.outlines)) == len(its.outlines)
    used = {panel.outline for card in its.cards for panel in card.panels} - {None}
    assert used <= {*range(len(its.outlines))}


def test_runs_of_other_plans_are_not_shown(place):
    its = gallery.gallery(named(SPECS[:1]), place)
    assert all(len(card.panels) == 3 and card.difference is None for card in its.cards)
    assert gallery.gallery(named([make_spec("baseline", 7)]), place) is None


def test_a_page_without_room_says_how_many_it_leaves_out(place, monkeypatch):
    first = len(gallery.gallery(named(SPECS), place).pictures[0][0])
    monkeypatch.setattr(gallery, "ROOM", first + 50)
    its = gallery.gallery(named(SPECS), place)
    assert len(its.pictures) == 1 and its.left_out == 2


@pytest.mark.parametrize("name", ["../0.webp", "/etc/passwd", "0.svg", "a/0.webp", "0.webp\n"])
def test_a_picture_lies_beside_its_list(place, name):
    entries = json.loads((place / "examples.json").read_text())
    entries[0]["picture"] = name
    (place / "examples.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"examples.json is damaged: delete it"):
        gallery.gallery(named(SPECS), place)


def test_a_damaged_mask_is_named(place):
    entries = json.loads((place / "examples.json").read_text())
    entries[0]["truth"]["counts"] = "zz"
    (place / "examples.json").write_text(json.dumps(entries))
    with pytest.raises(
        UserError, match=r"a mask in .*examples.json is damaged .*risbench examples"
    ):
        gallery.gallery(named(SPECS), place)


def test_a_missing_picture_is_named(place):
    (place / "1.webp").unlink()
    with pytest.raises(UserError, match=r"1.webp cannot be read"):
        gallery.gallery(named(SPECS), place)


def test_without_examples_there_is_no_gallery(tmp_path):
    assert gallery.gallery(named(SPECS), tmp_path) is None
