"""Checks every value of a preset before anything is read, written or trained."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import methods
from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.robustness.conditions import conditions_of
from benchmark.runs import splits
from benchmark.runs.execution import read_execution
from benchmark.runs.preset import Preset, read_preset
from benchmark.runs.resolve import changed_recipe, planned_cells, resolve_strategy


def read_checked(name: str) -> Preset:
    """Return the preset called `name`, or the one in the YAML file `name`, with values that fit.

    Raises:
        UserError: there is no such preset, its file cannot be read, or a value does not fit. The
            message says where it stands.
    """
    preset = read_preset(name)
    check_preset(preset, name)
    return preset


def check_preset(preset: Preset, name: str, data: Path | None = None) -> None:
    """Check the values of a preset that its fields cannot check by themselves.

    Args:
        preset: the preset, as it was read.
        name: what messages call it.
        data: folder of the data [the preset's].

    Raises:
        UserError: a name is not known (the message has the nearest ones), or a value does not fit.
            The message says where it stands.
    """
    with _standing(f"preset {name}"):
        cells = planned_cells(preset, data)
    with _standing(f"preset {name}: leave_out"):
        for method, left_out in preset.leave_out.items():
            choose(method, preset.methods, "method of the preset")
            for strategy in left_out:
                choose(strategy, preset.strategies, "strategy of the preset")
    with _standing(f"preset {name}: rivals"):
        for pair in preset.rivals:
            for strategy in pair:
                choose(strategy, preset.strategies, "strategy of the preset")
    with _standing(f"preset {name}: recipes"):
        for method, changes in preset.recipes.items():
            definition = methods.definition(choose(method, methods.names(), "method"))
            for variant in {*preset.variants} & {*definition.variants}:
                changed_recipe(definition, definition.recipes[variant], changes)
    with _standing(f"preset {name}: strategy"):
        for setting in preset.strategy:
            choose(setting, strategies.settings(), "setting")
        kinds = {(cell.method, cell.variant, cell.dataset, cell.strategy) for cell in cells}
        for method, variant, dataset, strategy in sorted(kinds):
            definition = methods.definition(method)
            config = definition.config_for(variant, dataset)
            resolve_strategy(strategy, preset.strategy, definition, config)
    with _standing(f"preset {name}: selection"):
        check_defined([preset.selection.metric], preset.datasets)
    with _standing(f"preset {name}: primary"):
        metrics.check_judged(preset.primary.values())
        check_defined(preset.primary.values(), preset.datasets)
    with _standing(f"preset {name}: report"):
        for entry in preset.report:
            splits.parse(entry, data or preset.data)
    with _standing(f"preset {name}"):
        read_execution(preset.execution)
    if preset.robustness:
        grid = conditions_of(preset, name)
        with _standing(f"preset {name}: robustness"):
            grid.conditions()


def check_defined(names: Iterable[str], entries: Iterable[str]) -> None:
    """Check that metrics are defined on data sets, as far as these are known.

    Args:
        names: of the metrics.
        entries: the data sets, as presets write them.

    Raises:
        UserError: a metric is not known, or is about other data sets than one of these.
    """
    for name, entry in itertools.product(names, entries):
        metric, dataset = metrics.get(name), entry.partition(":")[0]
        if metric.applies is None or dataset not in datasets.DATASETS:
            continue
        if name not in datasets.get(dataset).metrics:
            raise UserError(
                f"{name} ({metric.heading}) is not defined on {dataset}: name another metric, such"
                f" as {metrics.judged()[0].name}."
            )


@contextlib.contextmanager
def _standing(where: str) -> Iterator[None]:
    """Begin the message of an error with the place of what is wrong."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None
