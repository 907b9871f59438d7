"""What runs cost, and what a strategy adds to the cost of the reference.

Costs are averaged over seeds, and only over runs on the same device: a row for each device.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.runs.costs import Costs, Device
from reports import labels
from reports.compare import Setting
from reports.layout.block import Block
from reports.layout.numbers import NOTHING

UNKNOWN = "device unknown"  # the device of runs without costs, and of earlier versions
SETTING = ["dataset", "split_by", "device", "method"]  # Within one, strategies are compared.
MILLION = 1e6
GIB = 2**30
# What is averaged -> the heading of its column, with the unit, and what its values are divided by.
COLUMNS = {
    "parameters": ("parameters\n(million)", MILLION),
    "trained_parameters": ("trained\n(million)", MILLION),
    "gflops": ("forward pass\n(GFLOPs/pair)", 1.0),
    "training_images_per_second": ("training\n(images/s)", 1.0),
    "evaluation_expressions_per_second": ("evaluation\n(expressions/s)", 1.0),
    "peak_bytes": ("peak memory\n(GiB)", GIB),
    "hours": ("whole run\n(hours)", 1.0),
}
ADDED = {
    "step_time_ratio": "step time\n(times)",
    "memory_ratio": "peak memory\n(times)",
    "hours_ratio": "whole run\n(times)",
    "parameters_added": "parameters\n(number)",
}
COMPARED = "Compared with the {reference} of the same seeds on the same device."
DEFINITIONS = (
    "Costs are means over seeds. A dash stands for what was not measured.",
    "GFLOPs are 10^9 floating-point operations of the forward pass of one image with one sentence"
    " at the size of evaluation. Matrix products, convolutions and attention are counted, and a"
    " multiplication with its addition counts as two.",
    "The rate of training is measured without evaluation and without the first steps of a session,"
    " and that of evaluation with the decoding of images and the decision of masks.",
    "Peak memory is what torch allocated on a GPU, and the resident set of the process on a CPU,"
    " which holds the code of the libraries, too.",
    "Hours are those of training and evaluation, whatever else the machine did meanwhile, without"
    " an auxiliary that runs share.",
)


# --- numbers --------------------------------------------------------------------------------------


def table(settings: Sequence[Setting], costs: Mapping[str, Costs]) -> pd.DataFrame:
    """Return one row per data set x device x method x strategy, the reference first.

    The columns are `SETTING` and `strategy`, `seeds` (how many were averaged), the means of
    `COLUMNS` in the units of `runs.costs`, and those of `ADDED` over the seeds that the row shares
    with the reference. What is not known is NaN.

    Args:
        settings: finished runs, as `compare.settings` returns them.
        costs: key of a run -> its costs. A run without an entry was not measured.
    """
    every = pd.DataFrame([row for setting in settings for row in _rows(setting, costs)])
    every = every.sort_values(SETTING, kind="stable")
    rows = []
    for _, own in every.groupby(SETTING, sort=False):
        reference = own[own["is_reference"]]
        for strategy, runs in own.groupby("strategy", sort=False):
            row = runs.iloc[0][[*SETTING]].to_dict()
            row |= {"strategy": strategy, "seeds": len(runs)}
            rows.append(row | runs[[*COLUMNS]].mean().to_dict() | _added(runs, reference))
    return pd.DataFrame(rows)


def _rows(setting: Setting, costs: Mapping[str, Costs]) -> Iterator[dict[str, Any]]:
    """Yield the names and costs of each run of a setting."""
    names = {name: setting.columns[name] for name in ("dataset", "split_by")}
    names["method"] = labels.method_label(setting.columns)
    for strategy, runs in setting.strategies.items():
        for seed, run in runs.items():
            own = costs.get(run.key, Costs())
            row = names | {"strategy": strategy, "seed": seed, "device": device_name(own.device)}
            row["is_reference"] = run.spec.strategy.is_reference
            yield row | {name: _known(getattr(own, name)) for name in COLUMNS}


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def device_name(device: Device | None) -> str:
    """Return what tables call a device, such as `NVIDIA H100` or `Intel Xeon, 2 threads`."""
    if device is None:
        return UNKNOWN
    parts = [device.name]
    if device.processes > 1:
        parts.append(f"{device.processes} processes")
    if device.type == "cpu":
        parts.append(f"{device.threads} thread{'s' if device.threads > 1 else ''}")
    return ", ".join(parts)


def _added(own: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """Return the columns of `ADDED` for the runs of a strategy.

    They are NaN for the reference itself, where no seed is shared, and on unknown devices.
    """
    if own["is_reference"].all() or (own["device"] == UNKNOWN).all():
        return dict.fromkeys(ADDED, math.nan)
    # Runs of one setting have one batch size, so their steps compare as their images do.
    seconds = {"step": lambda its: 1 / its["training_images_per_second"]}
    pairs = own.assign(**seconds).merge(
        reference.assign(**seconds), on="seed", suffixes=("", "_of")
    )

    def means(name: str) -> tuple[float, float]:
        both = pairs[[name, f"{name}_of"]].dropna().mean()
        return both.iloc[0], both.iloc[1]

    def ratio(name: str) -> float:
        mean, of = means(name)
        return mean / of

    mean, of = means("parameters")
    return {
        "step_time_ratio": ratio("step"),
        "memory_ratio": ratio("peak_bytes"),
        "hours_ratio": ratio("hours"),
        "parameters_added": mean - of,
    }


# --- tables ---------------------------------------------------------------------------------------


def blocks(every_cost: pd.DataFrame) -> list[Block]:
    """Return two blocks per data set and device: what runs cost, and what each strategy adds.

    The second is left out where nothing can be compared, and so is a column of which nothing was
    measured.

    Args:
        every_cost: what `table` returns.
    """
    every = []
    places = ["dataset", "split_by", "device"]
    for (dataset, split_by, device), rows in every_cost.groupby(places, sort=False):
        where = f"on {dataset} (split by {split_by}), {device}"
        shown = [name for name in COLUMNS if rows[name].notna().any()]
        header = ("method", "strategy", "seeds", *(COLUMNS[name][0] for name in shown))
        lines = [
            (row["method"], row["strategy"], str(row["seeds"]))
            + tuple(significant(row[name] / COLUMNS[name][1]) for name in shown)
            for row in rows.to_dict("records")
        ]
        every.append(Block(f"costs {where}", "", header, _named_once(lines), names=2))
        lines = [
            (row["method"], row["strategy"], *_added_cells(row))
            for row in rows[rows[[*ADDED]].notna().any(axis=1)].to_dict("records")
        ]
        if lines:
            header = ("method", "strategy", *ADDED.values())
            note = COMPARED.format(reference=labels.reference())
            title = f"what a strategy adds {where}"
            every.append(Block(title, note, header, _named_once(lines), names=2))
    return every


def _named_once(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines without the name of a method that stands in the line above."""
    above = ("", *(line[0] for line in lines))
    return [
        ("" if line[0] == name else line[0], *line[1:])
        for name, line in zip(above, lines, strict=False)
    ]


def _added_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratios = [row[name] for name in ADDED if name.endswith("_ratio")]
    added = row["parameters_added"]
    number = NOTHING if math.isnan(added) else f"{added:+.0f}"
    return (*(NOTHING if math.isnan(its) else f"{its:.2f} ×" for its in ratios), number)


def significant(value: float, digits: int = 3) -> str:
    """Return a value with so many significant digits and no exponent, or a dash if it is NaN."""
    if math.isnan(value):
        return NOTHING
    rounded = abs(float(f"{value:.{digits - 1}e}"))  # 9.999 has two digits before the point
    before = math.floor(math.log10(rounded)) + 1 if rounded else 1
    return f"{value:.{max(0, digits - before)}f}"
