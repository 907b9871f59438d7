"""Six optimizer steps of the suite's own training beside those of the published loop.

The steps are `Stepper.optimize`, on the optimizer that `build_optimizer` makes. A fixture's
published groups may be divided otherwise than ours, so what is said of a group is looked up by the
names of its parameters.
"""

import json
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmark.strategies.baseline import Baseline
from benchmark.strategies.strategy import Strategy
from benchmark.training.stepper import Stepper
from benchmark.training.updates import Updates
from methods.config import Recipe
from methods.contract import Method, Text
from tests.parity import fill
from tests.parity.arrays import Tolerance
from tests.parity.names import published_names
from tests.parity.network import Network, Prepared, stored_masks

# Parameters whose true gradient is 0. What moves them is rounding, so they are not compared.
INPUTS = ("zero_gradient",)
# What a fixture changes of the published recipe: an option of the published code -> our field.
_OPTIONS = {
    "base_lr": "learning_rate",
    "milestones": "milestones",
    "warmup_iters": "warmup_steps",
    "lr_warmup_iter": "warmup_steps",
}
_NAMES = ("groups", "unmoved", "no_gradient")  # Sets of names, of which those that differ count.
_JSON = (*_NAMES, "zero_gradient", "param_norms", "moved", "grad_norms")
_LIMITS = {"rates": 1e-12, "moved": 1e-8, "other": 1e-8}
_MASKED, _LAST_SPECIAL = 103, 102  # ids of BERT


class _Watched(Updates):
    """Updates that remember the gradients' norms, as they are before clipping."""

    def _clip(self) -> Tensor:
        self.gradients = {
            id(parameter): float(parameter.grad.norm())
            for parameter in self.network.parameters()
            if parameter.grad is not None
        }
        norm = super()._clip()
        self.norm = norm.item()
        return norm


def _watched(method: Method, recipe: Recipe, steps_per_epoch: int) -> Stepper:
    """Return what takes the steps of a method, without data and the directory of a run."""
    spec = types.SimpleNamespace(recipe=recipe, strategy=None, seed=0, key="parity")
    stepper = Stepper(spec, method.train(), None, Accelerator(cpu=True), steps_per_epoch)
    stepper.updates = _Watched(spec, stepper.network, stepper.optimizer, stepper.device)
    return stepper


