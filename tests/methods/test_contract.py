"""The contract that every method keeps, and one more method that no shared file knows of."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import methods
from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry
from benchmark.base.pretrained import Source
from benchmark.base.rng import generator
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer
from methods.contract import Batch, GuidedMethod, Hidden, Output, Text
from tests.helpers import PROJECT, tiny_spec

NAMES = methods.names()
TOY = PROJECT / "tests" / "plugins" / "toy_method.py"
VOCABULARY = 120


def build(name, variant="tiny"):
    method = methods.get(name)
    torch.manual_seed(0)
    return method(method.definition.variants[variant], VOCABULARY)


def batch_for(network, count=4):
    needs = network.needs
    draw = generator("contract")
    ids = torch.zeros(count, needs.max_length, dtype=torch.int64)
    for row in range(count):
        words = draw.integers(5, VOCABULARY - 2, 3 + row % (needs.max_length - 5))
        ids[row, : len(words) + 2] = torch.tensor([VOCABULARY - 2, *words, VOCABULARY - 1])
    images = torch.from_numpy(
        draw.standard_normal((count, 3, needs.size, needs.size), dtype=np.float32)
    )
    targets = torch.from_numpy(
        draw.random((count, 1, needs.size, needs.size), dtype=np.float32)
    ).round()
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
    """A sentence's mask must not depend on how long the other sentences of the batch
    are, nor on what the padding holds.
    """
    network = build(name).eval()
    batch = batch_for(network)
    with torch.no_grad():
        alone = network.segment(
            network.encode_image(batch.images[:1], network.draws(noise(1))), batch.text[:1]
        ).logits
        together = network.segment(
            network.encode_image(batch.images, network.draws(noise(4))), batch.text
        ).logits
    torch.testing.assert_close(alone[0], together[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_distillation_is_least_at_the_teacher(name):
    network = build(name).train()
    batch = batch_for(network)
    output = network(batch, network.draws(noise(4)), "loss")
    teacher = Output(
        output.logits.detach(), {key: value.detach() for key, value in output.extras.items()}
    )

    def moved(by):
        return Output(
            teacher.logits + by,
            {key: value + by * shift(value) for key, value in teacher.extras.items()},
        )

    def shift(value):
        # A two-class map moves its foreground channel alone; moving both would change
        # nothing.
        direction = torch.zeros_like(value)
        direction[:, -1:] = 1
        return direction

    here = network.distillation(moved(0.0), teacher)
    assert here.ndim == 0
    assert (
        network.distillation(moved(2.0), teacher) > here
        and network.distillation(moved(-2.0), teacher) > here
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", [(60, 90), (97, 41)])
def test_mask_is_decided_at_the_original_size(name, height, width):
    network = build(name).eval()
    needs = network.needs
    batch = batch_for(network, 1)
    with torch.no_grad():
        logits = network.segment(
            network.encode_image(batch.images, network.draws(noise(1))), batch.text
        ).logits
    mask = network.mask(logits[0, 0], Geometry(height, width, needs.size, needs.geometry))
    assert mask.shape == (height, width) and mask.dtype == bool
    high = network.mask(
        torch.full_like(logits[0, 0], 50.0), Geometry(height, width, needs.size, needs.geometry)
    )
    assert high.all() or not high.any(), "a constant map is decided the same everywhere"


@pytest.mark.parametrize("name", NAMES)
def test_variants_differ_by_configuration_alone(name):
    method, variants = methods.get(name), methods.definition(name).variants

    def types(variant):
        with torch.device("meta"):
            return {type(module) for module in method(variants[variant], VOCABULARY).modules()}

    paper = types("paper") - {nn.Identity}
    for variant in ("tiny", "small"):
        assert types(variant) - {nn.Identity} == paper, variant
        departures = variants[variant].departures
        assert departures, "a variant that is not the published one says where it departs"
    assert not variants["paper"].departures


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_and_schedule(name):
    method, definition = methods.get(name), methods.definition(name)
    for variant, recipe in definition.recipes.items():
        with torch.device("meta"):
            network = method(definition.variants[variant], VOCABULARY)
        groups = network.parameter_groups(recipe)
        found = [id(parameter) for group in groups for parameter in group["params"]]
        assert len(found) == len(set(found)) > 0
        assert set(found) <= {id(parameter) for parameter in network.parameters()}
        for step in (0, 1, 99, 100 * recipe.epochs - 1):
            rates = network.schedule(recipe, step, 100)
            assert len(rates) == len(groups) and all(
                0 <= rate <= 10 * recipe.learning_rate for rate in rates
            )


@pytest.mark.parametrize("name", NAMES)
def test_published_starting_weights_that_cannot_be_had_are_named(name, tmp_path):
    """Offline and with an empty cache: one sentence, and never random weights under a
    published name.
    """
    method, variants = methods.get(name), methods.definition(name).variants
    for variant, config in variants.items():
        assert (config.pretrained != "scratch") == variant.startswith("paper")
    message = r"could not be loaded.*fetch https://huggingface\.co/\S+ .*--pretrained"
    with pytest.raises(UserError, match=message):
        method.weights.starting_weights(variants["paper"], Source(tmp_path, offline=True))


def test_a_misspelt_method_lists_the_nearest():
    with pytest.raises(UserError, match="method 'crsi' is not known: did you mean cris"):
        methods.get("crsi")


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_describes_its_class(name):
    definition, method = methods.definition(name), methods.get(name)
    assert method.definition is definition and definition.name == name
    assert definition.has_published_weights == (method.weights is not None)
    for variant, config in definition.variants.items():
        assert type(config) is definition.config_type
        assert type(definition.recipes[variant]) is definition.recipe_type
        assert definition.config_for(variant, "refcoco").size == config.size
    needs = build(name).needs
    assert (needs.tokenizer, needs.text_field) == definition.text
    assert needs.unit == definition.unit
    if definition.targets_from:
        assert methods.definition(definition.targets_from).weakly_supervised


def test_a_revision_belongs_to_a_variant_and_a_precision():
    raised = dataclasses.replace(methods.definition("lavt"), revisions={("paper", "fp16"): 2})
    assert raised.revision("paper", "fp16") == raised.revision("tiny", "fp16") + 1
    assert raised.revision("paper", "fp32") == raised.revision("tiny", "fp32") == 1


def test_a_fix_of_numbers_raises_the_revision_of_what_it_moves_alone():
    revisions = {
        (name, variant, precision): methods.definition(name).revision(variant, precision)
        for name in methods.names()
        for variant in methods.definition(name).variants
        for precision in ("fp32", "tf32", "bf16", "fp16")
    }

    def moved(name, variant):
        """Return how often the numbers of a variant moved."""
        once = name in ("cmmasksd", "cris", "etris", "tris")
        # Attention may round otherwise, which was compared bit by bit on tiny networks alone.
        wide = variant != "tiny" and name in ("cris", "etris", "tris_step2")
        return 2 if name == "sag" else once + wide

    assert revisions == {
        row: 1 + moved(*row[:2]) + (row[2] in ("bf16", "fp16")) for row in revisions
    }


def test_runs_with_autocast_have_a_revision_of_their_own():
    """They were evaluated in float32 once. Other runs keep their keys."""
    lavt = methods.definition("lavt")
    revisions = {name: lavt.revision("tiny", name) for name in ("fp32", "tf32", "bf16", "fp16")}
    assert revisions == {"fp32": 1, "tf32": 1, "bf16": 2, "fp16": 2}


def test_every_variant_needs_a_recipe():
    with pytest.raises(UserError, match="cris needs one recipe for each of its variants.*'tiny'"):
        cris = methods.definition("cris")
        dataclasses.replace(cris, recipes={k: v for k, v in cris.recipes.items() if k != "tiny"})


def test_descriptions_are_read_without_torch():
    """Planning, status and reports know all methods, and start in a moment."""
    code = """
