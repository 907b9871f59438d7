"""What tables call strategies and methods, and how they tell apart configurations of one name."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pydantic import BaseModel

from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.runs.predictions import AnySpec, PredictionsSpec
from benchmark.strategies.strategy import Strategy

METHOD = ("method", "stage", "variant", "settings")


def reference(specs: Iterable[AnySpec] = (), against: str | None = None) -> str:
    """Return what tables call the strategy that the others are compared with.

    Args:
        specs: of the runs that are compared.
        against: its name [the reference].

    Raises:
        UserError: the specs have no strategy of this name, or several with different settings.
    """
    if against is None:
        return strategies.reference().heading
    by_name: dict[str, list[str]] = {}
    for label, strategy in strategy_labels(specs).items():
        by_name.setdefault(strategy.name, []).append(label)
    named = by_name[choose(against, by_name, "compared strategy")]
    if len(named) > 1:
        raise UserError(
            f"{against} has runs with several settings ({', '.join(named)}), so it is not one"
            " strategy to compare with."
        )
    return named[0]


def identity(model: BaseModel, exclude: set[str] | None = None) -> str:
    """Return a model as text that two of them share only where all their fields are equal."""
    return json.dumps(model.model_dump(mode="json", exclude=exclude), sort_keys=True)


def setting(spec: AnySpec) -> str:
    """Return all of a spec within which strategies and seeds are compared, as text."""
    return json.dumps(spec.comparable(), sort_keys=True)


def setting_suffixes(specs: Mapping[str, AnySpec]) -> dict[str, str]:
    """Return what tells each setting from the others of its method, such as "(words 30)", or "".

    Args:
        specs: setting -> the spec of one of its runs.
    """
    trained = {text: spec for text, spec in specs.items() if not isinstance(spec, PredictionsSpec)}
    suffixes = differing(
        {
            text: f"{spec.dataset}/{spec.split_by}/{spec.method}/{spec.variant}"
            for text, spec in trained.items()
        },
        {text: spec.model_dump(exclude={"seed", "strategy"}) for text, spec in trained.items()},
    )
    # Of masks that were made elsewhere nothing is known in which they could differ from a run.
    elsewhere = specs.keys() - trained.keys()
    said = {text: "(made elsewhere)" if specs[text].stands_for else "" for text in elsewhere}
    return suffixes | said


def strategy_labels(specs: Iterable[AnySpec]) -> dict[str, Strategy]:
    """Return label -> strategy for each strategy of the specs, the reference first.

    Strategies of one name are told apart by the settings in which they differ.
    """
    specs = [*specs]
    by_identity = label_of_strategy(specs)
    labels: dict[str, Strategy] = {}
    # Where predictions share a label with runs, it is the runs whose settings are known.
    for spec in sorted(specs, key=_is_elsewhere):
        labels.setdefault(by_identity[identity(spec.strategy)], spec.strategy)
    return dict(sorted(labels.items(), key=lambda item: (not item[1].is_reference, item[0])))


def label_of_strategy(specs: Iterable[AnySpec]) -> dict[str, str]:
    """Return `identity` of a strategy -> its label.

    Nobody knows the settings of a strategy for which predictions stand, so its name is all of its
    label.
    """
    specs = [*specs]
    trained = {identity(its.strategy): its.strategy for its in specs if not _is_elsewhere(its)}
    suffixes = differing(
        {text: strategy.name for text, strategy in trained.items()},
        {text: strategy.key_fields() for text, strategy in trained.items()},
    )
    labels = {
        text: f"{strategy.heading} {suffixes[text]}".strip() for text, strategy in trained.items()
    }
    for spec in filter(_is_elsewhere, specs):
        labels.setdefault(identity(spec.strategy), spec.strategy.heading)
    return labels


def _is_elsewhere(spec: AnySpec) -> bool:
    return isinstance(spec, PredictionsSpec)


def method_label(columns: Mapping[str, Any]) -> str:
    """Return what a line calls its method: name, stage, variant and what else tells it apart.

    Args:
        columns: of a row of a comparison, as `compare.Setting.columns` holds them.
    """
    return " ".join(filter(None, (columns[name] for name in METHOD)))


def with_method_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a column `label`, which says what each row's method is called."""
    return table.assign(label=[method_label(row) for row in table[[*METHOD]].to_dict("records")])


def differing(names: Mapping[str, str], fields: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return where each configuration differs from the others of its name.

    Args:
        names: configuration -> its name.
        fields: configuration -> its fields, which may be nested.

    Returns:
        configuration -> text such as "(distill_weight 0.25, learning_rate 0.001)", or "".
    """
    by_name: dict[str, list[str]] = {}
    for key, name in names.items():
        by_name.setdefault(name, []).append(key)
    texts = {}
    for keys in by_name.values():
        flat = {key: _flat(fields[key]) for key in keys}
        known = sorted({field for values in flat.values() for field in values})
        shown = [
            field
            for field in known
            if len({str(values.get(field)) for values in flat.values()}) > 1
        ]
        for key, values in flat.items():
            # A field that was added later is left out where it has its default.
            told = [
                f"{field.removeprefix('recipe.')} {_short(values[field])}"
                for field in shown
                if field in values
            ]
            texts[key] = f"({', '.join(told)})" if told else ""
    return texts


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _short(value: Any) -> str:
    """Return a value as text, with digests cut to 12 digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1", str(value))
