"""From annotations to training batches, with every choice made by a keyed generator."""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry, normalize, prepare_image, prepare_mask
from benchmark.base.rng import generator
from benchmark.data.loading import loader
from benchmark.data.memory import MemoryCache
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref, Sentence
from benchmark.data.tokenizers import Tokenizer
from methods.config import DataNeeds
from methods.contract import Batch, Text

PRELOADED_AT_ONCE = 64  # units, between which the preloading says that it goes on


@dataclasses.dataclass
class RawBatch:
    """Training samples on the CPU, before they are normalised.

    Attributes:
        images: RGB, uint8 (B, S, S, 3).
        targets: uint8 (B, S, S) in 0..255, or None where training sees no mask.
        text: B sentences.
        samples: the B numbers of the samples.
        negatives: B * K sentences, or None where the method needs none.
    """

    images: Tensor
    targets: Tensor | None
    text: Text
    samples: list[int]
    negatives: Text | None = None

    def prepare(self, needs: DataNeeds, device: torch.device) -> Batch:
        """Return the batch on `device`, with normalised images and targets (if any) in [0, 1]."""
        images = normalize(self.images.to(device, non_blocking=True), needs.mean, needs.std)
        targets = self.targets
        if targets is not None:
            targets = targets.to(device, non_blocking=True)[:, None].float() / 255
        negatives = None if self.negatives is None else self.negatives.to(device)
        return Batch(images, self.text.to(device), targets, self.samples, negatives)

    def pin_memory(self) -> "RawBatch":
        """Return the samples in memory that a GPU fetches by itself, as torch's loader asks."""

        def text(its: Text | None) -> Text | None:
            return None if its is None else Text(its.ids.pin_memory(), its.attention.pin_memory())

        targets = None if self.targets is None else self.targets.pin_memory()
        return RawBatch(
            self.images.pin_memory(), targets, text(self.text), self.samples, text(self.negatives)
        )


