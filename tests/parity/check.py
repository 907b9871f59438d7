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
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from benchmark.base.errors import UserError, choose
from benchmark.strategies.maskris import MaskRIS
from benchmark.strategies.strategy import MicroBatch
from methods.config import DataNeeds
from methods.contract import Batch, Method, Output, Text
from tests.parity import fill
from tests.parity.arrays import STEP_INPUTS, STEP_QUANTITIES, Run, Tolerance, parse, run_of
from tests.parity.names import published_names

_DESCRIPTION = ("keys", "config")
# Published name -> the name of the same tensor, where a state dict lists one tensor twice.
_ALIASES = "aliases"
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
    inputs = getattr(adapter, "INPUTS", STEP_INPUTS)
    chosen = [name for name in archive if name not in (*_DESCRIPTION, _ALIASES, *inputs)]
    results = {name: archive[name] for name in chosen if only is None or name in only}
    network = _Network(adapter, archive, config, keys)
    compare = _by_adapter if hasattr(adapter, "arrays") else _by_name
    order = {name: index for index, name in enumerate(archive)}
    return sorted(
        [network.names_row(), *compare(network, results)], key=lambda row: order[row.name]
    )


def _by_name(network: "_Network", results: dict[str, np.ndarray]) -> Iterator[Row]:
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
            yield Row(
                name, _difference(results[name], found[quantity], suffixes, tolerance), tolerance
            )


def _by_adapter(network: "_Network", results: dict[str, np.ndarray]) -> Iterator[Row]:
    """Yield the rows of arrays that the adapter computes, and of those that it passes over."""
    adapter, compared = network.adapter, set()
    for name, found in adapter.arrays(
        network.filled, network.archive, network.config, network.keys
    ):
        compared.add(name)
        if name in results:
            tolerance = adapter.tolerance(name, ())
            yield Row(name, _difference(results[name], found, (), tolerance), tolerance)
    for name in results.keys() - compared:
        yield Row(name, None, None, "the adapter does not compute this array")


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    try:
        with np.load(path) as file:
            archive = {name: file[name] for name in file.files}
        keys, config = (json.loads(str(archive[name])) for name in _DESCRIPTION)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"This is no parity fixture ({error}); give an .npz file with `keys` and `config`."
        ) from error
    return archive, keys, config


def _adapter(config: dict[str, Any]) -> ModuleType:
    here = pathlib.Path(__file__).parent
    tools = {"__init__", "__main__", "arrays", "check", "fill"}
    adapters = {
        file.stem for file in here.glob("*.py") if not file.stem.startswith("test_")
    } - tools
    # The fixtures call both of TRIS' networks by one method's name.
    second = config["method"] == "tris" and config["network"].startswith("step 2")
    method = "tris_step2" if second else config["method"]
    choose(method, adapters, "parity adapter for method")
    return importlib.import_module(f"tests.parity.{method}")


