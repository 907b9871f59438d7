"""The figure of one image at every severity of a corruption, with every strategy's mask.

This module chooses what is shown and draws it. In between, `benchmark.robustness.strips` reads the
stored masks and corrupts the image.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark.evaluation import metrics
from benchmark.robustness import strips
from benchmark.robustness.results import read_masks
from benchmark.robustness.strips import Strip, Wanted
from benchmark.runs.rundir import RunDir
from reports import labels, mask_panels
from reports.figures import PAGE, QUIET, STYLE, files
from reports.robustness import panels
from reports.robustness.parts import primary_rows
from reports.robustness.results import CLEAN, Results, corruption_of

QUANTILE = 0.75  # of the clean IoUs, where the shown expression lies: it is good, but not the best


def wanted(
    every: Sequence[Results], table: pd.DataFrame, runs: Path
) -> tuple[list[Wanted], list[str]]:
    """Return a strip per method, and the methods that lack the masks for one.

    A strip is of the first seed of each strategy. Its corruption is the one under which the
    reference (or the only strategy) loses most.

    Args:
        every: runs and their records.
        table: what `table.table` returns of `every`.
        runs: folder of the run directories.
    """
    means = labels.with_method_labels(primary_rows(every, table))
    means = means[means["kind"] == "corruption mean"]
    chosen, without = [], []
    for results in every:
        columns = results.setting.columns
        first = next(iter(results.records))
        label = labels.method_label(columns)
        own = means[
            (means["label"] == label)
            & (means["dataset"] == columns["dataset"])
            & (means["split"] == results.split)
            & (means["strategy"] == first)
        ]
        if own.empty:
            continue
        corruption = str(own.loc[own["mean"].idxmin(), "name"])
        shown = sorted(name for name in results.conditions if corruption_of(name) == corruption)
        title = f"{label}, {columns['dataset']} {results.split}"
        keys = {
            strategy: results.setting.strategies[strategy][next(iter(by_seed))].spec.key
            for strategy, by_seed in results.records.items()
        }
        shown_runs = [RunDir(runs / key) for key in keys.values()]
        if not all(strips.has_masks(run, results.split, shown) for run in shown_runs):
            without.append(title)
            continue
        stored = read_masks(shown_runs[0], results.split, shown[0])["sent_id"]
        clean = [next(iter(by_seed.values()))[CLEAN] for by_seed in results.records.values()]
        chosen.append(
            Wanted(
                name=f"strip-{columns['dataset']}-{results.split}-{label.replace(' ', '-')}",
                title=title,
                keys=keys,
                split=results.split,
                corruption=corruption,
                severities=[int(name.rpartition("-")[2]) for name in shown],
                sent_id=expression_to_show(clean, {*stored}),
            )
        )
    return chosen, without


def expression_to_show(clean: Sequence[pd.DataFrame], stored: set[int]) -> int:
    """Return the sent_id, of those with masks, whose clean IoU is nearest to a quantile of all.

    The IoU is the mean over strategies.
    """
    tables = [records.sort_values("sent_id", ignore_index=True) for records in clean]
    ious = np.mean([metrics.iou(records) for records in tables], axis=0)
    distances = pd.Series(np.abs(ious - np.quantile(ious, QUANTILE)), tables[0]["sent_id"])
    return int(distances[distances.index.isin(stored)].idxmin())


def draw(shown: Sequence[Strip]) -> dict[str, bytes]:
    """Return file name -> content of the strips, as PNG and PDF."""
    contents: dict[str, bytes] = {}
    with matplotlib.style.context(STYLE):
        for strip in shown:
            contents |= files(strip.wanted.name, figure(strip))
    return contents


def figure(strip: Strip) -> Figure:
    """Return a column per severity, and a row for the image and for the masks of every strategy."""
    rows = 1 + len(strip.masks)
    levels = [*strip.images]
    clean = strip.images[0]
    height = PAGE / len(levels) * clean.shape[0] / clean.shape[1] + 0.2
    drawn = Figure(figsize=(PAGE, rows * height + 0.5), layout="constrained")
    every = drawn.subplots(rows, len(levels), squeeze=False)
    for axes, level in zip(every[0], levels, strict=True):
        axes.imshow(strip.images[level])
        axes.set_title(f"severity {level}" if level else CLEAN, fontsize=7)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    reference = labels.reference()
    others = itertools.cycle(mask_panels.OTHERS)
    for line, (label, shown) in zip(every[1:], strip.masks.items(), strict=True):
        color = mask_panels.REFERENCE if label == reference else next(others)
        for axes, (level, mask) in zip(line, shown.items(), strict=True):
            truth = strip.truth.astype(bool)
            mask_panels.draw(axes, strip.images[level], mask, color, truth)
            axes.set_title(mask_panels.said(strip.ious[label][level], mask), fontsize=7)
    for line, label in zip(every, ("image", *strip.masks), strict=True):
        line[0].set_ylabel(label, fontsize=7.5)
    corruption = panels.spoken(strip.wanted.corruption)
    title = f"{strip.wanted.title}, {corruption}: “{strip.sentence}”"
    panels.title(drawn, title, 80)
    drawn.supxlabel(mask_panels.NOTE, x=0.01, ha="left", fontsize=7, color=QUIET)
    return drawn