def arrays(network: Network, archive: dict[str, np.ndarray]) -> Iterator[tuple[str, Any]]:
    """Yield what a fixture of six steps holds, as `Network`'s method computes it.

    Args:
        network: the network, whose `config` is the fixture's.
        archive: the arrays of the fixture.
    """
    config = network.config
    stepper = _watched(_started(network), _recipe(network), config["steps_per_epoch"])
    log = _Log(network, stepper, archive)
    for step in range(config["steps"]):
        stepper.spec.strategy = _strategy(config, step)
        losses = stepper.optimize([_batch(network, step)], step // config["steps_per_epoch"])
        log.note(losses["train/loss"])
    yield from log.arrays()


def tolerance(network: Network, name: str) -> Tolerance:
    """Return how exactly an array is compared. Counts of names are compared exactly."""
    if name in _NAMES:
        return Tolerance(0)
    limits = _LIMITS | getattr(network.adapter, "STEP_LIMITS", {})
    kind = "rates" if name == "learning_rates" else "moved" if "moved" in name else "other"
    return Tolerance(limits[kind], relative=True, float64=True)


def difference(stored: np.ndarray, found: Any) -> float:
    """Return how far a stored array and what `arrays` yields for it differ, NaN where one lacks it.

    It is the largest relative difference of numbers, and the number of names that differ.
    """
    if isinstance(found, set):
        return float(len(found))
    if isinstance(found, dict):
        apart = [
            difference(np.array(value), found[name]) if name in found else np.inf
            for name, value in json.loads(str(stored)).items()
        ]
        return float(np.max(apart))
    value = np.asarray(found, np.float64)
    if value.shape != stored.shape:
        return float("inf")
    scale = np.where(stored == 0, 1, np.abs(stored))
    return float(np.max(np.abs(value - stored) / scale))


def _started(network: Network) -> Method:
    method = network.filled(0)
    if hasattr(network.adapter, "complete"):
        network.adapter.complete(method, network.archive, network.config)
    return method.double()


def _recipe(network: Network) -> Recipe:
    config = network.config
    variant = getattr(network.adapter, "STEP_VARIANT", "paper")
    published = network.method.definition.recipes[variant]
    changes = {
        new: config["options"][old] for old, new in _OPTIONS.items() if old in config["options"]
    }
    batch = config["batch"]
    changes |= {"epochs": config["epochs"], "batch_size": batch, "micro_batch": batch}
    return type(published).model_validate({**dict(published), **changes, "precision": "fp32"})


def _batch(network: Network, step: int) -> Prepared:
    """Return the batch of a step, and put the noise of the step into the method."""
    config, adapter = network.config, network.adapter
    count, size, seed = config["batch"], config["size"], config["seeds"][step]
    ids, attention = map(torch.from_numpy, adapter.tokens(count, config["words"], seed))
    batch = Prepared(
        torch.from_numpy(fill.image(count, size, size, seed)).double(),
        Text(ids, attention),
        torch.from_numpy(fill.mask(count, size, size)).double()[:, None],
        list(range(count)),
    )
    if hasattr(adapter, "step_negatives"):
        batch.negatives = adapter.step_negatives(config, seed)
    if hasattr(adapter, "step_noise"):
        noise = adapter.step_noise(config, seed)
        network.method.draws = lambda generators: noise
    return batch


def _strategy(config: dict[str, Any], step: int) -> Strategy:
    """Return the strategy of a step, with what MaskRIS' published code masks in it."""
    if config["trained"] != "maskris":
        return Baseline(name="baseline")
    options, count, seed = config["options"], config["batch"], config["seeds"][step]
    side = config["size"] // options["img_patch_size"]
    noise = np.random.Generator(np.random.PCG64(5_000_003 + seed)).random((count, side * side))
    kept = round(side * side * (1 - options["img_mask_ratio"]))
    masked = np.ones((count, side * side), bool)
    np.put_along_axis(masked, noise.argsort(1)[:, :kept], False, 1)
    ids = fill.bert_tokens(count, config["words"], seed)[0]
    chosen = np.random.Generator(np.random.PCG64(6_000_003 + seed)).random(ids.shape) < 0.5
    ids[chosen & (ids > _LAST_SPECIAL)] = _MASKED
    patches = torch.from_numpy(masked).unflatten(1, (side, side))
    return stored_masks(patches, torch.from_numpy(ids))


class _Log:
    """The norms of parameters, gradients and movements after each step, by published name."""

    def __init__(self, network: Network, stepper: Stepper, archive: dict[str, np.ndarray]) -> None:
        self.network, self.stepper = network, stepper
        self.stored = {name: json.loads(str(archive[name])) for name in _JSON}
        own = dict(network.method.network.named_parameters())
        names = published_names(network.weights, network.method.network)
        self.parameters: dict[str, Tensor] = {names[name]: its for name, its in own.items()}
        self.start = {name: its.detach().clone() for name, its in self.parameters.items()}
        self.group_of = {
            id(parameter): group
            for group in stepper.optimizer.param_groups
            for parameter in group["params"]
        }
        # Names of the published code's optimizer that our network does without.
        self.unused = {
            name: float(
                np.linalg.norm(
                    fill.fill(name, tuple(network.keys[name][0]), 0).ravel().astype(float)
                )
            )
            for group in self.stored["groups"]
            for name in group["names"]
            if name not in self.parameters
        }
        self.losses: list[float] = []
        self.totals: list[float] = []
        self.rates: list[dict[str, float]] = []
        self.norms: list[dict[str, float]] = []
        self.moved: list[dict[str, float]] = []
        self.gradients: list[dict[str, float]] = []

    def note(self, loss: float) -> None:
        """Note the step that was just taken."""
        self.losses.append(loss)
        self.totals.append(self.stepper.updates.norm)
        rates, norms, moved, gradients = {}, {}, {}, {}
        for name, parameter in self.parameters.items():
            if group := self.group_of.get(id(parameter)):
                rates[name] = group["lr"]
            norms[name] = float(parameter.detach().norm())
            moved[name] = float((parameter.detach() - self.start[name]).norm())
            if id(parameter) in self.stepper.updates.gradients:
                gradients[name] = self.stepper.updates.gradients[id(parameter)]
        self.rates.append(rates)
        self.norms.append({**norms, **self.unused})
        self.moved.append({**moved, **dict.fromkeys(self.unused, 0.0)})
        self.gradients.append(gradients)

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """Yield everything that a fixture of steps holds."""
        groups, noisy = self.stored["groups"], set(self.stored["zero_gradient"])
        yield "losses", self.losses
        yield "grad_norms_total", self.totals
        yield "learning_rates", self._learning_rates(groups)
        yield "groups", self._misplaced(groups)
        # The fixtures' norms leave out what never gets a gradient. Rounding alone moves what has no
        # true gradient, by far less than its norm.
        unused = set(self.stored["no_gradient"])
        for what, values, left_out in (("norms", self.norms, unused), ("moved", self.moved, noisy)):
            members = [[name for name in its["names"] if name not in left_out] for its in groups]
            everything = [name for names in members for name in names]
            yield f"group_{what}", [[_norm(step, names) for names in members] for step in values]
            yield f"total_{what}", [_norm(step, everything) for step in values]
        for name, values in (
            ("param_norms", self.norms),
            ("moved", self.moved),
            ("grad_norms", self.gradients),
        ):
            # A parameter without a gradient gives an array of NaN, which equals nothing.
            yield (
                name,
                {
                    key: [step.get(key, float("nan")) for step in values]
                    for key in self.stored[name]
                    if key not in noisy
                },
            )
        still = {name for name in self.moved[-1] if not any(step[name] for step in self.moved)}
        yield "unmoved", (still ^ set(self.stored["unmoved"])) - noisy
        optimized = {name for group in groups for name in group["names"]}
        silent = {name for name in optimized if not any(name in step for step in self.gradients)}
        yield "no_gradient", (silent ^ set(self.stored["no_gradient"])) - noisy
        state = self.network.weights.to_published(self.network.method.network.state_dict())
        yield (
            "running_stat_norms_after",
            {name: float(its.norm()) for name, its in state.items() if "running_" in name},
        )

    def _learning_rates(self, groups: list[dict[str, Any]]) -> list[list[float]]:
        """Return the one rate of each published group in each step, NaN where there are several."""
        rates = []
        for step in self.rates:
            found = [
                {step.get(name) for name in group["names"] if name not in self.unused}
                for group in groups
            ]
            rates.append([its.pop() if len(its) == 1 else float("nan") for its in found])
        return rates

    def _misplaced(self, groups: list[dict[str, Any]]) -> set[str]:
        """Return the names that decay otherwise than published or that only one side optimizes."""
        published = {name: group["weight_decay"] for group in groups for name in group["names"]}
        own = {
            name: self.group_of[id(parameter)]["weight_decay"]
            for name, parameter in self.parameters.items()
            if id(parameter) in self.group_of
        }
        names = (own.keys() | published.keys()) - self.unused.keys()
        return {name for name in names if own.get(name) != published.get(name)}


def _norm(norms: dict[str, float], names: list[str]) -> float:
    return float(np.linalg.norm([norms[name] for name in names]))
