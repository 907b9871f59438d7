"""Figures of the robustness table: curves over severity, means per corruption, differences, occlusion and language."""

from collections.abc import Sequence

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmark.robustness import corruptions
from benchmark.robustness.language import keywords, lengths
from benchmark.robustness.occlusion import TARGETS
from reports import figures
from reports.compare import BASELINE
from reports.figures import COLOURS, PAGE, QUIET, STYLE
from reports.layout import HEADINGS

LOOKS = {BASELINE: COLOURS[1]}
OTHERS = (COLOURS[0], *COLOURS[2:])
ACROSS = 5  # panels in a row of small multiples
TARGET_TITLES = {
    "image": "of the whole image",
    "referent": "of the referent",
    "distractors": "of the other objects",
    "background": "elsewhere, as much as\nof the referent (control)",
}


def all_figures(table: pd.DataFrame, metric: str = "oiou") -> dict[str, bytes]:
    """Return file name -> content of every figure that a robustness table has numbers for, as PNG and PDF."""
    found: dict[str, bytes] = {}
    rows = table[table["metric"] == metric].assign(label=labels(table))
    with matplotlib.style.context(STYLE):
        for (dataset, split), part in rows.groupby(["dataset", "split"], sort=False):
            place = f"{dataset}-{split}"
            for label, own in part.groupby("label", sort=False):
                if (own["kind"] == "corruption").any():
                    name = f"severity-{place}-{label.replace(' ', '-')}"
                    found |= figures.files(name, severities(own, f"{label}, {dataset} {split}", metric))
            for kind, draw in (("corruption mean", means), ("corruption", heat), ("occlusion", occlusion)):
                its = part[part["kind"] == kind]
                if len(its) and (draw is not heat or its["difference"].notna().any()):
                    found |= figures.files(f"{draw.__name__}-{place}", draw(part, f"{dataset} {split}", metric))
            found |= figures.files(f"language-{place}", language(part, f"{dataset} {split}", metric))
    return found


def labels(table: pd.DataFrame) -> pd.Series:
    """Return what each row's method is called."""
    return table[["method", "stage", "variant", "settings"]].agg(lambda row: " ".join(filter(None, row)), axis=1)


def _colours(rows: pd.DataFrame) -> dict[str, str]:
    others = [label for label in rows["strategy"].unique() if label != BASELINE]
    return {BASELINE: LOOKS[BASELINE]} | dict(zip(others, OTHERS, strict=False))


def _legend(
    figure: Figure, colours: dict[str, str], rows: pd.DataFrame, patches: bool = False, hollow: bool = False
) -> None:
    shown = [label for label in colours if (rows["strategy"] == label).any()]
    marks = [
        Patch(color=colours[label], label=label)
        if patches
        else Line2D(
            [],
            [],
            color=colours[label],
            marker="o",
            markersize=4.4 if hollow else 3.5,
            markerfacecolor="white" if hollow and label == BASELINE else colours[label],
            linewidth=0 if hollow else 1.2,
            label=label,
        )
        for label in shown
    ]
    figure.legend(handles=marks, loc="outside upper right", ncols=len(marks), handlelength=1.4, columnspacing=1.4)


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=8, fontweight="bold")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _known(names: Sequence[str]) -> list[str]:
    """Return corruptions by family."""
    order = [name for members in corruptions.families().values() for name in members]
    return sorted(set(names), key=order.index)


