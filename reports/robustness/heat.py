"""The figure of the difference to the reference by corruption and severity, a panel per method."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from reports import labels
from reports.layout import numbers
from reports.robustness import panels


def figure(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return the figure. A number is bold if its interval excludes 0."""
    chosen = rows[(rows["kind"] == "corruption") & rows["difference"].notna()]
    names = panels.by_family(chosen["name"])
    levels = sorted(chosen["level"].astype(int).unique())
    methods = [tuple(pair) for pair in chosen[["label", "strategy"]].drop_duplicates().to_numpy()]
    strategies = sorted({strategy for _, strategy in methods})
    drawn, every = panels.side_by_side(len(methods), 0.17 * len(names) + 0.85)
    times = numbers.factor(metric)
    reach = max(0.1, times * chosen["difference"].abs().max())
    for axes, (method, strategy) in zip(every, methods, strict=True):
        own = chosen[(chosen["label"] == method) & (chosen["strategy"] == strategy)]
        cells = own.set_index(["name", own["level"].astype(int)])
        image = _panel(axes, cells, names, levels, times, reach)
        axes.set_title(method if len(strategies) == 1 else f"{method} {strategy}", fontsize=7.5)
    drawn.colorbar(image, ax=every, pad=0.01, shrink=0.9, label=panels.points_of(metric))
    drawn.supxlabel("severity (bold: the interval excludes 0)", fontsize=7.5)
    panels.title(drawn, f"{title}: {', '.join(strategies)} minus {labels.reference()}")
    return drawn


def _panel(
    axes: Axes,
    cells: pd.DataFrame,
    names: list[str],
    levels: list[int],
    times: float,
    reach: float,
) -> AxesImage:
    """Draw one method. `cells` are indexed by corruption and severity."""
    differences = cells["difference"]
    grid = np.array(
        [[times * differences.get((name, level), np.nan) for level in levels] for name in names]
    )
    norm = TwoSlopeNorm(0, -reach, reach)
    image = axes.imshow(grid, cmap="RdBu", norm=norm, aspect="auto")
    for (y, x), value in np.ndenumerate(grid):
        if np.isnan(value):
            continue
        cell = cells.loc[(names[y], levels[x])]
        is_clear = cell["difference_low"] > 0 or cell["difference_high"] < 0
        axes.text(
            x,
            y,
            f"{round(value, 1) + 0.0:+.1f}",  # adding 0.0 makes a negative zero positive
            ha="center",
            va="center",
            fontsize=5.6,
            fontweight="bold" if is_clear else "normal",
            color="white" if abs(value) > 0.65 * reach else "black",
        )
    axes.set_xticks(range(len(levels)), levels)
    panels.name_rows(axes, [panels.spoken(name) for name in names], limits=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image
