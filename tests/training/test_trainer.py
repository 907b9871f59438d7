"""Kill and resume, accumulation, selection, and what a run leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from pycocotools import mask as coco_mask
from safetensors.torch import load_file, save_file

from benchmark.base.errors import Interrupted, UserError
from benchmark.data.samples import TrainingSamples, training_batches
from benchmark.evaluation import inference
from benchmark.evaluation.predict import evaluate
from benchmark.runs.costs import read_costs
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import best_epoch, report, resume_point
from benchmark.training import trainer as trainer_module
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec

EXECUTION = Execution.of(device="cpu", checkpoint_seconds=0, log_every=2)


def started(spec, places, folder, execution=EXECUTION):
    run = RunDir(folder / spec.key)
    run.create(spec)
    return run, Trainer(spec, run, Opened(places), execution)


def left_behind(run):
    """Everything whose bytes must not depend on interruptions."""
    names = ["metrics.jsonl", "best.safetensors", "result.json", "spec.yaml"]
    files = (
        [run.path / name for name in names]
        + sorted(run.path.glob("records/*"))
        + sorted(run.path.glob("masks/*"))
        + sorted(run.path.glob("images/*"))
    )
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


@pytest.fixture
def uninterrupted(boxes, trained):
    """Return one finished run per method, to compare interrupted ones with."""
    return {
        method: (*tiny_spec(boxes, method), trained(method, "maskris"))
        for method in ("cris", "lavt")
    }


class Killed(BaseException):
    """Stands for kill -9: nothing that handles errors may notice it."""


@pytest.mark.parametrize("method", ["cris", "lavt"])
@pytest.mark.parametrize(
    "point",
    [
        "mid-epoch",
        "while saving",
        "between selection and saving",
        "between saving and keeping",
        "between masks and records",
        "in the last evaluation",
    ],
)
def test_killed_and_resumed_is_bit_identical(uninterrupted, tmp_path, monkeypatch, method, point):
    spec, places, whole = uninterrupted[method]
    run, trainer = started(spec, places, tmp_path)

    def kill_at(owner, name, call):
        original, calls = getattr(owner, name), []

        def wrapped(*arguments, **more):
            calls.append(1)
            if len(calls) == call:
                raise Killed
            return original(*arguments, **more)

        monkeypatch.setattr(owner, name, wrapped)

    match point:
        case "mid-epoch":
            kill_at(trainer.stepper, "enqueue", 6)
        case "while saving":
            kill_at(torch, "save", 4)
        case "between selection and saving":
            select = trainer.best_epoch.select
            monkeypatch.setattr(
                trainer.best_epoch,
                "select",
                lambda *place: (select(*place), (_ for _ in ()).throw(Killed))[0],
            )
        case "between saving and keeping":
            kill_at(trainer.report, "keep", 1)
        case "between masks and records":
            kill_at(RunDir, "write_records", 2)
        case "in the last evaluation":
            kill_at(report.overlays, "write", 1)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.undo()
    _, trainer = started(spec, places, tmp_path)
    trainer.train()
    assert left_behind(run) == left_behind(whole)
    assert run.status().state == "done"


@pytest.mark.faults
@pytest.mark.slow
def test_kill_minus_nine_from_outside(uninterrupted, tmp_path):
    """The same with a real SIGKILL at moments that nothing in the code chooses."""
    spec, places, whole = uninterrupted["cris"]
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    command = [
        sys.executable,
        "-m",
        "benchmark.cli",
        "resume",
        run.key,
        "--runs",
        str(tmp_path),
        "--data",
    ]
    command += [
        str(places.data),
        "--device",
        "cpu",
        "--checkpoint-seconds",
        "0",
        "--log-every",
        "2",
    ]
    kills = 0
    for wanted in (2, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(run.metrics()) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    assert kills, "at least one kill must have hit a living run"
    assert left_behind(run) == left_behind(whole)


@pytest.mark.parametrize("at", [3, 4, 8], ids=["inside", "last of an epoch", "last of all"])
def test_interrupt_saves_and_goes_on(uninterrupted, tmp_path, at):
    """An epoch whose last step was saved is selected by the session that goes on."""
    spec, places, whole = uninterrupted["cris"]
    run, trainer = started(
        spec, places, tmp_path, Execution.of(device="cpu", checkpoint_seconds=1e9, log_every=2)
    )
    with pytest.raises(Interrupted):
        trainer.train(
            lambda step, steps, message: os.kill(os.getpid(), signal.SIGINT) if step == at else None
        )
    assert trainer.steps_per_epoch == 4
    assert resume_point.load(run)["step"] == at
    assert run.recorded_status().message == "interrupted" and run.recorded_status().step == at
    _, trainer = started(spec, places, tmp_path)
    trainer.train()
    assert left_behind(run) == left_behind(whole)


def test_baseline_and_maskris_share_every_other_draw(boxes, tmp_path):
    batches = {}
    for strategy in ("baseline", "maskris"):
        spec, places = tiny_spec(boxes, "cris", strategy)
        _, trainer = started(spec, places, tmp_path)
        order = trainer.samples.order(1, 4, True)
        raws = [
            raw for step in training_batches(trainer.samples, 1, order, 4, 0, 1, 0) for raw in step
        ]
        batches[strategy] = (
            raws,
            {name: value.clone() for name, value in trainer.method.state_dict().items()},
        )
    for first, second in zip(batches["baseline"][0], batches["maskris"][0], strict=True):
        assert first.samples == second.samples and torch.equal(first.text.ids, second.text.ids)
    for name, value in batches["baseline"][1].items():
        assert torch.equal(value, batches["maskris"][1][name]), "starting weights"


def test_shards_together_are_the_whole(boxes):
    spec, places = tiny_spec(boxes)
    dataset, tokenizer = Opened(places).run(spec)
    samples = TrainingSamples(dataset, "train", tiny_needs(spec, tokenizer), tokenizer, 0)
    order = samples.order(0, 8, True)
    whole = [
        raw.samples for step in training_batches(samples, 0, order, 4, 0, 1, 0) for raw in step
    ]
    parts = [
        [raw.samples for step in training_batches(samples, 0, order, 4, rank, 2, 0) for raw in step]
        for rank in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [
        sorted(micro) for micro in whole
    ]


def tiny_needs(spec, tokenizer):
    return inference.build_method(spec, tokenizer).needs


def test_accumulation_reaches_the_global_batch(boxes, tmp_path):
    """Two micro-batches weigh together what one batch weighs."""
    recipe = {"epochs": 1, "batch_size": 8, "micro_batch": 4}
    spec, places = tiny_spec(boxes, "lavt", "baseline", recipes={"lavt": recipe})
    _, trainer = started(spec, places, tmp_path)
    grads, optimizer_step = [], trainer.stepper.optimizer.step
    trainer.stepper.optimizer.step = lambda: grads.append(
        {
            name: p.grad.clone()
            for name, p in trainer.method.named_parameters()
            if p.grad is not None
        }
    )
    raws = next(training_batches(trainer.samples, 0, trainer.samples.order(0, 8, True), 4, 0, 1, 0))
    trainer.stepper.optimize(raws, 0)
    each = []
    for number, raw in enumerate(raws):
        trainer.method.zero_grad()
        key = (spec.seed, "step", 0, number, 0)
        micro = trainer.stepper.micro_batch(raw, 0, key)
        micro.add_gradient = lambda loss: loss.backward()
        spec.strategy.step(micro)
        each.append(
            {
                name: p.grad.clone()
                for name, p in trainer.method.named_parameters()
                if p.grad is not None
            }
        )
    assert optimizer_step and len(raws) == 2
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, (each[0][name] + each[1][name]) / 2, rtol=1e-4, atol=1e-6)


def test_the_best_epoch_is_the_one_with_the_highest_val_oiou(uninterrupted):
    for _, _, run in uninterrupted.values():
        val = {line["epoch"]: line["val/oiou"] for line in run.metrics() if "val/oiou" in line}
        selected = run.read_json("result.json")["selected"]
        assert selected["epoch"] == max(val, key=val.get) and selected["oiou"] == max(val.values())
        assert run.read_json("result.json")["val"]["oiou"] == selected["oiou"]


def test_masks_records_and_weights_are_of_one_network(uninterrupted):
    """The stored masks give the stored counts of every expression, by pycocotools' arithmetic."""
    for spec, places, run in uninterrupted.values():
        dataset, _ = Opened(places).run(spec)
        for split in spec.selection.report:
            truths = {
                sentence.sent_id: coco_mask.merge([dataset.rle(one) for one in ref.ann_ids])
                for ref in dataset.refs_of(split)
                for sentence in ref.sentences
            }
            records, stored = run.records(split), run.masks(split)
            assert list(stored["sent_id"]) == list(records["sent_id"]) == sorted(truths)
            for record, row in zip(records.itertuples(), stored.itertuples(), strict=True):
                both = [
                    truths[record.sent_id],
                    {"size": [row.height, row.width], "counts": row.counts.encode()},
                ]
                assert record.union == coco_mask.area(coco_mask.merge(both))
                assert record.intersection == coco_mask.area(coco_mask.merge(both, intersect=True))


