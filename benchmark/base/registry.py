"""Registries hold named things that the suite ships and that others add without an edit here.

Methods, strategies, data sets, corruptions, metrics, launchers and trackers each have a registry.
It is filled from three places:

- The module that owns the registry lists what the suite ships.
- Installed packages declare entry points in the group `risbench.<kind>`.
- The environment variable RISBENCH_PLUGINS names Python files, separated as in PATH. Such a file
  says what it holds in a literal, which is read without running the file:

      RISBENCH = {"strategies": {"mine": "MINE"}, "metrics": {"boundary": "BOUNDARY"}}

All names are therefore known before anything that they name is imported. Every process of the
suite, workers and loaders too, inherits the variable and sees the same names.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from benchmark.base.errors import UserError, choose
from benchmark.base.files import open_regular

PLUGINS = "RISBENCH_PLUGINS"
DECLARATION = "RISBENCH"
KINDS = ("methods", "strategies", "datasets", "corruptions", "metrics", "launchers", "trackers")

T = TypeVar("T")
Loader = Callable[[], Any]


def plugin_files() -> tuple[Path, ...]:
    """Return the files that RISBENCH_PLUGINS names, in order."""
    return tuple(Path(name) for name in os.environ.get(PLUGINS, "").split(os.pathsep) if name)


@functools.cache
def _declared(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return kind -> name -> attribute of a plugin file, read from its text alone.

    Raises:
        UserError: the file is missing, is no valid Python, or does not say what it holds.
    """
    try:
        with open_regular(path) as file:
            tree = ast.parse(file.read())
    except OSError as error:
        raise UserError(
            f"{path}, named in {PLUGINS}, cannot be read ({error.strerror}): correct the variable."
        ) from None
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"{path}, named in {PLUGINS}, is no valid Python ({error}): mend it."
        ) from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == DECLARATION:
            try:
                declared = ast.literal_eval(node.value)
                for kind, names in declared.items():
                    choose(kind, KINDS, f"kind of plugin in {path}:")
                    for name, attribute in names.items():
                        if not (isinstance(name, str) and isinstance(attribute, str)):
                            raise TypeError
            except (ValueError, TypeError, AttributeError):
                break
            return declared
    raise UserError(
        f"{path}, named in {PLUGINS}, needs a line such as"
        f' {DECLARATION} = {{"strategies": {{"mine": "MINE"}}}},'
        " which says what it holds: kind, name, and the attribute of the file."
    )


@functools.cache
def _module(path: Path) -> ModuleType:
    """Run a plugin file once and return it as a module."""
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"risbench_plugin_{path.stem}_{place}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # As in the import system, the name is known before the file runs, because pickles and
    # dataclasses of the file look their module up by name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Registry(Generic[T]):
    """The things of one kind by name.

    Args:
        kind: one of `KINDS`.
        what: what messages call one such thing.
        shipped: returns name -> loader of what the suite ships, and loads nothing itself.
        types: returns what a loaded thing must be an instance of. It is a function so that a
            registry can be made without importing the type.
    """

    def __init__(
        self,
        kind: str,
        what: str,
        shipped: Callable[[], Mapping[str, Loader]],
        types: Callable[[], type | tuple[type, ...]] | None = None,
    ) -> None:
        self.kind = kind
        self.what = what
        self.shipped = shipped
        self.types = types
        self._loaded: dict[tuple[str, str], T] = {}
        self._known: dict[tuple[Path, ...], dict[str, tuple[str, Loader]]] = {}

    def _origins(self) -> dict[str, tuple[str, Loader]]:
        """Return name -> (where it comes from, loader).

        Raises:
            UserError: two places define the same name, or a plugin file is wrong.
        """
        files = (*plugin_files(),)
        # Names are asked for thousands of times, and only other plugin files change them.
        if files in self._known:
            return self._known[files]
        origins = {name: ("risbench", loader) for name, loader in self.shipped().items()}

        def add(name: str, origin: str, loader: Loader) -> None:
            if name in origins and origins[name][0] != origin:
                raise UserError(
                    f"the {self.what} '{name}' of {origin} has the name of one of"
                    f" {origins[name][0]}: rename it."
                )
            origins[name] = (origin, loader)

        for entry in _entry_points(f"risbench.{self.kind}"):
            package = entry.dist.name if entry.dist else entry.value
            add(entry.name, f"the package {package}", entry.load)
        for path in files:
            for name, attribute in _declared(path).get(self.kind, {}).items():
                add(name, str(path), functools.partial(_attribute, path, attribute))
        self._known[files] = origins
        return origins

    def names(self) -> list[str]:
        """Return all names, sorted. Nothing that they name is imported."""
        return sorted(self._origins())

    def get(self, name: str) -> T:
        """Return the thing called `name`, loaded at the first call.

        Raises:
            UserError: there is none (the message lists the nearest names), or a plugin holds a
                thing of another type.
        """
        origins = self._origins()
        origin, loader = origins[choose(name, origins, self.what)]
        if (name, origin) not in self._loaded:
            loaded = loader()
            if self.types and not isinstance(loaded, self.types()):
                raise UserError(
                    f"the {self.what} '{name}' of {origin} is a {type(loaded).__name__}: see"
                    f" docs/extending.md for what a {self.what} is."
                )
            self._loaded[name, origin] = loaded
        return self._loaded[name, origin]

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield every name with its loaded thing, in the order of `names`."""
        for name in self.names():
            yield name, self.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._origins()


@functools.cache
def _entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


def _attribute(path: Path, attribute: str) -> Any:
    module = _module(path)
    if not hasattr(module, attribute):
        raise UserError(
            f"{path} declares '{attribute}' in {DECLARATION} and does not define it: mend the file."
        )
    return getattr(module, attribute)
