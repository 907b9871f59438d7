"""What a step, a forward pass and an evaluation take: `python -m tests.speed.steps`.

Pixels and sentences are random, so no data set is needed. Times are CPU time of this process on
one thread, which other processes of the machine hardly move. What is measured is the code of the
checkout that is imported, and each line of the output is a JSON object.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator

import methods
from benchmark import strategies
from benchmark.base.geometry import Geometry
from benchmark.base.rng import generator
from benchmark.cli.app import guarded
from benchmark.cli.options import names
from benchmark.data.images import EvaluationImage
from benchmark.data.refs import Ref, Sentence
from benchmark.data.samples import RawBatch
from benchmark.data.tokenizers import PUBLISHED_BERT_SIZE, Tokenizer
from benchmark.evaluation.predict import predict
from benchmark.runs.spec import RunSpec, Selection
from benchmark.training.stepper import Stepper
from methods.contract import Method

IMAGES, SENTENCES = 4, 3  # of an evaluation: images and sentences of each
WORDS = (2, 10)  # fewest and most words of a sentence
PUBLISHED_CLIP_SIZE = 49408
SMALL_VOCABULARY = 400  # word pieces of a variant that is trained from scratch


@dataclasses.dataclass
class Subject:
    """A method with random weights, and what is done with it.

    Attributes:
        stepper: takes its training steps.
        batch: random samples of a step.
        images: random images of an evaluation.
    """

    stepper: Stepper
    batch: RawBatch
    images: list[EvaluationImage]

    @property
    def method(self) -> Method:
        """The method itself."""
        return self.stepper.method

    def step(self) -> None:
        """Take one training step."""
        self.method.train()
        self.stepper.optimize([self.batch], 0)

    @torch.no_grad()
    def forward(self) -> None:
        """Compute the predictions for the batch, without a gradient."""
        self.method.eval()
        micro = self.stepper.micro_batch(self.batch, 0, ("forward",))
        micro.forward(micro.batch, "prediction", "forward")

    @torch.no_grad()
    def evaluation(self) -> None:
        """Predict the masks of all sentences of the images at their original size."""
        self.method.eval()
        predict(self.method, self.images, self.stepper.tokenizer, torch.device("cpu"))


def random_tokenizer(family: str, size: int) -> Tokenizer:
    """Return word pieces without words: each word of a sentence is the number of its id."""
    start, end = (size - 2, size - 1) if family == "clip" else (2, 3)
    return Tokenizer(
        family=family,
        size=size,
        start_id=start,
        end_id=end,
        mask_id=0 if family == "clip" else 4,
        special_ids=frozenset({0, start, end}),
        random_ids=range(size - 2) if family == "clip" else range(size),
        pieces=lambda sentence: [int(word) for word in sentence.split()],
        fingerprint="random",
    )


def random_sentences(rng: np.random.Generator, count: int, size: int) -> list[str]:
    """Return sentences of different lengths for `random_tokenizer`."""
    lengths = rng.integers(WORDS[0], WORDS[1], count, endpoint=True)
    return [" ".join(map(str, rng.integers(5, size - 2, length))) for length in lengths]


def random_spec(method: str, variant: str, strategy: str, batch_size: int | None) -> RunSpec:
    """Return the spec of a training on data that do not exist.

    Args:
        method: the registered name of the method.
        variant: the size of the method.
        strategy: the registered name of the strategy.
        batch_size: samples of a step, or None for those of the recipe.
    """
    definition = methods.definition(method)
    recipe = definition.recipes[variant]
    samples = batch_size or recipe.batch_size
    # One micro-batch, in the precision that a CPU computes.
    changes = {"batch_size": samples, "micro_batch": samples, "precision": "fp32"}
    return RunSpec(
        method=method,
        variant=variant,
        dataset="random",
        split_by="random",
        seed=0,
        strategy=strategies.get(strategy),
        recipe=recipe.model_copy(update=changes),
        network=definition.variants[variant],
        selection=Selection(metric="oiou"),
        data_sha256="random",
        tokenizer="random",
        weights="scratch",
        method_revision=1,
    )


def subject(
    method: str, variant: str, strategy: str = "baseline", batch_size: int | None = None
) -> Subject:
    """Return a method with random weights and random samples, the same ones in every call.

    Args:
        method: the registered name of the method.
        variant: the size of the method.
        strategy: the registered name of the strategy of its steps.
        batch_size: samples of a step, or None for those of the recipe.
    """
    spec = random_spec(method, variant, strategy, batch_size)
    family = spec.definition.text[0]
    published = PUBLISHED_CLIP_SIZE if family == "clip" else PUBLISHED_BERT_SIZE
    size = SMALL_VOCABULARY if spec.network.pretrained == "scratch" else published
    tokenizer = random_tokenizer(family, size)
    torch.manual_seed(0)
    network = methods.get(method)(spec.network, size)
    stepper = Stepper(spec, network, tokenizer, Accelerator(cpu=True), steps_per_epoch=100)
    rng = generator("random samples")
    return Subject(
        stepper,
        _batch(rng, network, tokenizer, spec.recipe.batch_size),
        [*_images(rng, network, size)],
    )


def _batch(
    rng: np.random.Generator, method: Method, tokenizer: Tokenizer, samples: int
) -> RawBatch:
    needs = method.needs

    def text(count: int) -> Any:
        sentences = random_sentences(rng, count, tokenizer.size)
        return tokenizer.encode(sentences, needs.max_length, needs.keep_end)

    pixels = rng.integers(0, 256, (samples, needs.size, needs.size, 3), np.uint8)
    # A target is one connected half of its image, whatever the size.
    targets = np.zeros((samples, needs.size, needs.size), np.uint8)
    targets[:, : needs.size // 2] = 255
    return RawBatch(
        images=torch.from_numpy(pixels),
        targets=None if needs.masks == "none" else torch.from_numpy(targets),
        text=text(samples),
        samples=[*range(samples)],
        negatives=text(samples * needs.negatives) if needs.negatives else None,
    )


def _images(rng: np.random.Generator, method: Method, size: int) -> Iterator[EvaluationImage]:
    needs = method.needs
    height, width = needs.size, needs.size * 4 // 3
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (needs.size, needs.size, 3), np.uint8)
        said = random_sentences(rng, SENTENCES, size)
        sentences = [Sentence(index, text, text) for index, text in enumerate(said)]
        ref = Ref(number, (number,), number, 0, "val", tuple(sentences))
        yield EvaluationImage(
            image_id=number,
            refs=[ref] * SENTENCES,
            sentences=sentences,
            masks={ref.ann_ids: np.zeros((height, width), np.uint8)},
            image=torch.from_numpy(pixels),
            geometry=Geometry(height, width, needs.size, needs.geometry),
        )


def seconds_of(work: Callable[[], None], repeats: int) -> list[float]:
    """Return the CPU seconds of each of `repeats` calls, after one that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return seconds