class _Network:
    """The method's network under the fixture's weights; built once per sentence length,
    refilled for every run.
    """

    def __init__(
        self,
        adapter: ModuleType,
        archive: dict[str, np.ndarray],
        config: dict[str, Any],
        keys: dict[str, Any],
    ) -> None:
        self.adapter, self.archive, self.config, self.keys = adapter, archive, config, keys
        self.inputs = {
            name: torch.from_numpy(archive[name]) for name in STEP_INPUTS if name in archive
        }
        self.aliases = json.loads(str(archive[_ALIASES])) if _ALIASES in archive else {}
        self.words = self.fill_seed = None
        self._build(config["words"])

    def _build(self, words: int) -> None:
        if words != self.words:
            self.method: Method = self.adapter.build(self.config, self.keys, words)
            self.words = words
            _without_dropout(self.method)

    def _published(self) -> dict[str, Tensor]:
        state = self.adapter.weights.to_published(self.method.network.state_dict())
        return {name.removeprefix("module."): value for name, value in state.items()}

    def names_row(self) -> Row:
        """Compare the names, shapes and types of the state dict; the difference counts
        the entries that disagree.
        """
        own = {
            name: [list(value.shape), str(value.dtype).removeprefix("torch.")]
            for name, value in self._published().items()
        }
        names = (own.keys() | self.keys.keys()) - getattr(self.adapter, "UNREAD", frozenset())
        wrong = sorted(name for name in names if own.get(name) != self.keys.get(name))
        return Row("keys", float(len(wrong)), Tolerance(0), f"first at {wrong[0]}" if wrong else "")

    def _fill(self, seed: int) -> None:
        if seed != self.fill_seed:
            self.state = self.adapter.weights.from_published(
                {
                    name: torch.from_numpy(
                        np.asarray(fill.fill(self.aliases.get(name, name), tuple(shape), seed))
                    )
                    for name, (shape, dtype) in self.keys.items()
                    if dtype.startswith("float") and not name.startswith("criterion.")
                }
            )
            self.fill_seed = seed
        own = self.method.network.state_dict()
        if missing := [
            name
            for name, value in own.items()
            if value.is_floating_point() and name not in self.state
        ]:
            raise UserError(
                f"The fixture lacks '{missing[0]}': the network is not the published one."
            )
        self.method.network.load_state_dict({**own, **self.state})

    def filled(self, seed: int) -> Method:
        """Return the network as an adapter's `arrays` takes it: filled with `seed`,
        float32, in eval mode, without gradients.
        """
        self._fill(seed)
        self.method.zero_grad(set_to_none=True)
        return self.method.eval()

    def run(self, run: Run) -> dict[str, Any]:
        """Return quantity -> value of one pass."""
        self._build(run.tokens[0])
        self._fill(run.fill_seed)
        dtype = torch.float64 if run.float64 else torch.float32
        method = self.method.to(dtype).train(run.train)
        method.zero_grad(set_to_none=True)
        batch, height, width, seed = run.image
        images = torch.from_numpy(fill.image(batch, height, width, seed)).to(dtype)
        target = torch.from_numpy(fill.mask(batch, height, width)).to(dtype)[:, None]
        if run.step:
            return self._step(images, target)
        ids, attention = map(torch.from_numpy, self.adapter.tokens(batch, *run.tokens))
        with torch.set_grad_enabled(run.train):
            if run.words:
                states = torch.from_numpy(fill.words(batch, run.tokens[0])).to(dtype)
                output = self.adapter.forward_words(method, images, states, attention)
            else:
                output = self.adapter.forward(method, images, ids, attention)
        if not run.train:
            found = {"eval_logits": self.adapter.logits(output)}
            if hasattr(self.adapter, "full"):
                found["eval_full"] = self.adapter.full(output, (height, width))
            return found
        loss = self._backward(
            output, Batch(images, Text(ids, attention), target, list(range(batch)))
        )
        return {
            "train_logits": self.adapter.logits(output).detach(),
            "train_loss": loss,
            "grad_norms": self._gradient_norms(),
            "running_stat_norms_after": {
                name: float(value.double().norm()) for name, value in self._published().items()
            },
        }

    def _step(self, images: Tensor, target: Tensor) -> dict[str, Any]:
        """Return what the suite's own step of MaskRIS computes, on the fixture's
        sentences and masks.
        """
        text = Text(self.inputs["ids"], self.inputs["attention_mask"])
        batch = _Prepared(images, text, target, list(range(len(images))))
        strategy = _stored_masks(self.inputs["image_mask"].bool(), self.inputs["masked_ids"])
        outputs = []

        def network(batch: Batch, draws: dict[str, Tensor], purpose: str) -> Output:
            outputs.append(self.method(batch, draws, purpose))
            return outputs[-1]

        losses = strategy.step(
            MicroBatch(
                network=network,
                method=self.method,
                samples=batch,
                tokenizer=None,
                seed=0,
                epoch=0,
                key=("parity",),
                share=1.0,
                add_gradient=Tensor.backward,
                device=torch.device("cpu"),
            )
        )
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        return {
            "maskris_losses": [float(losses[f"train/loss_{name}"]) for name in ("ce", "dist")],
            "maskris_second_logits": self.adapter.logits(outputs[1]).detach(),
            "maskris_grad_norms": self._gradient_norms(),
            "maskris_total_grad_norm": float(nn.utils.get_total_norm(gradients)),
        }

    def _backward(self, output: Output, batch: Batch) -> float:
        loss = sum(self.method.loss(output, batch).values())
        loss.backward()
        return float(loss.detach())

    def _gradient_norms(self) -> dict[str, float | None]:
        network = self.method.network
        names = published_names(self.adapter.weights, network)
        return {
            names[name]: None if parameter.grad is None else float(parameter.grad.norm())
            for name, parameter in network.named_parameters()
        }


class _Prepared(Batch):
    """A batch in the place of `RawBatch`."""

    def prepare(self, needs: DataNeeds, device: torch.device) -> Batch:
        return self


def _stored_masks(patches: Tensor, ids: Tensor) -> MaskRIS:
    """Return the suite's MaskRIS, except that nothing is drawn.

    Its patches, bool (B, g, g), and masked ids (B, L) are the fixture's.
    """

    class StoredMasks(MaskRIS):
        def image_masks(self, micro: MicroBatch) -> Tensor:
            return patches

        def masked_text(self, micro: MicroBatch) -> Text:
            return Text(ids, micro.samples.text.attention)

    return StoredMasks(name="maskris", image_mask=True, text_mask=True, distillation=True)


def _without_dropout(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0


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
