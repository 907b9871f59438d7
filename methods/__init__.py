"""The methods under test. A method is one folder here with a `method.py` that holds one `Method` subclass."""

import importlib
import importlib.util
import pkgutil

from benchmark.base.errors import choose
from methods.contract import Method

_registered: dict[str, type[Method]] = {}


def names() -> list[str]:
    """Return the names of all methods: folders of this package that hold a `method.py`, and what `register` added."""
    folders = [
        module.name
        for module in pkgutil.iter_modules(__path__)
        if module.ispkg and importlib.util.find_spec(f"{__name__}.{module.name}.method")
    ]
    return sorted({*folders, *_registered})


def register(method: type[Method]) -> type[Method]:
    """Add a method class that lives outside this package (usable as a decorator)."""
    _registered[method.name] = method
    return method


def get(name: str) -> type[Method]:
    """Return the method class called `name`.

    Raises:
        UserError: there is none; the message names the nearest ones.
    """
    choose(name, names(), "method")
    if name not in _registered:
        module = importlib.import_module(f"{__name__}.{name}.method")
        (found,) = [
            item
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, Method) and item.__module__ == module.__name__
        ]
        _registered[name] = found
    return _registered[name]
