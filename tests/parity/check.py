"""Compare a method's network with a fixture of the published one."""

import collections
import dataclasses
import importlib
import importlib.util
import json
import pathlib
import zipfile
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from benchmark.base.errors import UserError, choose
from tests.parity import steps
from tests.parity.arrays import STEP_INPUTS, STEP_QUANTITIES, Tolerance, parse, plain, run_of
from tests.parity.network import Network

_DESCRIPTION = ("keys", "config")
_SHARED = ("aliases", "aux_keys")  # describe a network, too
# A gradient that is exactly zero leaves rounding noise behind: a norm below this share
# of the largest counts as noise.
_NOISE_FLOOR = 1e-5


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the report. `difference` is None where the array was not compared;
    `note` then says why.
    """

    name: str
    difference: float | None
    tolerance: Tolerance | None
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the array was compared and lies within its tolerance (NaN does not)."""
        return self.difference is not None and self.difference <= self.tolerance.limit


def check(path: pathlib.Path, only: Collection[str] | None = None) -> list[Row]:
    """Return one row per array of the fixture at `path`, or of those in `only`, and one
    for its names and shapes.

    Raises:
        UserError: the file is no fixture, or its method has no adapter.
    """
    archive, keys, config = _read(path)
    adapter = _adapter(config)
    if _is_of_steps(config):
        inputs, compare = steps.INPUTS, _by_steps
    else:
        inputs = getattr(adapter, "INPUTS", STEP_INPUTS)
        compare = _by_adapter if hasattr(adapter, "arrays") else _by_name
    given = (*_DESCRIPTION, *_SHARED, *inputs)
    chosen = [name for name in archive if plain(name) not in given]
    results = {name: archive[name] for name in chosen if only is None or name in only}
    network = Network(adapter, archive, config, keys)
    order = {name: index for index, name in enumerate(archive)}
    wrong = network.wrong_names()
    names = Row("keys", float(len(wrong)), Tolerance(0), f"first at {wrong[0]}" if wrong else "")
    return sorted([names, *compare(network, results)], key=lambda row: order[row.name])


def _is_of_steps(config: dict[str, Any]) -> bool:
    return "keys_of" in config


def _by_steps(network: Network, results: dict[str, np.ndarray]) -> Iterator[Row]:
    """Yield the rows of a fixture of several optimizer steps."""
    wanted = dict(results)
    for name, found in steps.arrays(network, network.archive):
        if name in wanted:
            apart = steps.difference(wanted.pop(name), found)
            yield Row(name, apart, steps.tolerance(network, name))
    for name in wanted:
        yield Row(name, None, None, "nothing computes this array")


def _by_name(network: Network, results: dict[str, np.ndarray]) -> Iterator[Row]:
    """Yield the rows of arrays whose names say what they hold."""
    runs = collections.defaultdict(list)
    for name in results:
        parsed = (name, ()) if name in STEP_QUANTITIES else parse(name)
        if parsed is None:
            yield Row(name, None, None, "the naming rule does not know this array")
        else:
            tolerance = network.adapter.tolerance(*parsed)
            runs[run_of(name, *parsed, tolerance, network.config)].append(
                (name, *parsed, tolerance)
            )
    # Sentence lengths together, since each is a network of its own; float32 first,
    # which needs less memory.
    for run in sorted(runs, key=lambda run: (run.tokens[0], run.fill_seed, run.float64, run.train)):
        found = network.run(run)
        for name, quantity, suffixes, tolerance in runs[run]:
            if quantity not in found:
                yield Row(name, None, None, "the adapter does not compute this array")
                continue
            yield Row(
                name, _difference(results[name], found[quantity], suffixes, tolerance), tolerance
            )


def _by_adapter(network: Network, results: dict[str, np.ndarray]) -> Iterator[Row]:
    """Yield the rows of arrays that the adapter computes, and of those that it passes over."""
    given, config = network.archive, {**network.config, "alternative": False}
    yield from _computed(network, results, given, config, [n for n in results if plain(n) == n])
    if alternatives := [name for name in results if plain(name) != name]:
        # They are a fixture of their own, of another input and the same weights. What the first
        # input was given the second is given, too, unless the fixture says otherwise.
        given = {**given, **{plain(name): given[name] for name in given if plain(name) != name}}
        size = config.get("size_alt", config["size"])
        config = {**config, "alternative": True, "size": size}
        yield from _computed(network, results, given, config, alternatives)