def test_a_kept_network_is_the_one_that_is_reported(boxes, tmp_path, monkeypatch):
    """After a kill the epochs may come out otherwise, as on a GPU. All is still of one epoch."""
    spec, places = tiny_spec(boxes, "cris", "baseline")
    run, trainer = started(spec, places, tmp_path)
    monkeypatch.setattr(trainer.report, "keep", lambda: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        trainer.train()
    assert not (run.path / "best.safetensors").exists()
    first = resume_point.load(run)
    _, trainer = started(spec, places, tmp_path)
    # No later epoch is better, whatever it gives.
    monkeypatch.setattr(best_epoch.metrics, "compute", lambda records: {"oiou": -1.0})
    trainer.train()
    kept = load_file(run.path / "best.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in first["method"].items())


def test_weights_of_another_attempt_are_never_reported(boxes, tmp_path, monkeypatch):
    """As after a kill, when a GPU has computed the epoch again and a little otherwise."""
    spec, places = tiny_spec(boxes, "cris", "baseline")
    run, trainer = started(spec, places, tmp_path)
    path = run.path / "best.safetensors"
    keep = trainer.report.keep

    def keep_others():
        keep()
        weights = load_file(path)
        next(its for its in weights.values() if its.is_floating_point()).add_(1e-6)
        save_file(weights, path)

    monkeypatch.setattr(trainer.report, "keep", keep_others)
    with pytest.raises(UserError, match="best.safetensors does not have the weights .* delete"):
        trainer.train()
    assert not (run.path / "result.json").exists()


def test_timings_stay_out_of_the_metrics(uninterrupted):
    for _, _, run in uninterrupted.values():
        names = {name for line in run.metrics() for name in line}
        assert not [name for name in names if re.search("second|time", name)]
        assert read_costs(run).training_seconds > 0


def test_a_nan_loss_ends_in_one_sentence(boxes, tmp_path, monkeypatch):
    spec, places = tiny_spec(boxes, "cris", "baseline")
    run, trainer = started(spec, places, tmp_path)
    monkeypatch.setattr(
        trainer.method, "loss", lambda output, batch: {"bce": output.logits.sum() * float("nan")}
    )
    with pytest.raises(UserError, match="became nan at step 0.*learning_rate"):
        trainer.train()
    assert not (run.path / "result.json").exists()


def test_a_full_disk_loses_nothing(boxes, tmp_path, monkeypatch):
    spec, places = tiny_spec(boxes, "cris", "baseline")
    run, trainer = started(spec, places, tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    trainer.state.save()
    before = (run.path / "state" / "latest.pt").read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device.*make room"):
        trainer.train()
    assert (run.path / "state" / "latest.pt").read_bytes() == before
    assert list((run.path / "state").iterdir()) == [run.path / "state" / "latest.pt"]


def test_weights_and_records_read_back(uninterrupted):
    for _, _, run in uninterrupted.values():
        assert load_file(run.path / "best.safetensors")
        frame = pd.read_parquet(run.path / "records" / "val.parquet")
        assert (frame.intersection <= frame.union).all() and frame.sent_id.is_monotonic_increasing
        assert (
            json.loads((run.path / "environment.json").read_text())["packages"]["torch"]
            == torch.__version__.split("+")[0]
        )


def test_the_environment_says_how_float32_is_computed(uninterrupted):
    for _, _, run in uninterrupted.values():
        numerics = run.read_json("environment.json")["numerics"]
        assert not numerics["tf32"] and not numerics["cudnn_tf32"]
        assert numerics["cudnn_benchmark"] is False and numerics["cudnn_deterministic"] is False


def test_a_damaged_resume_point_is_named(boxes, tmp_path):
    spec, places = tiny_spec(boxes)
    run, trainer = started(spec, places, tmp_path)
    (run.path / "state").mkdir()
    (run.path / "state" / "latest.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="latest.pt is damaged: delete it"):
        trainer.train()


def test_a_resume_point_never_executes_code(boxes, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    spec, places = tiny_spec(boxes)
    run, trainer = started(spec, places, tmp_path)
    (run.path / "state").mkdir()
    torch.save({"step": Evil()}, run.path / "state" / "latest.pt")
    with pytest.raises(UserError, match="damaged"):
        trainer.train()
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_with_accumulation(boxes, tmp_path, precision):
    recipe = {"epochs": 1, "batch_size": 4, "micro_batch": 2, "precision": precision}
    spec, places = tiny_spec(boxes, "lavt", "maskris", recipes={"lavt": recipe})
    run, trainer = started(spec, places, tmp_path)
    trainer.train()
    assert run.status().state == "done"
    assert {value.dtype for value in trainer.method.parameters()} == {torch.float32}, (
        "master weights stay in fp32"
    )
    assert all(line["train/loss"] > 0 for line in run.metrics() if "train/loss" in line)
    # The network that is loaded later gives what the run has recorded.
    loaded = inference.load(run, Opened(places), "cpu")
    assert loaded.method.precision == precision
    again = evaluate(loaded.method, loaded.dataset, "val", loaded.tokenizer, loaded.device)
    assert again.equals(run.records("val"))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("method", ["cris", "sag"])
def test_the_probe_leaves_nothing_behind(boxes, tmp_path, monkeypatch, method):
    """The probe of Fig. B disturbs neither BatchNorm (CRIS) nor dropout and noise (SaG)."""
    recipe = {"epochs": 1, "batch_size": 4, "micro_batch": 4}
    spec, places = tiny_spec(boxes, method, recipes={method: recipe})
    weights, lines = [], []
    for often in (1, 10**9):
        monkeypatch.setattr(trainer_module, "PROBE_STEPS", often)
        run, trainer = started(spec, places, tmp_path / str(often))
        trainer.train()
        weights.append((run.path / "best.safetensors").read_bytes())
        lines.append([line for line in run.metrics() if "probe/loss_original" in line])
    assert weights[0] == weights[1]
    assert len(lines[0]) == trainer.state.steps and len(lines[1]) == 1
    assert all(line["probe/loss_masked"] != line["probe/loss_original"] for line in lines[0])


@pytest.mark.usefixtures("no_pictures")
def test_augmented_runs_train(boxes, tmp_path):
    spec, places = tiny_spec(boxes, "lavt", "crop-flip-jitter")
    run, trainer = started(spec, places, tmp_path)
    plain, _ = tiny_spec(boxes, "lavt", "baseline")
    trainer.train()
    assert run.status().state == "done" and spec.strategy.augmentations == (
        "crop",
        "flip",
        "jitter",
    )
    assert "augmentations" not in plain.model_dump()["strategy"]  # so that older keys stay
