"""Annotations -> batches: training samples by keyed draws, and evaluation images with all their expressions."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark.base.geometry import Geometry, normalize, prepare_image, prepare_mask
from benchmark.base.rng import generator
from benchmark.data.refer import Ref, ReferDataset, Sentence
from benchmark.data.tokenizers import Tokenizer
from methods.config import DataNeeds
from methods.contract import Batch, Text

CACHE_BYTES = 2 * 1024**3  # preprocessed images and masks are kept in memory where all of them fit


@dataclasses.dataclass
class RawBatch:
    """Training samples on the CPU, before normalisation.

    Attributes:
        images: uint8 (B, S, S, 3). targets: uint8 (B, S, S) in 0..255, or None where training sees no mask.
        text: B sentences. negatives: B * K sentences or None.
        samples: the sample numbers.
    """

    images: Tensor
    targets: Tensor | None
    text: Text
    samples: list[int]
    negatives: Text | None = None

    def prepare(self, needs: DataNeeds, device: torch.device) -> Batch:
        """Return the batch on `device`, images normalised, targets (if any) in [0, 1]."""
        images = normalize(self.images.to(device, non_blocking=True), needs.mean, needs.std)
        targets = self.targets
        if targets is not None:
            targets = targets.to(device, non_blocking=True)[:, None].float() / 255
        negatives = None if self.negatives is None else self.negatives.to(device)
        return Batch(images, self.text.to(device), targets, self.samples, negatives)


class TrainingSamples:
    """The training units of one split, preprocessed for one method.

    Args:
        dataset: what `read_refer` returned. split: usually `train`.
        needs: of the method. tokenizer: of the method's family.
        seed: of the run; keys every draw together with epoch and sample.
        pseudo_masks: ref -> its pseudo mask, uint8 (height, width) in {0, 1}, where `needs.masks` asks for such.
    """

    def __init__(
        self,
        dataset: ReferDataset,
        split: str,
        needs: DataNeeds,
        tokenizer: Tokenizer,
        seed: int,
        pseudo_masks: Callable[[Ref], np.ndarray] | None = None,
    ) -> None:
        self.dataset, self.needs, self.tokenizer, self.seed = dataset, needs, tokenizer, seed
        self.pseudo_masks = pseudo_masks
        refs = dataset.refs_of(split)
        # An expression-wise epoch is a ref-wise one over refs of one sentence each.
        self.units: list[Ref] = (
            refs
            if needs.unit == "ref"
            else [
                dataclasses.replace(ref, sentences=(sentence,))
                for ref in refs
                for sentence in ref.sentences
            ]
        )
        self.by_image: dict[int, list[Ref]] = defaultdict(list)
        for ref in refs:
            self.by_image[ref.image_id].append(ref)
        self._images: dict[int, np.ndarray] = {}
        self._masks: dict[int, np.ndarray] = {}
        pixels = needs.size**2 * (
            3 * len(self.by_image) + (len(refs) if needs.masks != "none" else 0)
        )
        self.cached = pixels <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.units)

    def geometry(self, image_id: int) -> Geometry:
        """Return how the image enters the network."""
        info = self.dataset.info(image_id)
        return Geometry(info.height, info.width, self.needs.size, self.needs.geometry)

    def image(self, image_id: int) -> np.ndarray:
        """Return the preprocessed image, uint8 (S, S, 3)."""
        if image_id not in self._images:
            prepared = prepare_image(
                self.dataset.image(image_id), self.geometry(image_id), self.needs.mean
            )
            if not self.cached:
                return prepared
            self._images[image_id] = prepared
        return self._images[image_id]

    def target(self, ref: Ref) -> np.ndarray:
        """Return the preprocessed mask, annotated or pseudo, uint8 (S, S) in 0..255."""
        if ref.ref_id not in self._masks:
            mask = (
                self.dataset.target(ref)
                if self.needs.masks == "annotated"
                else self.pseudo_masks(ref)
            )
            prepared = prepare_mask(mask, self.geometry(ref.image_id))
            if not self.cached:
                return prepared
            self._masks[ref.ref_id] = prepared
        return self._masks[ref.ref_id]

    def preload(self) -> None:
        """Fill the cache, so that loader workers share it; does nothing where it would not fit."""
        if self.cached:
            for ref in self.units:
                self.image(ref.image_id)
                if self.needs.masks != "none":
                    self.target(ref)

    def sentence(self, unit: int, epoch: int) -> Sentence:
        """Return the sentence of a unit in an epoch: drawn uniformly from its ref's."""
        sentences = self.units[unit].sentences
        return sentences[generator(self.seed, "sentence", epoch, unit).integers(len(sentences))]

    def negatives(self, unit: int, epoch: int) -> list[str]:
        """Return `needs.negatives` sentences of other referents: of the same image where it has some, else of any ref."""
        ref, draw = self.units[unit], generator(self.seed, "negatives", epoch, unit)
        others = [other for other in self.by_image[ref.image_id] if other.ann_ids != ref.ann_ids]
        chosen = self.sentence(unit, epoch)
        found: list[str] = []
        while len(found) < self.needs.negatives:
            other = (
                others[draw.integers(len(others))]
                if others
                else self.units[draw.integers(len(self.units))]
            )
            sentence = other.sentences[draw.integers(len(other.sentences))]
            if others or sentence.sent != chosen.sent:
                found.append(getattr(sentence, self.needs.text_field))
        return found

    def order(self, epoch: int, batch_size: int, drop_last: bool) -> list[list[int]]:
        """Return the units of every optimizer step of an epoch."""
        permutation = generator(self.seed, "order", epoch).permutation(len(self.units)).tolist()
        steps = [
            permutation[start : start + batch_size]
            for start in range(0, len(permutation), batch_size)
        ]
        return steps[:-1] if drop_last and len(steps) > 1 and len(steps[-1]) < batch_size else steps

    def batch(self, units: list[int], epoch: int) -> RawBatch:
        """Return one micro-batch."""
        refs = [self.units[unit] for unit in units]
        words = self.needs.max_length
        sentences = [getattr(self.sentence(unit, epoch), self.needs.text_field) for unit in units]
        negatives = (
            [text for unit in units for text in self.negatives(unit, epoch)]
            if self.needs.negatives
            else []
        )
        return RawBatch(
            torch.from_numpy(np.stack([self.image(ref.image_id) for ref in refs])),
            torch.from_numpy(np.stack([self.target(ref) for ref in refs]))
            if self.needs.masks != "none"
            else None,
            self.tokenizer.encode(sentences, words, self.needs.keep_end),
            units,
            self.tokenizer.encode(negatives, words, self.needs.keep_end) if negatives else None,
        )


class _Listed(Dataset):
    """Micro-batches by number, so that a DataLoader's workers can make them."""

    def __init__(self, samples: TrainingSamples, parts: list[list[int]], epoch: int) -> None:
        self.samples, self.parts, self.epoch = samples, parts, epoch

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> RawBatch:
        return self.samples.batch(self.parts[index], self.epoch)


def training_batches(
    samples: TrainingSamples,
    epoch: int,
    steps: list[list[int]],
    micro_batch: int,
    rank: int,
    world: int,
    workers: int,
) -> Iterator[list[RawBatch]]:
    """Yield, for every optimizer step, this process' micro-batches.

    A micro-batch of `micro_batch` units is dealt to `world` processes in turn, so what BatchNorm sees (synchronised over
    processes) and what the optimizer sums do not depend on how many there are.
    """
    parts, counts = [], []
    for units in steps:
        micro = [
            units[start : start + micro_batch][rank::world]
            for start in range(0, len(units), micro_batch)
        ]
        parts += micro
        counts.append(len(micro))
    loader = iter(DataLoader(_Listed(samples, parts, epoch), batch_size=None, num_workers=workers))
    for count in counts:
        yield [next(loader) for _ in range(count)]
