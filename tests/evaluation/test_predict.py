"""Records against pycocotools, the gap of a network that ignores text, one encoding per image."""

import dataclasses

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from benchmark.base.geometry import normalize
from benchmark.data import datasets
from benchmark.data.images import EvaluationImages
from benchmark.evaluation import metrics
from benchmark.evaluation.inference import build_method
from benchmark.evaluation.predict import evaluate, predict
from benchmark.evaluation.records import frame, records_of
from benchmark.runs.opened import Opened
from methods.contract import Batch, Output
from tests.helpers import tiny_spec, write_boxes

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["cris", "lavt"])
def loaded(request, boxes):
    spec, places = tiny_spec(boxes, request.param)
    dataset, tokenizer = Opened(places).run(spec)
    return build_method(spec, tokenizer).eval(), dataset, tokenizer


def noisy(method, monkeypatch):
    """Untrained networks mask nothing: let the logits be noise that depends on image and text."""
    segment = method.segment

    def noise(features, text):
        logits = segment(features, text).logits
        spread = (logits - logits.mean()) / logits.std().clamp_min(1e-9)
        return Output(spread * 3)

    monkeypatch.setattr(method, "segment", noise)


def test_records_agree_with_pycocotools(loaded, monkeypatch):
    method, dataset, tokenizer = loaded
    noisy(method, monkeypatch)
    seen = []
    records = evaluate(method, dataset, "val", tokenizer, CPU, on_image=seen.append)
    by_sentence = {row.sent_id: row for row in records.itertuples()}
    assert (
        len(records)
        == sum(len(ref.sentences) for ref in dataset.refs_of("val"))
        == len(by_sentence)
    )
    touched = 0
    for prediction in seen:
        for ref, sentence, mask in zip(
            prediction.image.refs, prediction.image.sentences, prediction.masks, strict=True
        ):
            truth = dataset.rle(ref.ann_id)
            predicted = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            row = by_sentence[sentence.sent_id]
            assert row.intersection == coco_mask.area(
                coco_mask.merge([truth, predicted], intersect=True)
            )
            assert row.union == coco_mask.area(coco_mask.merge([truth, predicted]))
            touched += row.intersection > 0
    assert touched > 0
    assert metrics.compute(records)["miou"] == pytest.approx(
        (records.intersection / records.union).mean()
    )


def test_a_network_that_ignores_text_has_no_grounding_gap(loaded, monkeypatch):
    method, dataset, tokenizer = loaded
    segment = method.segment

    def blind(features, text):
        same = type(text)(
            text.ids[:1].expand_as(text.ids), text.attention[:1].expand_as(text.attention)
        )
        logits = segment(features, same).logits
        # What a sentence gets must depend on its image alone, to the last bit.
        return Output(
            logits.double().mean((1, 2, 3), keepdim=True).round(decimals=4).float()
            + torch.linspace(-1, 1, 24)[None, None, None]
        )

    monkeypatch.setattr(method, "segment", blind)
    records = evaluate(method, dataset, "val", tokenizer, CPU)
    assert records.swapped_union.notna().all(), "every picture has several objects"
    assert metrics.compute(records)["grounding_gap"] == 0


def test_grouping_by_image_gives_the_numbers_of_one_expression_at_a_time(loaded, monkeypatch):
    method, dataset, tokenizer = loaded
    together = evaluate(method, dataset, "val", tokenizer, CPU, images_at_once=4)
    single = evaluate(method, dataset, "val", tokenizer, CPU, images_at_once=1)
    pixels = (
        together[["intersection", "union"]].to_numpy()
        - single[["intersection", "union"]].to_numpy()
    )
    assert np.abs(pixels).max() <= 2, (
        "float32 sums in another order may move a pixel on the threshold"
    )


def test_images_are_encoded_once(loaded, monkeypatch):
    method, dataset, tokenizer = loaded
    encode, counted = method.encode_image, []
    monkeypatch.setattr(
        method,
        "encode_image",
        lambda images, draws: counted.append(len(images)) or encode(images, draws),
    )
    evaluate(method, dataset, "val", tokenizer, CPU, images_at_once=1)
    assert sum(counted) == len(EvaluationImages(dataset, "val", method.needs))


def test_the_next_images_are_asked_about_before_masks_are_decided(loaded, monkeypatch):
    """So a GPU has work while this process decides. The records are those of each image alone."""
    method, dataset, tokenizer = loaded
    events = []
    for name in ("encode_image", "mask"):
        own = getattr(method, name)
        monkeypatch.setattr(
            method, name, lambda *its, name=name, own=own: events.append(name) or own(*its)
        )
    records = evaluate(method, dataset, "val", tokenizer, CPU, images_at_once=1)
    assert events[:3] == ["encode_image", "encode_image", "mask"] and events[-1] == "mask"
    with torch.no_grad():
        alone = [
            row
            for image in EvaluationImages(dataset, "val", method.needs)
            for prediction in predict(method, [image], tokenizer, CPU)
            for row in records_of(prediction)
        ]
    assert records.equals(frame(alone))


def test_shares_of_several_processes_are_the_whole(loaded):
    method, dataset, tokenizer = loaded
    whole = evaluate(method, dataset, "val", tokenizer, CPU, images_at_once=3)
    parts = [
        evaluate(method, dataset, "val", tokenizer, CPU, images_at_once=3, share=(rank, 2))
        for rank in (0, 1)
    ]
    together = frame([row for part in parts for row in part.to_dict("records")])
    assert together.equals(whole)


def test_a_split_of_another_data_set_is_evaluated(loaded, tmp_path):
    method, _, tokenizer = loaded
    write_boxes(tmp_path, images=20, name="refcoco+")
    other = datasets.read("refcoco+", "unc", tmp_path)
    records = evaluate(method, other, "testA", tokenizer, CPU)
    expressions = {sentence.sent_id for ref in other.refs_of("testA") for sentence in ref.sentences}
    assert set(records["sent_id"]) == expressions and len(records) == len(expressions)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_network_is_evaluated_in_the_precision_of_its_run(boxes, precision):
    """The oracle is the pass of a training step, by torch's own autocast."""
    recipe = {"epochs": 1, "batch_size": 4, "micro_batch": 4, "precision": precision}
    spec, places = tiny_spec(boxes, "lavt", "baseline", recipes={"lavt": recipe})
    dataset, tokenizer = Opened(places).run(spec)
    method = build_method(spec, tokenizer).eval()
    image = EvaluationImages(dataset, "val", method.needs)[0]
    image = dataclasses.replace(image, refs=image.refs[:1], sentences=image.sentences[:1])
    with torch.no_grad():
        (prediction,) = predict(method, [image], tokenizer, CPU)
        text = tokenizer.encode([image.sentences[0].sent], method.needs.max_length)
        pixels = normalize(image.image[None], method.needs.mean, method.needs.std)
        batch = Batch(pixels, text, None, [0])

        def logits(dtype):
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                return method(batch, {}, "prediction").logits[0, 0].float()

        others = {"bf16": logits(torch.bfloat16), "fp16": logits(torch.float16)}
        others["fp32"] = logits(None)
    assert torch.equal(prediction.logits[0], others.pop(precision))
    assert not any(torch.equal(prediction.logits[0], other) for other in others.values())