class TrainingSamples:
    """The training units of one split, preprocessed for one method.

    Args:
        dataset: what `read_refer` returned.
        split: name of the split, usually `train`.
        needs: what the method takes.
        tokenizer: of the method's family.
        seed: of the run. Together with the epoch and the sample it keys every random number.
        pseudo_masks: returns the pseudo mask of a ref, uint8 (height, width) in {0, 1}. It is
            needed where `needs.masks` asks for pseudo masks.
        cache_bytes: bound of the preprocessed images and masks that are kept. By default it follows
            from the memory of the machine.

    Attributes:
        memory: keeps them. Once it is closed, everything that it lacks is made anew each time.

    Raises:
        UserError: the data set does not have the split, or no sentence in it is a negative of
            another and the method needs some.
    """

    def __init__(
        self,
        dataset: ReferDataset,
        split: str,
        needs: DataNeeds,
        tokenizer: Tokenizer,
        seed: int,
        pseudo_masks: Callable[[Ref], np.ndarray] | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.needs = needs
        self.tokenizer = tokenizer
        self.seed = seed
        self.pseudo_masks = pseudo_masks
        refs = dataset.refs_of(split)
        self.units: list[Ref] = refs
        if needs.unit != "ref":
            # An epoch over expressions is an epoch over refs of one sentence each.
            self.units = [
                dataclasses.replace(ref, sentences=(sentence,))
                for ref in refs
                for sentence in ref.sentences
            ]
        self.by_image: dict[int, list[Ref]] = defaultdict(list)
        for ref in refs:
            self.by_image[ref.image_id].append(ref)
        if needs.negatives:
            self._check_negatives(split)
        self.memory = MemoryCache(cache_bytes)

    def _check_negatives(self, split: str) -> None:
        """Check that there is a negative for every unit, which would be looked for without end.

        Raises:
            UserError: there is none.
        """
        texts = {sentence.sent for unit in self.units for sentence in unit.sentences}
        is_alone = any(
            all(other.ann_ids == refs[0].ann_ids for other in refs)
            for refs in self.by_image.values()
        )
        if len(texts) == 1 and is_alone:
            raise UserError(
                f"all sentences of {split} in {self.dataset.name} are alike, so none is a negative"
                " of another: train a method that needs none, or use other sentences."
            )

    def __len__(self) -> int:
        return len(self.units)

    def geometry(self, image_id: int) -> Geometry:
        """Return how the image enters the network."""
        info = self.dataset.info(image_id)
        return Geometry(info.height, info.width, self.needs.size, self.needs.geometry)

    def image(self, image_id: int) -> np.ndarray:
        """Return the preprocessed image, uint8 (S, S, 3).

        Raises:
            UserError: the image is missing or damaged.
        """
        return self.memory.get(
            ("image", image_id),
            lambda: prepare_image(
                self.dataset.image(image_id), self.geometry(image_id), self.needs.mean
            ),
        )

    def target(self, ref: Ref) -> np.ndarray:
        """Return the preprocessed mask, annotated or pseudo, uint8 (S, S) in 0..255.

        Raises:
            UserError: the annotation is missing or damaged.
        """
        made = self.dataset.target if self.needs.masks == "annotated" else self.pseudo_masks
        return self.memory.get(
            ("mask", ref.ref_id), lambda: prepare_mask(made(ref), self.geometry(ref.image_id))
        )

    def preload(self, tell: Callable[[str], None] = lambda message: None) -> None:
        """Fill the cache as far as things fit, so that loader workers share it.

        A worker keeps nothing beyond it, since each would keep it for itself.

        Args:
            tell: called with what is being done.
        """
        for number, ref in enumerate(self.units):
            if self.memory.is_full:
                break
            if number % PRELOADED_AT_ONCE == 0:
                tell(f"preparing training images {number}/{len(self.units)}")
            self.image(ref.image_id)
            if self.needs.masks != "none":
                self.target(ref)
        self.memory.close()

    def sentence(self, unit: int, epoch: int) -> Sentence:
        """Return the sentence of a unit in an epoch, drawn uniformly from its ref's sentences."""
        sentences = self.units[unit].sentences
        return sentences[generator(self.seed, "sentence", epoch, unit).integers(len(sentences))]

    def negatives(self, unit: int, epoch: int) -> list[str]:
        """Return `needs.negatives` sentences of other referents for a unit in an epoch.

        They are of the same image where it has other referents, else of any unit.
        """
        ref = self.units[unit]
        rng = generator(self.seed, "negatives", epoch, unit)
        others = [other for other in self.by_image[ref.image_id] if other.ann_ids != ref.ann_ids]
        pool = others or self.units
        chosen = self.sentence(unit, epoch)
        negatives: list[str] = []
        while len(negatives) < self.needs.negatives:
            other = pool[rng.integers(len(pool))]
            sentence = other.sentences[rng.integers(len(other.sentences))]
            # Another image may be described in the same words, which would be no negative.
            if others or sentence.sent != chosen.sent:
                negatives.append(getattr(sentence, self.needs.text_field))
        return negatives

    def order(self, epoch: int, batch_size: int, drop_last: bool) -> list[list[int]]:
        """Return the units of every optimizer step of an epoch.

        Args:
            epoch: counts from 0 and keys the order.
            batch_size: units of a step.
            drop_last: whether an incomplete last step is left out. It stays if it is the only one.
        """
        permutation = generator(self.seed, "order", epoch).permutation(len(self.units)).tolist()
        steps = [
            permutation[start : start + batch_size]
            for start in range(0, len(permutation), batch_size)
        ]
        if drop_last and len(steps) > 1 and len(steps[-1]) < batch_size:
            return steps[:-1]
        return steps

    def batch(self, units: list[int], epoch: int) -> RawBatch:
        """Return one micro-batch of the given units.

        Raises:
            UserError: an image or an annotation is missing or damaged.
        """
        needs = self.needs
        refs = [self.units[unit] for unit in units]
        targets = None
        if needs.masks != "none":
            targets = torch.from_numpy(np.stack([self.target(ref) for ref in refs]))
        sentences = [getattr(self.sentence(unit, epoch), needs.text_field) for unit in units]
        negatives = None
        if needs.negatives:
            texts = [text for unit in units for text in self.negatives(unit, epoch)]
            negatives = self.tokenizer.encode(texts, needs.max_length, needs.keep_end)
        return RawBatch(
            images=torch.from_numpy(np.stack([self.image(ref.image_id) for ref in refs])),
            targets=targets,
            text=self.tokenizer.encode(sentences, needs.max_length, needs.keep_end),
            samples=units,
            negatives=negatives,
        )


class _Made(Dataset):
    """Micro-batches by epoch and units, so that a loader's workers can make them."""

    def __init__(self, samples: TrainingSamples) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, list[int]]) -> RawBatch:
        epoch, units = key
        return self.samples.batch(units, epoch)