def severities(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return a panel per corruption: the score at severities 0 (clean) to 5, a line per strategy with its interval as a band."""
    colours, names = _colours(rows), _known(rows[rows["kind"] == "corruption"]["name"])
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(PAGE * max(across, 3) / ACROSS, 1.35 * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for number, axes in enumerate(panels.flat):
        if number >= len(names):
            axes.set_axis_off()
            continue
        name = names[number]
        axes.set_title(_words(name), fontsize=7.5)
        for label, colour in colours.items():
            its = rows[(rows["strategy"] == label)]
            clean = its[its["kind"] == "clean"].assign(level=0)
            line = pd.concat([clean, its[(its["kind"] == "corruption") & (its["name"] == name)]]).sort_values("level")
            level = line["level"].astype(float)
            axes.fill_between(level, 100 * line["low"], 100 * line["high"], color=colour, alpha=0.16, linewidth=0)
            axes.plot(level, 100 * line["mean"], color=colour, marker="o", markersize=2.6, linewidth=1.2)
        axes.set_xticks(range(6))
        axes.grid(axis="y", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        if number + across >= len(names):
            axes.tick_params(labelbottom=True)
    figure.supxlabel("severity (0: clean)", fontsize=7.5)
    figure.supylabel(f"{HEADINGS[metric]}, %", fontsize=7.5)
    _title(figure, title)
    _legend(figure, colours, rows)
    return figure


def means(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return a panel per method: per corruption the mean over its severities, baseline joined to the other strategies."""
    colours = _colours(rows)
    chosen = rows[rows["kind"].isin(["corruption mean", "clean"])]
    names = ["clean", *_known(chosen[chosen["kind"] == "corruption mean"]["name"])]
    methods = list(rows["label"].unique())
    figure, panels = _side_by_side(methods, 0.155 * len(names) + 0.75)
    for axes, method in zip(panels, methods, strict=True):
        its = chosen[chosen["label"] == method].set_index(["name", "strategy"])["mean"]
        for place, name in enumerate(names):
            points = {label: 100 * its[name, label] for label in colours if (name, label) in its.index}
            axes.plot([min(points.values()), max(points.values())], [place] * 2, color="0.75", linewidth=1.4, zorder=2)
            for label, value in points.items():
                hollow = "white" if label == BASELINE else colours[label]
                axes.plot(value, place, "o", markersize=4.4, color=colours[label], markerfacecolor=hollow, zorder=3)
        _rows_of(axes, [_words(name) for name in names])
        axes.axhline(0.5, color="0.8", linewidth=0.6)
        axes.set_title(method, fontsize=7.5)
    _finish(figure, panels, f"{HEADINGS[metric]}, %, mean over severities", f"{title}: mean per corruption")
    _legend(figure, colours, rows, hollow=True)
    return figure


def heat(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return a panel per method: the difference to the baseline by corruption and severity, bold where its interval excludes
    0."""
    chosen = rows[(rows["kind"] == "corruption") & rows["difference"].notna()]
    names, levels = _known(chosen["name"]), sorted(chosen["level"].astype(int).unique())
    methods = [tuple(pair) for pair in chosen[["label", "strategy"]].drop_duplicates().to_numpy()]
    figure, panels = _side_by_side(methods, 0.17 * len(names) + 0.85)
    reach = max(0.1, 100 * chosen["difference"].abs().max())
    norm = TwoSlopeNorm(0, -reach, reach)
    for axes, (method, strategy) in zip(panels, methods, strict=True):
        its = chosen[(chosen["label"] == method) & (chosen["strategy"] == strategy)]
        cells = its.set_index(["name", its["level"].astype(int)])
        grid = np.array([[100 * cells["difference"].get((name, level), np.nan) for level in levels] for name in names])
        image = axes.imshow(grid, cmap="RdBu", norm=norm, aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            if np.isnan(value):
                continue
            cell = cells.loc[(names[y], levels[x])]
            clear = cell["difference_low"] > 0 or cell["difference_high"] < 0
            axes.text(
                x,
                y,
                f"{round(value, 1) + 0.0:+.1f}",
                ha="center",
                va="center",
                fontsize=5.6,
                fontweight="bold" if clear else "normal",
                color="white" if abs(value) > 0.65 * reach else "black",
            )
        axes.set_xticks(range(len(levels)), levels)
        _rows_of(axes, [_words(name) for name in names], limits=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(method if len({s for _, s in methods}) == 1 else f"{method} {strategy}", fontsize=7.5)
    figure.colorbar(image, ax=panels, pad=0.01, shrink=0.9, label=f"points of {HEADINGS[metric]}")
    strategies = ", ".join(sorted({strategy for _, strategy in methods}))
    _finish(figure, panels, "severity (bold: the interval excludes 0)", f"{title}: {strategies} minus baseline")
    return figure


def occlusion(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return bars per covered target and share: how much the score changes against the uncovered image, with intervals."""
    colours, chosen = _colours(rows), rows[rows["kind"] == "occlusion"]
    targets = [name for name in TARGETS if (chosen["name"] == name).any()]
    methods, levels = list(rows["label"].unique()), sorted(chosen["level"].astype(int).unique())
    figure = Figure(figsize=(PAGE, 1.15 * len(methods) + 0.8), layout="constrained")
    panels = figure.subplots(len(methods), len(targets), sharex=True, sharey="row", squeeze=False)
    for place, (line, method) in enumerate(zip(panels, methods, strict=True)):
        for axes, target in zip(line, targets, strict=True):
            its = chosen[(chosen["label"] == method) & (chosen["name"] == target)].sort_values("level")
            _bars(axes, its, colours, [its["level"].astype(int) == level for level in levels], "change")
            axes.set_xticks(range(len(levels)), levels)
            if place == 0:
                axes.set_title(TARGET_TITLES[target], fontsize=7.5)
        line[0].set_ylabel(method, fontsize=7.5)
    figure.supxlabel("covered, % of its area", fontsize=7.5)
    figure.supylabel(f"change of {HEADINGS[metric]}, points", fontsize=7.5)
    _title(figure, f"{title}: parts of the image covered")
    _legend(figure, colours, rows, patches=True)
    return figure


def language(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return bars per language subset: the score on its expressions and, where words were covered, what covering one of its words
    changes."""
    colours = _colours(rows)
    kinds = [kind for kind in ("language", "word") if (rows["kind"] == kind).any()]
    methods = list(rows["label"].unique())
    order = {"language": [*keywords(), *lengths()], "word": ["any word", *keywords()]}
    names = {
        kind: [name for name in order[kind] if ((rows["kind"] == kind) & (rows["name"] == name)).any()]
        for kind in kinds
    }
    figure = Figure(figsize=(PAGE, 1.15 * len(methods) + 1.2), layout="constrained")
    widths = [len(names[kind]) + 1 for kind in kinds]
    panels = figure.subplots(len(methods), len(kinds), sharex="col", squeeze=False, width_ratios=widths)
    for place, (line, method) in enumerate(zip(panels, methods, strict=True)):
        for axes, kind in zip(line, kinds, strict=True):
            its = rows[(rows["label"] == method) & (rows["kind"] == kind)]
            _bars(
                axes,
                its,
                colours,
                [its["name"] == name for name in names[kind]],
                "mean" if kind == "language" else "change",
            )
            counts = its.drop_duplicates("name").set_index("name")["expressions"]
            ticks = [f"{name} ({counts[name]})" for name in names[kind]]
            axes.set_xticks(range(len(ticks)), ticks, rotation=35, ha="right", rotation_mode="anchor")
            if place == 0:
                heading = {
                    "language": f"{HEADINGS[metric]} of expressions, %",
                    "word": "one word covered: change, points",
                }
                axes.set_title(heading[kind], fontsize=7.5)
        line[0].set_ylabel(method, fontsize=7.5)
    _title(figure, f"{title}: words (in brackets: how many)")
    _legend(figure, colours, rows, patches=True)
    return figure


# --- parts ------------------------------------------------------------------------------------------------------------


def _bars(axes: Axes, rows: pd.DataFrame, colours: dict[str, str], groups: Sequence[pd.Series], column: str) -> None:
    """Draw a group of bars per mask of rows, one bar per strategy, with intervals."""
    shown = [label for label in colours if (rows["strategy"] == label).any()]
    ends = ("low", "high") if column == "mean" else (f"{column}_low", f"{column}_high")
    width = 0.8 / max(1, len(shown))
    for place, mask in enumerate(groups):
        for number, label in enumerate(shown):
            for row in rows[mask & (rows["strategy"] == label)].to_dict("records"):
                x, value = place + (number - (len(shown) - 1) / 2) * width, 100 * row[column]
                axes.bar(x, value, width * 0.92, color=colours[label])
                axes.plot([x, x], [100 * row[end] for end in ends], color="black", linewidth=0.8)
    axes.axhline(0, color=QUIET, linewidth=0.6)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)


def _side_by_side(methods: Sequence[object], height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel per method, at most four in a row, all with the same rows."""
    across = min(4, len(methods))
    down = -(-len(methods) // across)
    figure = Figure(figsize=(min(PAGE, 1.5 + 1.45 * max(across, 2)), height * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes in panels[len(methods) :]:
        axes.set_axis_off()
    return figure, list(panels[: len(methods)])


def _rows_of(axes: Axes, names: Sequence[str], limits: bool = True) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    if limits:
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)


def _finish(figure: Figure, panels: Sequence[Axes], across: str, title: str) -> None:
    figure.supxlabel(across, fontsize=7.5)
    _title(figure, title)
