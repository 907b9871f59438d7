"""What is refused at planning, since no batch of it could be drawn or trained."""

import dataclasses
import math

import pytest
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.data.samples import TrainingSamples
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.runs.trainable import check_trainable, training_units
from benchmark.training.trainer import Trainer
from methods.config import Recipe
from tests.helpers import tiny_spec

FIELDS = {"epochs": 1, "learning_rate": 1, "optimizer": "adam"}


def alike(dataset, sentence="a box", one_referent=True):
    """Return the data with one sentence for everything, and one referent an image."""
    refs, images = [], set()
    for ref in dataset.refs:
        if one_referent and ref.image_id in images:
            continue
        images.add(ref.image_id)
        said = tuple(dataclasses.replace(its, sent=sentence) for its in ref.sentences)
        refs.append(dataclasses.replace(ref, sentences=said))
    return dataclasses.replace(dataset, refs=refs)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("units", [1, 3, 4, 5, 6, 8, 9, 13])
def test_the_smallest_micro_batch_is_that_of_the_batches(boxes, units, drop_last):
    recipe = Recipe(**FIELDS, batch_size=4, micro_batch=2, drop_last=drop_last)
    samples = TrainingSamples.__new__(TrainingSamples)
    samples.units, samples.seed = [None] * units, 0
    steps = samples.order(0, recipe.batch_size, drop_last)
    sizes = [len(step[start : start + 2]) for step in steps for start in range(0, len(step), 2)]
    assert recipe.smallest_micro_batch(units) == min(sizes)


LAST_OF_ONE = {"batch_size": 17, "micro_batch": 17, "drop_last": False}


@pytest.mark.parametrize(
    ("changes", "reason", "remedy"),
    [
        ({"micro_batch": 1}, "recipe.micro_batch is 1", {"micro_batch": 2}),
        (LAST_OF_ONE, "18 training units leave a last batch with one", {"drop_last": True}),
    ],
)
def test_one_vector_under_batchnorm_is_refused_at_planning(boxes, changes, reason, remedy):
    recipe = {"epochs": 1, "batch_size": 4, "micro_batch": 4, **changes}
    with pytest.raises(UserError, match=f"cris has BatchNorm.*{reason}"):
        tiny_spec(boxes, "cris", "baseline", recipes={"cris": recipe})
    tiny_spec(boxes, "cris", "baseline", recipes={"cris": recipe | remedy})


@pytest.mark.parametrize("method", sorted({*methods.names()} - {"tris_step2"}))
def test_what_is_refused_is_what_torch_refuses(boxes, tmp_path, method):
    """The maps of one sample have statistics, and one vector has none."""
    alone = {"batch_size": 4, "micro_batch": 2, "drop_last": False}
    spec, places = tiny_spec(boxes, method, "baseline", recipes={method: alone})
    trainer = Trainer(spec, RunDir(tmp_path / spec.key), Opened(places), Execution.of(device="cpu"))
    trainer.stepper.network.train()
    batch = [trainer.samples.batch(trainer.samples.order(0, 1, False)[0], 0)]
    if methods.definition(method).batch_norm == "vectors":
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            trainer.stepper.optimize(batch, 0)
    else:
        assert math.isfinite(trainer.stepper.optimize(batch, 0)["train/loss"])


@pytest.mark.parametrize("name", methods.names())
def test_definitions_say_what_networks_have(boxes, name):
    definition = methods.definition(name)
    spec, places = tiny_spec(boxes, "cris")
    for variant in ("tiny", "small"):
        method = methods.get(name)(definition.variants[variant], 100).train()
        norms = [its for its in method.modules() if isinstance(its, _BatchNorm) and its.training]
        vectors = any(isinstance(its, nn.BatchNorm1d) for its in norms)
        assert definition.batch_norm == (("vectors" if vectors else "maps") if norms else None)
        assert bool(method.needs.negatives) == definition.draws_negatives


def test_units_are_counted_as_they_are_drawn(boxes):
    dataset = datasets.read("refcoco", "unc", boxes, None)
    assert training_units(methods.definition("cris"), dataset) == 18
    assert training_units(methods.definition("sag"), dataset) == 36


def test_negatives_that_do_not_exist_are_refused_at_planning(boxes):
    """The sampler would look for one without end."""
    dataset = datasets.read("refcoco", "unc", boxes, None)
    tris = methods.definition("tris")
    recipe = tris.recipes["tiny"]
    check_trainable(tris, recipe, dataset)
    # Other referents of the same image are negatives whatever is said of them.
    check_trainable(tris, recipe, alike(dataset, one_referent=False))
    with pytest.raises(UserError, match="tris draws sentences of other referents.*are 'a box'"):
        check_trainable(tris, recipe, alike(dataset))
    check_trainable(
        methods.definition("sag"), methods.definition("sag").recipes["tiny"], alike(dataset)
    )


def test_planning_looks_before_it_names_a_run(boxes, monkeypatch):
    dataset = Opened.dataset
    monkeypatch.setattr(Opened, "dataset", lambda *its: alike(dataset(*its)))
    with pytest.raises(UserError, match="since all its training sentences are"):
        tiny_spec(boxes, "tris", "baseline")
