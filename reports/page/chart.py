"""Small line charts as SVG inside the page, whose colors follow the reader's light or dark mode.

A chart is as wide as a telephone, so several stand side by side on a wide screen and each stays
readable on a narrow one. A figure of matplotlib has fixed colors and takes a thousand times longer,
which counts where a page has hundreds of panels. Its rule for ticks is used here.
"""

import dataclasses
import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from reports.page.named import style

WIDTH, HEIGHT = 300, 190  # of a chart, px
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 34  # margins for the labels of the axes

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: what it is of, such as `+MaskRIS, seed 2`.
        look: place of its strategy, which decides color and dashes.
        points: places on both axes.
        band: lower and upper end at each point, or nothing.
    """

    label: str
    look: int
    points: Sequence[Point]
    band: Sequence[Point] = ()


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart that is ready to be drawn.

    Attributes:
        title: stands above it.
        name: whose lines these are, and the title.
        description: what it shows, for those who do not see it.
        across: name of the horizontal axis.
        up: name of the vertical axis.
        lines: what is drawn. Each is a label, a style, a path, a path of its band, and its dots.
        x_ticks: place and text of each tick.
        y_ticks: place and text of each tick.
    """

    title: str
    name: str
    description: str
    across: str
    up: str
    lines: list[tuple[str, int, str, str, list[Point]]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]

    width = WIDTH
    height = HEIGHT
    left = LEFT
    right = WIDTH - RIGHT
    top = TOP
    bottom = HEIGHT - BOTTOM


def chart(
    title: str,
    across: str,
    up: str,
    lines: Sequence[Line],
    about: str,
    heights: tuple[float, float] | None = None,
    dots: bool = False,
) -> Chart:
    """Return a chart of lines.

    Args:
        title: stands above it.
        across: name of the horizontal axis.
        up: name of the vertical axis.
        lines: at least one, with at least one point.
        about: whose lines these are, for those who do not see where the chart stands.
        heights: range of the vertical axis, for panels that share it [that of the lines].
        dots: whether every point has a dot, and not only the last.
    """
    x_range, x_ticks = _axis([x for line in lines for x, _ in line.points], whole=True)
    y_range, y_ticks = _axis(heights or span(lines))

    def place(point: Point) -> Point:
        x = LEFT + (WIDTH - LEFT - RIGHT) * _share(point[0], x_range)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - _share(point[1], y_range))
        return round(x, 1), round(y, 1)

    drawn = []
    for line in lines:
        placed = [place(point) for point in line.points]
        across_of = [x for x, _ in line.points]
        lower = [place((x, low)) for x, (low, _) in zip(across_of, line.band, strict=False)]
        upper = [place((x, high)) for x, (_, high) in zip(across_of, line.band, strict=False)]
        band = _path([*lower, *reversed(upper)]) + "Z" if line.band else ""
        drawn.append(
            (line.label, style(line.look), _path(placed), band, placed if dots else placed[-1:])
        )
    return Chart(
        title,
        f"{about}, {title}",
        describe(f"{about}, {title}", across, up, lines),
        across,
        up,
        drawn,
        [(place((value, 0))[0], text) for value, text in x_ticks],
        [(place((0, value))[1], text) for value, text in y_ticks],
    )


def span(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the least and the greatest value of lines and their bands."""
    values = [y for line in lines for _, y in line.points]
    values += [end for line in lines for ends in line.band for end in ends if not math.isnan(end)]
    return min(values), max(values)


def describe(title: str, across: str, up: str, lines: Sequence[Line]) -> str:
    """Return where each line begins and ends, in words."""
    parts = [
        f"{line.label} goes from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}"
        if len(line.points) > 1
        else f"{line.label} is {line.points[0][1]:.3g}"
        for line in lines
    ]
    return f"{title}: {up} over {across}. {'. '.join(parts)}."


def _axis(
    values: Sequence[float], whole: bool = False
) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Return the range of an axis, and its ticks with texts that are not rounded."""
    low, high = min(values), max(values)
    if low == high:
        ticks = [low]
        room = abs(low) * 0.05 or 0.5
        low, high = low - room, high + room
    else:
        steps = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=2)
        ticks = [float(tick) for tick in steps.tick_values(low, high)]
    if not whole:
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    shown = [tick for tick in ticks if low <= tick <= high]
    digits = next(
        (n for n in range(6) if all(math.isclose(round(t, n), t, abs_tol=1e-9) for t in shown)), 6
    )
    return (low, high), [(tick, f"{tick:,.{digits}f}") for tick in shown]


def _share(value: float, ends: tuple[float, float]) -> float:
    return (value - ends[0]) / (ends[1] - ends[0])


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
