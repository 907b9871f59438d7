"""The methods under test. Each is a folder here whose `config.py` holds its DEFINITION.

Others add methods without an edit here, by an entry point `risbench.methods` or a file
in RISBENCH_PLUGINS (see `benchmark/base/registry.py`). Names and definitions are known
without importing torch. Only `get` imports a network.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.base.errors import UserError
from benchmark.base.registry import Loader, Registry
from methods.config import Definition

if TYPE_CHECKING:
    from methods.contract import Method


def _load(name: str) -> Definition:
    return importlib.import_module(f"{__name__}.{name}.config").DEFINITION


@functools.cache
def _shipped() -> Mapping[str, Loader]:
    """Return name -> loader for every folder of this package that has a `config.py`."""
    folders = {
        f"{path}/{module.name}": module.name
        for path in __path__
        for module in pkgutil.iter_modules([path])
        if module.ispkg
    }
    return {
        name: functools.partial(_load, name)
        for folder, name in folders.items()
        if any(module.name == "config" for module in pkgutil.iter_modules([folder]))
    }


METHODS: Registry[Definition] = Registry("methods", "method", _shipped, lambda: Definition)


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return METHODS.names()


def definition(name: str) -> Definition:
    """Return the description of the method called `name`.

    Raises:
        UserError: there is none, and the message names the nearest ones. Or a plugin
            registers a method under another name than its definition has.
    """
    found = METHODS.get(name)
    # Run directories and tables are named after the definition, and the registry reads them.
    if found.name != name:
        raise UserError(
            f"the method '{name}' is called '{found.name}' in its Definition: give it one name."
        )
    return found


def get(name: str) -> type[Method]:
    """Return the class of the method called `name`. This imports torch.

    Raises:
        UserError: as `definition` does.
    """
    return definition(name).load()
