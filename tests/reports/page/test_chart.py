"""Charts: the places of points, ticks that say what they stand for, and bands."""

import re

import pytest

from reports.page.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, chart
from reports.page.curves import POINTS, thinned
from reports.page.named import LOOKS, style


def drawn(*lines, **more):
    return chart("a chart", "step", "loss", lines, "cris tiny", **more)


def numbers_of(path):
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


@pytest.mark.parametrize("ends", [(47.1, 48.3), (0.001, 0.0042), (0.0, 100.0), (-3.0, 2.0), (5, 5)])
def test_a_tick_stands_where_its_text_says(ends):
    its = drawn(Line("baseline", 0, [(0, ends[0]), (10, ends[1])]))
    (x0, y0), (x1, y1) = zip(
        numbers_of(its.lines[0][2])[::2], numbers_of(its.lines[0][2])[1::2], strict=True
    )
    assert len(its.y_ticks) >= (2 if ends[0] < ends[1] else 1)
    for place, text in its.y_ticks:
        value = float(text.replace(",", ""))
        if ends[0] == ends[1]:
            assert value == ends[0] and place == pytest.approx(y0, abs=0.11)
            continue
        # The line through both points says where a value lies.
        expected = y0 + (value - ends[0]) / (ends[1] - ends[0]) * (y1 - y0)
        assert place == pytest.approx(
            expected, abs=0.1 * abs((value - ends[0]) / (ends[1] - ends[0])) + 0.2
        )
    for place, text in its.x_ticks:
        assert place == pytest.approx(x0 + float(text) / 10 * (x1 - x0), abs=0.2)


def test_everything_lies_in_the_frame_and_high_is_above():
    its = drawn(
        Line("a", 0, [(1, 2.0), (3, 9.0)], [(1.0, 3.0), (8.0, 11.0)]), Line("b", 1, [(2, 5.0)])
    )
    for _, _, path, band, dots in its.lines:
        values = numbers_of(path) + numbers_of(band) + [part for dot in dots for part in dot]
        assert all(LEFT <= x <= WIDTH - RIGHT for x in values[::2])
        assert all(TOP <= y <= HEIGHT - BOTTOM for y in values[1::2])
    _, low_first, _, high_last = numbers_of(its.lines[0][2])
    assert high_last < low_first
    assert len(numbers_of(its.lines[0][3])) == 8  # a band of two points has four corners


def test_panels_that_share_a_range_share_their_ticks():
    one = drawn(Line("a", 0, [(0, 1.0), (1, 2.0)]), heights=(0.0, 50.0))
    other = drawn(Line("a", 0, [(0, 40.0), (1, 45.0)]), heights=(0.0, 50.0))
    assert one.y_ticks == other.y_ticks


def test_steps_and_epochs_have_whole_ticks():
    assert [text for _, text in drawn(Line("a", 0, [(0, 1.0), (2, 2.0)])).x_ticks] == [
        "0",
        "1",
        "2",
    ]
    assert [text for _, text in drawn(Line("a", 0, [(0, 1.0)])).x_ticks] == ["0"]
    severities = drawn(Line("a", 0, [(0, 1.0), (1, 2.0), (3, 2.0), (5, 3.0)])).x_ticks
    assert [text for _, text in severities] == ["0", "1", "2", "3", "4", "5"]


def test_the_description_says_where_lines_begin_and_end():
    its = drawn(
        Line("baseline, seed 0", 0, [(0, 0.5), (9, 0.25)]), Line("+MaskRIS, seed 0", 1, [(3, 0.75)])
    )
    assert its.description == (
        "cris tiny, a chart: loss over step. baseline, seed 0 goes from 0.5 to 0.25."
        " +MaskRIS, seed 0 is 0.75."
    )


def test_a_long_curve_keeps_its_mean_and_a_short_one_its_points():
    short = [(float(step), step**0.5) for step in range(POINTS)]
    assert thinned(short) == short
    long = [(float(step), step**0.5) for step in range(4 * POINTS)]
    few = thinned(long)
    assert len(few) == POINTS
    assert sum(y for _, y in few) / POINTS == pytest.approx(sum(y for _, y in long) / len(long))
    assert few[0] == pytest.approx((1.5, sum(y for _, y in long[:4]) / 4))


def test_no_strategy_looks_like_the_reference():
    assert style(0) == 0
    assert all(0 < style(look) < LOOKS for look in range(1, 40))