import importlib, sys, methods
from methods.backbones import sizes
for name in methods.names():
    importlib.import_module(f"methods.{name}.config")
    methods.definition(name)
print({"torch", "timm", "transformers", "open_clip", "numpy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_guided_method_says_what_it_brought_together(name):
    definition = methods.definition(name)
    assert definition.guides == issubclass(methods.get(name), GuidedMethod)
    network = build(name).train()
    batch = batch_for(network)
    aligned = network.aligned(network(batch, network.draws(noise(4)), "loss"))
    assert aligned.places.ndim == 4 and aligned.words.shape[:2] == batch.text.ids.shape
    features = [value for value in vars(aligned).values() if value is not None]
    assert all(value.dtype == torch.float32 and len(value) == 4 for value in features)
    assert not any(value.requires_grad for value in features)
    if definition.hides:
        assert aligned.sentence.shape[1] == aligned.places.shape[1]
        assert aligned.image.shape[1] == aligned.words.shape[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_method_that_hides_does_not_see_what_is_hidden(name):
    network = build(name).eval()
    batch = batch_for(network)
    draws = network.draws(noise(4))
    words = torch.zeros(batch.text.ids.shape, dtype=torch.bool)
    words[:, 1] = True
    ids = batch.text.ids.clone()
    ids[:, 1] = 7
    with torch.no_grad():
        logits = [
            network(
                dataclasses.replace(batch, text=text, hidden=Hidden(words=words)),
                draws,
                "prediction",
            ).logits
            for text in (batch.text, dataclasses.replace(batch.text, ids=ids))
        ]
    assert torch.equal(*logits) == methods.definition(name).hides


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("strategy", ["baseline", "maskris", "masking", "amlris", "split-masking"])
def test_a_seventh_method_needs_no_edit_elsewhere(boxes, tmp_path, monkeypatch, strategy):
    monkeypatch.setenv("RISBENCH_PLUGINS", str(TOY))
    assert "toy" in methods.names()
    spec, places = tiny_spec(boxes, "toy", strategy)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    assert run.spec() == spec
    assert isinstance(run.spec().recipe, methods.definition("toy").recipe_type)
    Trainer(spec, run, Opened(places), Execution.of(device="cpu")).train()
    assert run.status().state == "done"
    assert set(run.read_json("result.json")) >= {"val", "testA", "testB"}


def test_a_method_of_a_plugin_has_one_name(tmp_path, monkeypatch):
    plugin = tmp_path / "plugin.py"
    declaration = 'RISBENCH = {"methods": {"mine": "DEFINITION"}}'
    plugin.write_text(f"from methods.cris.config import DEFINITION\n{declaration}\n")
    monkeypatch.setenv("RISBENCH_PLUGINS", str(plugin))
    with pytest.raises(UserError, match="'mine' is called 'cris' in its Definition"):
        methods.get("mine")
