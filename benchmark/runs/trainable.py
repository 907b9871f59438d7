"""What can be told of a training before it begins: whether its batches can be drawn and trained."""

from collections import defaultdict

from benchmark.base.errors import UserError
from benchmark.data.datasets import TRAIN
from benchmark.data.refer import ReferDataset
from methods.config import Definition, Recipe


def training_units(definition: Definition, dataset: ReferDataset) -> int:
    """Return how many units an epoch has, refs or expressions as the method counts them."""
    refs = dataset.refs_of(TRAIN)
    return len(refs) if definition.unit == "ref" else sum(len(ref.sentences) for ref in refs)


def check_trainable(definition: Definition, recipe: Recipe, dataset: ReferDataset) -> None:
    """Check that a method can be trained on a data set by a recipe.

    Raises:
        UserError: it cannot. The message says why, and what to change.
    """
    units = training_units(definition, dataset)
    smallest = recipe.smallest_micro_batch(units)
    if definition.batch_norm == "vectors" and smallest == 1:
        where = (
            "recipe.micro_batch is 1"
            if recipe.micro_batch == 1
            else f"{units} training units leave a last batch with one alone"
        )
        raise UserError(
            f"{definition.name} has BatchNorm over one vector a sample, which a batch of one sample"
            f" gives no statistics, and {where}: change recipe.batch_size or recipe.micro_batch,"
            " or set recipe.drop_last."
        )
    if definition.draws_negatives:
        _check_negatives(definition, dataset)


def _check_negatives(definition: Definition, dataset: ReferDataset) -> None:
    """Check that each referent has a sentence that is said of another, or in other words."""
    refs = dataset.refs_of(TRAIN)
    referents = defaultdict(set)
    for ref in refs:
        referents[ref.image_id].add(ref.ann_ids)
    alone = [image for image, others in referents.items() if len(others) == 1]
    said = {sentence.sent for ref in refs for sentence in ref.sentences}
    if alone and len(said) == 1:
        raise UserError(
            f"{definition.name} draws sentences of other referents, and {dataset.name} has none for"
            f" that of image {alone[0]}, since all its training sentences are '{said.pop()}': add"
            " other sentences, or train another method on it."
        )
