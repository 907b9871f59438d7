"""Pictures of a few validation images per run, with sentence, ground truth and prediction."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmark.base.files import atomic_write
from benchmark.data.images import EvaluationImages
from benchmark.data.refer import ReferDataset
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation import drawn_text
from benchmark.evaluation.masks import overlap
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import Prediction
from benchmark.evaluation.tint import PREDICTION, TRUTH, tinted
from benchmark.runs.rundir import RunDir
from methods.contract import Method

SENTENCES = 3  # per image
# In pixels of a drawn picture, whatever the size of the photograph is.
WIDTH = 265
HEIGHT = 230
GAP = 10
TEXT = 14
LINE = 18


def panel(image: np.ndarray, title: str, color: str = "black") -> Image.Image:
    """Return one picture below its wrapped title, at most WIDTH pixels wide.

    Args:
        image: RGB, uint8 (height, width, 3).
        title: what data say, or a heading.
        color: of the title.
    """
    lines = drawn_text.wrapped(title, 34)
    height, width = image.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    drawn = Image.new("RGB", (WIDTH, LINE * len(lines) + size[1]), "white")
    canvas = ImageDraw.Draw(drawn)
    for number, line in enumerate(lines):
        drawn_text.draw_line(canvas, WIDTH // 2, LINE * number, line, TEXT, color)
    drawn.paste(picture, ((WIDTH - size[0]) // 2, LINE * len(lines)))
    return drawn


def draw(image: np.ndarray, prediction: Prediction) -> Image.Image:
    """Return a picture with a row per sentence: image and sentence, ground truth, and prediction.

    Args:
        image: RGB, uint8 (height, width, 3), at its original size.
        prediction: the masks of the image's expressions.
    """
    refs = prediction.image.refs
    sentences = prediction.image.sentences
    # It shows one sentence per object, because a reader wants to see whether the text moves the
    # mask.
    firsts = {ref.ann_ids: number for number, ref in reversed(list(enumerate(refs)))}
    rows = []
    for number in sorted(firsts.values())[:SENTENCES]:
        truth = prediction.truth(number)
        mask = prediction.masks[number]
        intersection, union = overlap(mask, truth)
        iou = intersection / union if union else 0
        rows.append(
            [
                panel(image, f"“{sentences[number].sent}”"),
                panel(tinted(image, truth, TRUTH), "ground truth", TRUTH),
                panel(tinted(image, mask, PREDICTION), f"prediction, IoU {iou:.2f}", PREDICTION),
            ]
        )
    heights = [max(drawn.height for drawn in row) for row in rows]
    whole = (3 * WIDTH + 4 * GAP, sum(heights) + GAP * (len(rows) + 1))
    sheet = Image.new("RGB", whole, "white")
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, drawn in enumerate(row):
            # Pictures of a row end at one line, however long their titles are.
            place = (GAP + column * (WIDTH + GAP), top + height - drawn.height)
            sheet.paste(drawn, place)
        top += height + GAP
    return sheet


@torch.no_grad()
def write(
    run: RunDir,
    method: Method,
    dataset: ReferDataset,
    split: str,
    tokenizer: Tokenizer,
    device: torch.device,
    count: int,
) -> None:
    """Write overlays of `count` images, spread evenly over the split, into the run directory.

    Args:
        run: the run directory.
        method: the network.
        dataset: holds the images.
        split: name of the split.
        tokenizer: of the method's sentences.
        device: of the network.
        count: number of images. A smaller split has fewer.

    Raises:
        UserError: an image is missing or damaged, or the disk is full.
    """
    method.eval()
    images = EvaluationImages(dataset, split, method.needs)
    places = np.linspace(0, len(images) - 1, min(count, len(images)))
    for number in sorted({int(place) for place in places}):
        item = images[number]
        (prediction,) = predict(method, [item], tokenizer, device)
        picture = draw(dataset.image(item.image_id), prediction)
        atomic_write(
            run.path / "images" / f"{split}_{item.image_id}.png",
            lambda temporary, picture=picture: picture.save(temporary, format="PNG"),
        )
