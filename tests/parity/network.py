"""A method's network under the weights of a fixture, and what its passes compute."""

import json
from types import ModuleType
from typing import Any

import numpy as np
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.strategies.maskris import MaskRIS
from benchmark.strategies.strategy import MicroBatch
from methods.config import DataNeeds
from methods.contract import Batch, Method, Output, Text
from tests.parity import fill
from tests.parity.arrays import STEP_INPUTS, Run
from tests.parity.names import published_names


class Network:
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
        # Two codes of one network may name its weights otherwise.
        self.weights = getattr(adapter, "names_of", lambda keys: adapter.weights)(keys)
        self.inputs = {
            name: torch.from_numpy(archive[name]) for name in STEP_INPUTS if name in archive
        }
        # Published name -> the name of the same tensor, where a state dict lists one twice.
        self.aliases = json.loads(str(archive["aliases"])) if "aliases" in archive else {}
        self.words = self.fill_seed = None
        self._build(config["words"])

    def _build(self, words: int) -> None:
        if words != self.words:
            self.method: Method = self.adapter.build(self.config, self.keys, words)
            self.words = words
            without_dropout(self.method)

    def _published(self) -> dict[str, Tensor]:
        state = self.weights.to_published(self.method.network.state_dict())
        return {name.removeprefix("module."): value for name, value in state.items()}

    def wrong_names(self) -> list[str]:
        """Return the entries of the state dict whose name, shape or type is not the published."""
        own = {
            name: [list(value.shape), str(value.dtype).removeprefix("torch.")]
            for name, value in self._published().items()
        }
        names = (own.keys() | self.keys.keys()) - getattr(self.adapter, "UNREAD", frozenset())
        return sorted(name for name in names if own.get(name) != self.keys.get(name))

    def _fill(self, seed: int) -> None:
        if seed != self.fill_seed:
            self.state = self.weights.from_published(
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
        batch = Prepared(images, text, target, list(range(len(images))))
        strategy = stored_masks(self.inputs["image_mask"].bool(), self.inputs["masked_ids"])
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
        names = published_names(self.weights, network)
        return {
            names[name]: None if parameter.grad is None else float(parameter.grad.norm())
            for name, parameter in network.named_parameters()
        }


class Prepared(Batch):
    """A batch in the place of `RawBatch`."""

    def prepare(self, needs: DataNeeds, device: torch.device) -> Batch:
        return self


def stored_masks(patches: Tensor, ids: Tensor) -> MaskRIS:
    """Return the suite's MaskRIS, except that nothing is drawn.

    Its patches, bool (B, g, g), and masked ids (B, L) are the fixture's.
    """

    class StoredMasks(MaskRIS):
        def image_masks(self, micro: MicroBatch) -> Tensor:
            return patches

        def masked_text(self, micro: MicroBatch) -> Text:
            return Text(ids, micro.samples.text.attention)

    return StoredMasks(name="maskris", image_mask=True, text_mask=True, distillation=True)


def without_dropout(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
