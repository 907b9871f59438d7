"""The parts that the figures of the report share: panels, bars, legends and names."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmark.evaluation.drawn_text import wrapped
from benchmark.robustness import corruptions
from reports import labels
from reports.figures import COLORS, PAGE, QUIET, grid
from reports.layout import numbers

LETTERS_PER_INCH = 8.7  # of a title that shares its line with the legend


def colors(rows: pd.DataFrame) -> dict[str, str]:
    """Return strategy -> its color. The reference comes first and has the same in all figures."""
    reference = labels.reference()
    others = [label for label in rows["strategy"].unique() if label != reference]
    remaining = (COLORS[0], *COLORS[2:])
    return {reference: COLORS[1]} | dict(zip(others, remaining, strict=False))


def shown(looks: dict[str, str], rows: pd.DataFrame) -> list[str]:
    """Return the strategies that the rows hold, in the order of the colors."""
    return [label for label in looks if (rows["strategy"] == label).any()]


def spoken(name: str) -> str:
    """Return the name of a corruption as words."""
    return name.replace("_", " ")


def by_family(names: Sequence[str]) -> list[str]:
    """Return corruptions, each once, in the order of the families."""
    order = [name for members in corruptions.families().values() for name in members]
    return sorted(set(names), key=order.index)


def points_of(metric: str) -> str:
    """Return what differences in a metric are called."""
    return f"points of {numbers.heading(metric)}"


def titled(metric: str) -> str:
    """Return what the values of a metric are called on an axis."""
    heading = numbers.heading(metric)
    return f"{heading}, %" if numbers.factor(metric) == numbers.PERCENT else heading


# --- parts of figures -----------------------------------------------------------------------------


def title(figure: Figure, text: str, letters: int | None = None) -> None:
    """Write the title of a figure.

    Args:
        figure: the figure.
        text: the title.
        letters: greatest number of letters in a line. By default they leave room for the legend
            beside the title.
    """
    letters = letters or int(LETTERS_PER_INCH * figure.get_figwidth())
    text = "\n".join(wrapped(text, letters))
    # A sentence in it may hold a dollar sign, which is no formula.
    figure.suptitle(text, x=0.01, ha="left", fontsize=8, fontweight="bold", parse_math=False)


def legend(figure: Figure, marks: Sequence[Line2D | Patch]) -> None:
    """Draw the legend of a figure."""
    figure.legend(
        handles=[*marks],
        loc="outside upper right",
        ncols=len(marks),
        handlelength=1.4,
        columnspacing=1.4,
    )


def patches(looks: dict[str, str], rows: pd.DataFrame) -> list[Patch]:
    """Return a legend's entries for bars."""
    return [Patch(color=looks[label], label=label) for label in shown(looks, rows)]


def bars(
    axes: Axes,
    rows: pd.DataFrame,
    looks: dict[str, str],
    groups: Sequence[pd.Series],
    column: str,
    factor: float,
) -> None:
    """Draw a group of bars per mask of rows, in it one bar per strategy, with intervals.

    Args:
        axes: where they are drawn.
        rows: of the robustness table.
        looks: strategy -> color.
        groups: masks of rows, bool.
        column: what the bars show, `mean` or `change`.
        factor: what values are multiplied by.
    """
    strategies = shown(looks, rows)
    ends = ("low", "high") if column == "mean" else (f"{column}_low", f"{column}_high")
    width = 0.8 / max(1, len(strategies))
    for place, mask in enumerate(groups):
        for number, label in enumerate(strategies):
            for row in rows[mask & (rows["strategy"] == label)].to_dict("records"):
                x = place + (number - (len(strategies) - 1) / 2) * width
                axes.bar(x, factor * row[column], width * 0.92, color=looks[label])
                interval = [factor * row[end] for end in ends]
                axes.plot([x, x], interval, color="black", linewidth=0.8)
    axes.axhline(0, color=QUIET, linewidth=0.6)
    grid(axes, "y")
    axes.tick_params(axis="x", length=0)


def side_by_side(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, at most four in a row, all with the same rows."""
    across = min(4, count)
    down = -(-count // across)
    size = (min(PAGE, 1.5 + 1.45 * max(across, 2)), height * down)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, list(panels[:count])


def name_rows(axes: Axes, names: Sequence[str], limits: bool = True) -> None:
    """Name the rows of a panel from the top.

    Args:
        axes: the panel.
        names: of the rows.
        limits: whether the limits are set here. A picture has its own.
    """
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    if limits:
        axes.set_ylim(len(names) - 0.5, -0.5)
        grid(axes, "x")
        axes.spines["left"].set_visible(False)