def _computed(
    network: Network,
    results: dict[str, np.ndarray],
    given: dict[str, np.ndarray],
    config: dict[str, Any],
    names: list[str],
) -> Iterator[Row]:
    """Yield the rows of `names`, which the adapter computes on one input."""
    adapter, wanted = network.adapter, {plain(name): name for name in names}
    found = adapter.arrays(network.filled, given, config, network.keys)
    # What comes after the last array that is wanted, such as a training pass, is not computed.
    while wanted and (pair := next(found, None)):
        if name := wanted.pop(pair[0], None):
            tolerance = adapter.tolerance(pair[0], ())
            yield Row(name, _difference(results[name], pair[1], (), tolerance), tolerance)
    for name in wanted.values():
        yield Row(name, None, None, "the adapter does not compute this array")


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Return the arrays, keys and configuration of a fixture.

    One of several steps has the keys, and what else it shares, in the fixture that it names, which
    lies beside it.
    """
    try:
        with np.load(path) as file:
            archive = {name: file[name] for name in file.files}
        config = json.loads(str(archive["config"]))
        if _is_of_steps(config):
            shared, keys, whole = _read(path.with_name(config["keys_of"]))
            archive |= {name: shared[name] for name in ("keys", *_SHARED) if name in shared}
            # MaskRIS trains the network of another method.
            config = {**whole, **config, "method": whole["method"], "trained": config["method"]}
            return archive, keys, config
        keys = json.loads(str(archive["keys"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"This is no parity fixture ({error}); give an .npz file with `keys` and `config`."
        ) from error
    return archive, keys, config


def _adapter(config: dict[str, Any]) -> ModuleType:
    here = pathlib.Path(__file__).parent
    tools = {"__init__", "__main__", "arrays", "check", "fill", "names", "network", "steps"}
    adapters = {
        file.stem for file in here.glob("*.py") if not file.stem.startswith("test_")
    } - tools
    # The fixtures call both of TRIS' networks by one method's name.
    second = config["method"] == "tris" and config["network"].startswith("step 2")
    method = "tris_step2" if second else config["method"]
    choose(method, adapters, "parity adapter for method")
    return importlib.import_module(f"tests.parity.{method}")


def _difference(
    stored: np.ndarray, found: Any, suffixes: tuple[str, ...], tolerance: Tolerance
) -> float:
    if isinstance(found, dict):
        return _norm_difference(json.loads(str(stored)), found, tolerance.noisy)
    if isinstance(found, set):  # of names: how many disagree
        return float(len(found.symmetric_difference(json.loads(str(stored)))))
    if stored.dtype == np.uint8:  # packed bits: how many differ
        return float(np.bitwise_count(stored ^ found).sum())
    value = np.asarray(found, np.float64)
    if {"sub", "strided"} & set(suffixes):
        value = value[tuple(map(_every, value.shape, stored.shape))]
    if value.shape != stored.shape:
        return float("inf")
    difference = np.abs(value - stored)
    return float((difference / np.abs(stored) if tolerance.relative else difference).max())


def _every(have: int, want: int) -> slice:
    """Return the subsample of an axis of `have` entries that leaves `want`; everything
    where more than one stride would.
    """
    strides = [stride for stride in range(1, have + 1) if -(-have // stride) == want]
    return slice(None, None, strides[0] if len(strides) == 1 else None)


def _norm_difference(
    expected: dict[str, float | None], found: dict[str, float | None], noisy: str = ""
) -> float:
    """Return the largest relative difference, a tenth of it for `noisy`; infinite where
    one has a value and the other none.
    """
    floor = _NOISE_FLOOR * max(value for value in expected.values() if value is not None)
    worst = 0.0
    for name, value in expected.items():
        other = found.get(name)
        if (value is None) != (other is None):
            return float("inf")
        if value is not None:
            difference = abs(other - value) / max(value, floor) / (10 if name == noisy else 1)
            worst = max(worst, difference if difference == difference else float("inf"))
    return worst