def dealt_shares(units: int, micro_batch: int, rank: int, world: int) -> list[float]:
    """Return the share of a step's loss that each micro-batch of a process has.

    Shards may differ in size by one sample. The mean over the processes of their losses, weighted
    so, is the mean over the samples of the step.

    Args:
        units: number of units of the step.
        micro_batch: units of a micro-batch of all processes together.
        rank: number of this process, from 0.
        world: number of processes.
    """
    sizes = [min(micro_batch, units - start) for start in range(0, units, micro_batch)]
    return [len(range(rank, size, world)) * world / units for size in sizes]


def training_batches(
    samples: TrainingSamples,
    epoch: int,
    steps: list[list[int]],
    micro_batch: int,
    rank: int,
    world: int,
    workers: int,
) -> Iterator[list[RawBatch]]:
    """Yield this process' micro-batches for every optimizer step of an epoch, for the CPU.

    Args:
        samples: as in `batches_of_epochs`, and so are the others.
        epoch: counts from 0.
        steps: units of every step, from `TrainingSamples.order`.
    """
    epochs = [(epoch, steps)]
    return batches_of_epochs(samples, epochs, micro_batch, rank, world, workers)


def batches_of_epochs(
    samples: TrainingSamples,
    epochs: Iterable[tuple[int, list[list[int]]]],
    micro_batch: int,
    rank: int,
    world: int,
    workers: int,
    pinned: bool = False,
) -> Iterator[list[RawBatch]]:
    """Yield this process' micro-batches for every optimizer step of some epochs.

    A micro-batch is dealt to the processes in turn. So what BatchNorm sees, which is synchronised
    over processes, does not depend on how many there are. Nor does what the optimizer sums. A
    process for which no sample is left gets the first one to keep step with the others, and its
    share (`dealt_shares`) is 0.

    Args:
        samples: make the batches.
        epochs: number of an epoch, from 0, and units of every step, from `TrainingSamples.order`.
            They are taken as far as batches are made ahead.
        micro_batch: units of a micro-batch of all processes together.
        rank: number of this process, from 0.
        world: number of processes.
        workers: loader processes that make batches ahead, also those of the next epoch. With 0
            this process makes them.
        pinned: whether batches come in memory that a GPU fetches by itself.

    Raises:
        UserError: an image or an annotation is missing or damaged.
    """
    counts: deque[int] = deque()  # of the micro-batches of the steps that are asked for

    def parts() -> Iterator[tuple[int, list[int]]]:
        for epoch, steps in epochs:
            for units in steps:
                counts.append(-(-len(units) // micro_batch))
                for start in range(0, len(units), micro_batch):
                    dealt = units[start : start + micro_batch][rank::world]
                    yield epoch, dealt or [units[start]]

    step: list[RawBatch] = []
    for batch in loader(_Made(samples), parts(), workers, pinned):
        step.append(batch)
        if len(step) == counts[0]:
            counts.popleft()
            yield step
            step = []