def measure(
    method: str,
    variant: str,
    repeats: int,
    chosen: Sequence[str] = ("baseline", "maskris"),
    batch_size: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield what each part takes in this checkout.

    Args:
        method: the registered name of the method.
        variant: the size of the method.
        repeats: how often each part is measured.
        chosen: registered names of the strategies whose steps are measured.
        batch_size: samples of a step, or None for those of the recipe.

    Yields:
        A row with `method`, `variant`, `part` (`step baseline`, ..., `forward`, `evaluation`),
        `samples`, the `seconds` of each repetition, their `median` and their `spread`, which is
        the distance between the quartiles.
    """
    for strategy in chosen:
        trained = subject(method, variant, strategy, batch_size)
        parts = {f"step {strategy}": trained.step}
        if strategy == chosen[-1]:
            parts |= {"forward": trained.forward, "evaluation": trained.evaluation}
        for part, work in parts.items():
            seconds = seconds_of(work, repeats)
            low, _, high = statistics.quantiles(seconds, n=4) if repeats > 1 else [0.0] * 3
            yield {
                "method": method,
                "variant": variant,
                "part": part,
                "samples": IMAGES * SENTENCES
                if part == "evaluation"
                else len(trained.batch.samples),
                "seconds": seconds,
                "median": statistics.median(seconds),
                "spread": high - low,
            }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def steps(
    chosen: Annotated[
        str, typer.Option("--methods", help="Methods, comma-separated (default: all).")
    ] = "",
    variants: Annotated[str, typer.Option(help="Variants, comma-separated.")] = "tiny",
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each part.")] = 5,
    strategy: Annotated[
        str, typer.Option("--strategies", help="Strategies whose steps are measured.")
    ] = "baseline,maskris",
    batch_size: Annotated[
        int, typer.Option(min=0, help="Samples of a step (default: the recipe's).")
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the computation.")] = 1,
) -> None:
    """Measure training steps, forward passes and evaluations, a line of JSON for each."""
    torch.set_num_threads(threads)
    for method in names(chosen) or methods.names():
        for variant in names(variants) or ():
            if variant not in methods.definition(method).variants:
                continue
            for row in measure(method, variant, repeats, names(strategy) or (), batch_size or None):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(guarded(app))
