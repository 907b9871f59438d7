"""The contract every registered method keeps, and a seventh method that no shared file knows of."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import methods
from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry, restore
from benchmark.base.rng import generator
from benchmark.runs.execution import Execution
from benchmark.runs.resolve import open_run
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer
from methods.config import IMAGENET_MEAN, IMAGENET_STD, Config, DataNeeds, Recipe
from methods.contract import Batch, Method, Output, Text
from tests.helpers import tiny_spec

NAMES = methods.names()
VOCABULARY = 120


def build(name, variant="tiny"):
    method = methods.get(name)
    torch.manual_seed(0)
    return method(method.variants[variant], VOCABULARY)


def batch_for(network, count=4):
    needs = network.needs
    draw = generator("contract")
    ids = torch.zeros(count, needs.max_length, dtype=torch.int64)
    for row in range(count):
        words = draw.integers(5, VOCABULARY - 2, 3 + row % (needs.max_length - 5))
        ids[row, : len(words) + 2] = torch.tensor([VOCABULARY - 2, *words, VOCABULARY - 1])
    images = torch.from_numpy(draw.standard_normal((count, 3, needs.size, needs.size), dtype=np.float32))
    targets = torch.from_numpy(draw.random((count, 1, needs.size, needs.size), dtype=np.float32)).round()
    negatives = Text(ids, (ids != 0).long()) if needs.negatives else None
    return Batch(images, Text(ids, (ids != 0).long()), targets, list(range(count)), negatives)


def noise(count):
    """Return one generator per image: an image's does not depend on how many there are."""
    return [generator("noise", image) for image in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_output_shapes_and_gradients(name):
    network = build(name).train()
    batch = batch_for(network)
    draws = network.draws(noise(4))
    output = network(batch, draws, "loss")
    assert output.logits.shape[:2] == (4, 1) and output.logits.requires_grad
    terms = network.loss(output, batch)
    total = sum(terms.values())
    assert total.ndim == 0 and torch.isfinite(total)
    total.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    prediction = network(batch, draws, "prediction")
    assert prediction.logits.shape == output.logits.shape


@pytest.mark.parametrize("name", NAMES)
def test_encoding_once_per_image_is_the_same_computation(name):
    network = build(name).eval()
    batch = batch_for(network)
    with torch.no_grad():
        draws = network.draws(noise(4))
        whole = network(batch, draws, "prediction").logits
        features = network.encode_image(batch.images, draws)
        again = network.segment(features, batch.text).logits
        repeated = tree_map(lambda feature: feature[torch.tensor([2, 2])], features)
        shared = network.segment(repeated, batch.text[torch.tensor([0, 2])]).logits
    torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared[1], whole[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_invisible(name):
    """A sentence's mask must not depend on how long the other sentences of the batch are, nor on what the padding holds."""
    network = build(name).eval()
    batch = batch_for(network)
    with torch.no_grad():
        alone = network.segment(network.encode_image(batch.images[:1], network.draws(noise(1))), batch.text[:1]).logits
        together = network.segment(network.encode_image(batch.images, network.draws(noise(4))), batch.text).logits
    torch.testing.assert_close(alone[0], together[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_distillation_is_least_at_the_teacher(name):
    network = build(name).train()
    batch = batch_for(network)
    output = network(batch, network.draws(noise(4)), "loss")
    teacher = Output(output.logits.detach(), {key: value.detach() for key, value in output.extras.items()})

    def moved(by):
        return Output(teacher.logits + by, {key: value + by * shift(value) for key, value in teacher.extras.items()})

    def shift(value):
        # A two-class map moves its foreground channel alone; moving both would change nothing.
        direction = torch.zeros_like(value)
        direction[:, -1:] = 1
        return direction

    here = network.distillation(moved(0.0), teacher)
    assert here.ndim == 0
    assert network.distillation(moved(2.0), teacher) > here and network.distillation(moved(-2.0), teacher) > here


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", [(60, 90), (97, 41)])
def test_mask_is_decided_at_the_original_size(name, height, width):
    network = build(name).eval()
    needs = network.needs
    batch = batch_for(network, 1)
    with torch.no_grad():
        logits = network.segment(network.encode_image(batch.images, network.draws(noise(1))), batch.text).logits
    mask = network.mask(logits[0, 0], Geometry(height, width, needs.size, needs.geometry))
    assert mask.shape == (height, width) and mask.dtype == bool
    high = network.mask(torch.full_like(logits[0, 0], 50.0), Geometry(height, width, needs.size, needs.geometry))
    assert high.all() or not high.any(), "a constant map is decided the same everywhere"


@pytest.mark.parametrize("name", NAMES)
def test_variants_differ_by_configuration_alone(name):
    method = methods.get(name)

    def types(variant):
        with torch.device("meta"):
            return {type(module) for module in method(method.variants[variant], VOCABULARY).modules()}

    paper = types("paper") - {nn.Identity}
    for variant in ("tiny", "small"):
        assert types(variant) - {nn.Identity} == paper, variant
        assert method.variants[variant].departures, "a variant that is not the published one says where it departs"
    assert not method.variants["paper"].departures


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_and_schedule(name):
    method = methods.get(name)
    for variant, recipe in method.recipes.items():
        assert isinstance(recipe, method.recipe_type)
        with torch.device("meta"):
            network = method(method.variants[variant], VOCABULARY)
        groups = network.parameter_groups(recipe)
        found = [id(parameter) for group in groups for parameter in group["params"]]
        assert len(found) == len(set(found)) > 0
        assert set(found) <= {id(parameter) for parameter in network.parameters()}
        for step in (0, 1, 99, 100 * recipe.epochs - 1):
            rates = network.schedule(recipe, step, 100)
            assert len(rates) == len(groups) and all(0 <= rate <= 10 * recipe.learning_rate for rate in rates)


@pytest.mark.parametrize("name", NAMES)
def test_published_starting_weights_that_cannot_be_had_are_named(name, monkeypatch, tmp_path):
    """Offline and with an empty cache: one sentence, and never random weights under a published name."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("RISBENCH_PRETRAINED", str(tmp_path))
    method = methods.get(name)
    for variant, config in method.variants.items():
        assert (config.pretrained != "scratch") == variant.startswith("paper")
    with pytest.raises(UserError, match=r"could not be loaded.*fetch https://huggingface\.co/\S+ .*--pretrained"):
        method.weights.starting_weights(method.variants["paper"])


def test_a_misspelt_method_lists_the_nearest():
    with pytest.raises(UserError, match="method 'crsi' is not known: did you mean cris"):
        methods.get("crsi")


class ToyRecipe(Recipe):
    """A recipe with one field of its own."""

    colour_weight: float = 1.0


class Toy(Method):
    """The smallest thing that is a method: it compares colours with a bag of words."""

    name = "toy"
    recipe_type = ToyRecipe
    text = ("bert", "sent")
    variants: ClassVar = {
        "tiny": Config(size=32, max_length=8, departures=("a toy",)),
        "paper": Config(size=32, max_length=8),
    }
    recipes: ClassVar = {
        name: ToyRecipe(epochs=2, batch_size=4, micro_batch=4, learning_rate=1e-2, optimizer="adam")
        for name in ("tiny", "paper")
    }

    def __init__(self, config, vocabulary_size):
        nn.Module.__init__(self)
        self.config = config
        self.words, self.pixels = nn.Embedding(vocabulary_size, 8), nn.Conv2d(3, 8, 3, stride=4, padding=1)

    @property
    def needs(self):
        return DataNeeds(32, "square", IMAGENET_MEAN, IMAGENET_STD, "sent", "bert", 8)

    def forward(self, batch, draws, purpose):
        return self.segment(self.encode_image(batch.images, draws), batch.text)

    def encode_image(self, images, draws):
        return self.pixels(images)

    def segment(self, features, text):
        sentence = (self.words(text.ids) * text.attention[..., None]).mean(1)
        return Output((features * sentence[:, :, None, None]).sum(1, keepdim=True))

    def loss(self, output, batch):
        target = nn.functional.interpolate(batch.targets, output.logits.shape[-2:])
        return {"bce": nn.functional.binary_cross_entropy_with_logits(output.logits, target)}

    def distillation(self, student, teacher):
        return nn.functional.binary_cross_entropy_with_logits(student.logits, teacher.logits.sigmoid())

    def mask(self, logits, geometry):
        size = (geometry.size, geometry.size)
        return restore(nn.functional.interpolate(logits[None, None], size)[0, 0], geometry) > 0

    def parameter_groups(self, recipe):
        return [{"name": "all", "params": list(self.parameters())}]

    def schedule(self, recipe, step, steps_per_epoch):
        return [recipe.learning_rate]


@pytest.mark.parametrize("strategy", ["baseline", "maskris", "masking"])
def test_a_seventh_method_needs_no_edit_elsewhere(boxes, tmp_path, monkeypatch, strategy):
    monkeypatch.setattr(methods, "_registered", dict(methods._registered))
    methods.register(Toy)
    assert "toy" in methods.names()
    spec, place = tiny_spec(boxes, "toy", strategy)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    assert run.spec() == spec and isinstance(run.spec().recipe, ToyRecipe)
    Trainer(spec, run, *open_run(spec, place), Execution(device="cpu")).train()
    assert run.status()["state"] == "done" and set(run.read_json("result.json")) >= {"val", "testA", "testB"}
