"""From a run or a checkpoint file to a network that answers, with its data and word pieces."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import methods
from benchmark.base.errors import UserError, choose
from benchmark.base.files import atomic_write
from benchmark.base.geometry import Geometry, prepare_image
from benchmark.base.rng import reseed_dropout
from benchmark.data.images import EvaluationImage
from benchmark.data.pictures import DECODING_ERRORS, decode
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref, Sentence
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation import checkpoint_files, checkpoint_reading
from benchmark.evaluation.checkpoint_card import Card, check_revision
from benchmark.evaluation.devices import pick_device
from benchmark.evaluation.predict import predict
from benchmark.evaluation.tint import PREDICTION, tinted
from benchmark.runs import integrity
from benchmark.runs.opened import Opened
from benchmark.runs.predictions import PredictionsSpec
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from methods.contract import Method


@dataclasses.dataclass
class Loaded:
    """A network in evaluation mode, with its data and word pieces.

    Attributes:
        name: says whose weights it has. It is a run key, or names method, variant and file.
        method: the network, on `device`.
        dataset: what it can be evaluated on.
        tokenizer: of its sentences.
        device: of the network.
    """

    name: str
    method: Method
    dataset: ReferDataset
    tokenizer: Tokenizer
    device: torch.device


# --- runs -----------------------------------------------------------------------------------------


def build_method(spec: RunSpec, tokenizer: Tokenizer) -> Method:
    """Return the spec's network with random weights of its seed.

    The weights are the same for every strategy.
    """
    reseed_dropout(spec.seed, "starting weights")
    method = methods.get(spec.method)(spec.network, tokenizer.size)
    method.precision = spec.recipe.precision
    # Images arrive channels-last, and convolutions are fastest when their weights do, too.
    return method.to(memory_format=torch.channels_last)


def best_weights(run: RunDir) -> dict[str, Tensor]:
    """Return the weights of the chosen epoch, by their names in the method.

    Raises:
        UserError: there are none yet, or the file is damaged.
    """
    path = run.path / integrity.WEIGHTS
    if not path.exists():
        run.spec()  # Predictions that were made elsewhere never have weights, which this says.
        raise UserError(
            f"run {run.key} has no weights yet ({path}): let it finish or bring the file along."
        )
    try:
        if not integrity.changed(run.path, [integrity.WEIGHTS]):
            return load_file(path)
    except (SafetensorError, OSError, ValueError):
        pass  # Runs of earlier versions have no list, and the file says itself that it is damaged.
    raise run.damaged(integrity.WEIGHTS)


def load_best(run: RunDir, method: Method) -> None:
    """Load the weights of the chosen epoch into a network.

    Raises:
        UserError: there are none yet, or some are not finite.
    """
    weights = best_weights(run)
    check_finite(weights, f"the weights of run {run.key}")
    try:
        method.load_state_dict(weights)
    except RuntimeError:
        raise run.damaged(integrity.WEIGHTS, "it is of another network") from None


def check_finite(weights: Mapping[str, Tensor], what: str) -> None:
    """Check that no number is NaN or infinite, since a mask would come out of it all the same.

    Raises:
        UserError: some are. The message names the first layer.
    """
    for name, values in weights.items():
        if values.is_floating_point() and not values.is_meta and not values.isfinite().all():
            raise UserError(
                f"{what} are not finite in {name}: nothing that they give means anything. Train"
                " again, with a lower learning rate or precision fp32."
            )


def load(run: RunDir, opened: Opened, device: str) -> Loaded:
    """Return the network of a run with the weights of its chosen epoch.

    Args:
        run: the run.
        opened: reads the run's data and vocabulary, once for all runs that share them.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UserError: the run has no weights, its method has another revision now, or its data or its
            checkpoint file are not where they were.
    """
    spec = run.any_spec()
    if isinstance(spec, PredictionsSpec) and spec.has_network:
        return _load_elsewhere(run, spec, opened, device)
    spec = run.spec()  # Other predictions have no network, which this says.
    definition = methods.definition(spec.method)
    precision = spec.recipe.precision
    check_revision(spec.method_revision, definition, spec.variant, precision, f"run {run.key}")
    chosen = pick_device(device)
    dataset, tokenizer = opened.run(spec)
    method = build_method(spec, tokenizer)
    load_best(run, method)
    return Loaded(run.key, method.to(chosen).eval(), dataset, tokenizer, chosen)


def _load_elsewhere(run: RunDir, spec: PredictionsSpec, opened: Opened, device: str) -> Loaded:
    """Return the network of the checkpoint file whose masks were kept as predictions.

    Raises:
        UserError: the file is not where it was, or is another one.
    """
    known = run.read_json("environment.json").get("checkpoint", {})
    path = Path(str(known.get("path", "")))
    # A file is compared with its digest before anything else of it is read.
    if not path.is_file() or integrity.digest(path) != spec.weights_sha256:
        raise UserError(
            f"the checkpoint file of {run.key} is not what it was, or not at {path}: put it back."
        )
    opened.data(spec)  # It must be that of the run.
    loaded = load_checkpoint(
        path,
        known.get("method"),
        known.get("variant"),
        spec.dataset,
        spec.split_by,
        opened,
        device,
    )
    return dataclasses.replace(loaded, name=run.key)


# --- checkpoint files -----------------------------------------------------------------------------


def load_checkpoint(
    path: Path,
    method: str | None,
    variant: str | None,
    dataset: str,
    split_by: str,
    opened: Opened,
    device: str,
    on_fit: Callable[[checkpoint_files.Fit], None] = lambda fitted: None,
) -> Loaded:
    """Return the network of a method and variant with the weights of a checkpoint file.

    A file that a run was exported to says its method, variant, sentence length and word pieces. Of
    other files, `dataset` decides the sentence length.

    Args:
        path: the checkpoint file.
        method: name of the method, or None where the file says it.
        variant: name of the variant. None is the one that the file says, or else `paper`.
        dataset: what it will be evaluated on.
        split_by: way of splitting the data set.
        opened: reads the data and the vocabulary.
        device: `auto`, `cpu` or `cuda`.
        on_fit: is told how the file fits the network, before a file that does not fit is refused.

    Raises:
        UserError: a name is not known, the file is damaged or holds more than weights, its weights
            are another variant's, or it says that it computes something else.
    """
    if method is not None:
        choose(variant or "paper", methods.definition(method).variants, f"variant of {method}")
    chosen = pick_device(device)
    checkpoint = checkpoint_reading.read(path)
    data = opened.dataset(dataset, split_by)
    if checkpoint.card:
        built = _as_exported(checkpoint.card, method, variant, data, opened, str(path))
    else:
        built = _as_published(method, variant or "paper", data, opened, str(path))
    network, tokenizer, variant = built
    fitted = checkpoint_files.fit(network, checkpoint.weights)
    on_fit(fitted)
    checkpoint_files.load(network, checkpoint.weights, fitted, str(path), tokenizer.size)
    check_finite(network.state_dict(), f"the weights of {path}")
    name = f"{network.definition.name} {variant} of {path.name}"
    if checkpoint.averaged:
        name += " (its averaged weights)"
    # As the network of a run, so that both give the same bits.
    network = network.to(memory_format=torch.channels_last)
    return Loaded(name, network.to(chosen).eval(), data, tokenizer, chosen)


def _as_exported(
    card: Card,
    method: str | None,
    variant: str | None,
    data: ReferDataset,
    opened: Opened,
    source: str,
) -> tuple[Method, Tokenizer, str]:
    """Return the network, word pieces and variant that a checkpoint's card describes.

    Raises:
        UserError: options, or this version of the suite, contradict the card.
    """
    definition = card.definition(method, variant, source)
    config = definition.config_for(card.variant, card.dataset)
    card.check_network(config, source)
    tokenizer = card.own_tokenizer() or opened.tokenizer(definition, config, data)
    card.check_tokenizer(tokenizer, source)
    network = methods.get(definition.name)(config, tokenizer.size)
    card.check_input(network.needs, source)
    network.precision = card.precision
    return network, tokenizer, card.variant


def _as_published(
    method: str | None, variant: str, data: ReferDataset, opened: Opened, source: str
) -> tuple[Method, Tokenizer, str]:
    """Return the network, word pieces and variant of a checkpoint that says nothing of them.

    Raises:
        UserError: the method is not named, or its word pieces cannot be known.
    """
    if method is None:
        raise UserError(f"{source} does not say which network it is of: name it with --method.")
    definition = methods.definition(method)
    config = definition.config_for(variant, data.name)
    if config.pretrained == "scratch":
        raise UserError(
            f"{source} does not hold the word pieces of its run, and {method} {variant} trains its"
            " own: export the run again, which puts them into the file."
        )
    tokenizer = opened.tokenizer(definition, config, data)
    return methods.get(method)(config, tokenizer.size), tokenizer, variant


# --- one photograph -------------------------------------------------------------------------------


@torch.no_grad()
def segment(loaded: Loaded, path: Path, sentence: str) -> tuple[np.ndarray, np.ndarray]:
    """Segment one photograph.

    Args:
        loaded: the network.
        path: the photograph.
        sentence: names the object.

    Returns:
        The photograph as RGB, uint8 (height, width, 3), and its mask, bool (height, width).

    Raises:
        UserError: the photograph is missing or damaged, or the sentence is empty.
    """
    if not sentence.strip():
        raise UserError(
            'the sentence is empty: name the object, e.g. "the red circle on the left".'
        )
    pixels = _photograph(path)
    needs = loaded.method.needs
    geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
    prepared = torch.tensor(prepare_image(pixels, geometry, needs.mean))
    expression = Sentence(sent_id=0, sent=sentence.lower().strip(), raw=sentence)
    ref = Ref(ref_id=0, ann_ids=(), image_id=0, category_id=0, split="", sentences=(expression,))
    image = EvaluationImage(0, [ref], [expression], {}, prepared, geometry)
    (prediction,) = predict(loaded.method, [image], loaded.tokenizer, loaded.device)
    (mask,) = prediction.masks
    return pixels, mask.astype(bool)


def predict_file(loaded: Loaded, path: Path, sentence: str, out: Path) -> tuple[list[Path], float]:
    """Segment one photograph, and write `mask.png` and `overlay.png` into a folder.

    The mask has the original size and holds 0 and 255.

    Args:
        loaded: the network.
        path: the photograph.
        sentence: names the object.
        out: the folder.

    Returns:
        The paths of the two pictures, and the marked fraction of the image.

    Raises:
        UserError: the photograph is missing or damaged, the sentence is empty, or the folder cannot
            be written.
    """
    pixels, mask = segment(loaded, path, sentence)
    pictures = {
        out / "mask.png": mask.astype(np.uint8) * 255,
        out / "overlay.png": tinted(pixels, mask, PREDICTION),
    }
    for target, picture in pictures.items():
        atomic_write(
            target,
            lambda temporary, picture=picture: Image.fromarray(picture).save(
                temporary, format="PNG"
            ),
        )
    return [*pictures], float(mask.mean())


def _photograph(path: Path) -> np.ndarray:
    """Return an image file as RGB, uint8 (height, width, 3), upright."""
    try:
        return decode(path)
    except FileNotFoundError:
        raise UserError(f"there is no image {path}.") from None
    except DECODING_ERRORS:
        raise UserError(
            f"{path} is no image that can be decoded: give a JPEG or PNG file."
        ) from None
