"""A method that no shared file knows of: it compares colours with a bag of words.

Tests name this file in RISBENCH_PLUGINS. Stored runs of `toy` (tests/runs/pins/old)
have keys made of what stands here, and weights that its layers start from.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from methods.config import IMAGENET_MEAN, IMAGENET_STD, Config, DataNeeds, Definition, Recipe

if TYPE_CHECKING:
    from methods.contract import Method

RISBENCH = {"methods": {"toy": "TOY"}}


class ToyRecipe(Recipe):
    """A recipe with one field of its own."""

    colour_weight: float = 1.0


@functools.cache
def load() -> type[Method]:
    """Return the smallest class that is a method, made here so that its description
    needs no torch.
    """
    from torch import nn

    from benchmark.base.geometry import restore
    from methods.contract import GuidedMethod, Output

    class Toy(GuidedMethod):
        definition = TOY

        def __init__(self, config, vocabulary_size):
            nn.Module.__init__(self)
            self.config = config
            self.words = nn.Embedding(vocabulary_size, 8)
            self.pixels = nn.Conv2d(3, 8, 3, stride=4, padding=1)

        @property
        def needs(self):
            return DataNeeds(32, "square", IMAGENET_MEAN, IMAGENET_STD, "sent", "bert", 8)

        def forward(self, batch, draws, purpose):
            places = self.encode_image(batch.images, draws)
            output = self.segment(places, batch.text)
            if purpose == "loss":
                output.extras = {"places": places, "words": self.words(batch.text.ids)}
            return output

        def encode_image(self, images, draws):
            return self.pixels(images)

        def segment(self, features, text):
            sentence = (self.words(text.ids) * text.attention[..., None]).mean(1)
            return Output((features * sentence[:, :, None, None]).sum(1, keepdim=True))

        def loss(self, output, batch):
            target = nn.functional.interpolate(batch.targets, output.logits.shape[-2:])
            loss = nn.functional.binary_cross_entropy_with_logits(output.logits, target)
            return {"bce": loss}

        def distillation(self, student, teacher):
            target = teacher.logits.sigmoid()
            return nn.functional.binary_cross_entropy_with_logits(student.logits, target)

        def mask(self, logits, geometry):
            at_input = nn.functional.interpolate(logits[None, None], (geometry.size,) * 2)
            return restore(at_input[0, 0], geometry) > 0

        def parameter_groups(self, recipe):
            return [{"name": "all", "params": list(self.parameters())}]

        def schedule(self, recipe, step, steps_per_epoch):
            return [recipe.learning_rate]

    return Toy


_RECIPE = ToyRecipe(epochs=2, batch_size=4, micro_batch=4, learning_rate=1e-2, optimizer="adam")

TOY = Definition(
    name="toy",
    load=load,
    config_type=Config,
    recipe_type=ToyRecipe,
    text=("bert", "sent"),
    guides=True,
    variants={
        "tiny": Config(size=32, max_length=8, departures=("a toy",)),
        "paper": Config(size=32, max_length=8),
    },
    recipes={"tiny": _RECIPE, "paper": _RECIPE},
)
