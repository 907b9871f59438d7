"""Training strategies. Each kind has a module, whose tuple `STRATEGIES` holds its strategies."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from benchmark.base.registry import Loader, Registry
from benchmark.strategies.strategy import Strategy


def _shipped() -> Mapping[str, Loader]:
    modules = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    ]
    strategies = [strategy for module in modules for strategy in getattr(module, "STRATEGIES", ())]
    return {strategy.name: lambda strategy=strategy: strategy for strategy in strategies}


STRATEGIES: Registry[Strategy] = Registry("strategies", "strategy", _shipped, lambda: Strategy)


def names() -> list[str]:
    """Return the names of all strategies."""
    return STRATEGIES.names()


def get(name: str) -> Strategy:
    """Return the strategy called `name` with its default settings.

    Raises:
        UserError: the name is not known.
    """
    return STRATEGIES.get(name)


def reference() -> Strategy:
    """Return the strategy that others are compared with."""
    return next(strategy for _, strategy in STRATEGIES.items() if strategy.is_reference)


def settings() -> set[str]:
    """Return every setting of some strategy that presets, grids and searches may change."""
    return {setting for _, strategy in STRATEGIES.items() for setting in strategy.tunable()}


def read(values: Mapping[str, Any]) -> Strategy:
    """Return the strategy that the fields of a spec describe.

    Raises:
        UserError: its name is not known.
        ValueError: the fields are not those of a strategy of this name.
    """
    return get(str(values.get("name"))).read(values)
