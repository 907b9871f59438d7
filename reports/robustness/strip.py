"""A strip: one image at five severities of a corruption, with what every strategy says of one expression."""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.data.images import evaluation_image
from benchmark.evaluation import metrics
from benchmark.evaluation.inference import Loaded
from benchmark.evaluation.overlays import PREDICTION, TRUTH, tinted
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import overlap
from benchmark.robustness import corruptions
from benchmark.robustness.run import load_all
from benchmark.runs.execution import Place
from benchmark.runs.rundir import RunDir
from reports.figures import PAGE, STYLE
from reports.figures import files as figure_files
from reports.robustness import figures
from reports.robustness.summary import Asked


def expression_to_show(clean: Mapping[str, pd.DataFrame]) -> int:
    """Return the sent_id whose clean IoU, the mean over strategies, is nearest the upper quartile: seen, and not the best."""
    tables = [records.sort_values("sent_id") for records in clean.values()]
    ious = np.mean([metrics.iou(records) for records in tables], axis=0)
    return int(tables[0]["sent_id"].to_numpy()[np.argmin(np.abs(ious - np.quantile(ious, 0.75)))])


@torch.no_grad()
def strip(networks: Mapping[str, Loaded], split: str, corruption: str, sent_id: int, title: str) -> Figure:
    """Return a figure with a column per severity (0: clean) and a row for the image and for the mask of every strategy."""
    dataset = next(iter(networks.values())).dataset
    ref, sentence = next(
        (ref, sentence) for ref in dataset.refs_of(split) for sentence in ref.sentences if sentence.sent_id == sent_id
    )
    ref, original = dataclasses.replace(ref, sentences=(sentence,)), dataset.image(ref.image_id)
    levels = (0, *corruptions.SEVERITIES)
    height = PAGE / len(levels) * original.shape[0] / original.shape[1] + 0.2
    figure = Figure(figsize=(PAGE, (1 + len(networks)) * height + 0.5), layout="constrained")
    panels = figure.subplots(1 + len(networks), len(levels), squeeze=False)
    truth = dataset.mask(ref.ann_id)
    for column, severity in enumerate(levels):
        pixels = corruptions.corrupt(original, corruption, severity, ref.image_id) if severity else original
        panels[0, column].imshow(pixels)
        panels[0, column].set_title("clean" if not severity else f"severity {severity}", fontsize=7)
        for line, network in zip(panels[1:], networks.values(), strict=True):
            item = evaluation_image(dataset, [ref], pixels, network.method.needs)
            (prediction,) = predict(network.method, [item], network.tokenizer, network.device)
            both, union = overlap(prediction.masks[0], truth)
            line[column].imshow(tinted(pixels, prediction.masks[0], PREDICTION))
            line[column].contour(truth, [0.5], colors=[TRUTH], linewidths=0.9)
            line[column].set_title(f"IoU {both / union if union else 0:.2f}", fontsize=7)
    for line, label in zip(panels, ("image", *networks), strict=True):
        line[0].set_ylabel(label, fontsize=7.5)
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    text = f"{title}, {corruption.replace('_', ' ')}: “{sentence.sent}”"
    figure.suptitle("\n".join(textwrap.wrap(text, 80)), x=0.01, ha="left", fontsize=8, fontweight="bold")
    marks = [
        Line2D([], [], color=TRUTH, label="ground truth"),
        Line2D([], [], color=PREDICTION, linewidth=4, label="prediction"),
    ]
    figure.legend(handles=marks, loc="outside lower right", ncols=2)
    return figure


def all_strips(
    every: Sequence[Asked], table: pd.DataFrame, runs: Path, place: Callable[[RunDir], Place], device: str
) -> dict[str, bytes]:
    """Return file name -> content of a strip per method whose weights are here: of the corruption under which the baseline (or
    the only strategy) loses most, of its first seed."""
    found: dict[str, bytes] = {}
    means = table[(table["kind"] == "corruption mean") & (table["metric"] == "oiou")]
    if means.empty:
        return found
    means = means.assign(label=figures.labels(means))
    for asked in every:
        columns = asked.setting.columns
        label = " ".join(filter(None, (columns[name] for name in ("method", "stage", "variant", "settings"))))
        own = means[
            (means["label"] == label) & (means["dataset"] == columns["dataset"]) & (means["split"] == asked.split)
        ]
        first = next(iter(asked.records))
        own = own[own["strategy"] == first]
        strategies = asked.setting.strategies
        keys = {its: strategies[its][next(iter(by_seed))].spec.key for its, by_seed in asked.records.items()}
        if own.empty or not all((runs / key / "best.safetensors").exists() for key in keys.values()):
            continue
        corruption = str(own.loc[own["mean"].idxmin(), "name"])
        loaded = load_all([RunDir(runs / key) for key in keys.values()], place, device)
        networks = {its: loaded[key] for its, key in keys.items()}
        clean = {its: next(iter(by_seed.values()))["clean"] for its, by_seed in asked.records.items()}
        place_name = f"{columns['dataset']}-{asked.split}"
        with matplotlib.style.context(STYLE):
            title = f"{label}, {columns['dataset']} {asked.split}"
            figure = strip(networks, asked.split, corruption, expression_to_show(clean), title)
            found |= figure_files(f"strip-{place_name}-{label.replace(' ', '-')}", figure)
    return found
