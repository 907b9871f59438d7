"""Masks that were made elsewhere become a run like any other, from the command line on."""

import json

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from benchmark.data.datasets import read
from benchmark.evaluation import metrics
from benchmark.evaluation.text_blind_scores import read_scores
from benchmark.runs.rundir import RunDir, all_runs
from tests.cli.commands import keys, run
from tests.cli.conftest import copy_world


@pytest.fixture(scope="module")
def world(common, tmp_path_factory):
    """A world that these tests have for themselves, since they add rows to its plan."""
    return copy_world(common, tmp_path_factory)


def scored(world, name):
    """Return the run directory of predictions."""
    (found,) = [
        its
        for its in all_runs(world / "runs")
        if its.kind == "predictions" and its.any_spec().name == name
    ]
    return found


def score(world, path, *options, split="val", name="mine"):
    where = ["--data", world / "data", "--runs", world / "runs"]
    what = ["--dataset", "refcoco", "--split", split, "--name", name]
    return run("score", path, *what, *where, *options)


def all_ones(world, split="val", shift=0):
    """Write masks that mark the left `shift` columns, or all of the image."""
    rows = []
    data = read("refcoco", "unc", world / "data")
    for ref in data.refs_of(split):
        info = data.info(ref.image_id)
        mask = np.zeros((info.height, info.width), np.uint8, order="F")
        mask[:, : shift or info.width] = 1
        code = coco.encode(mask)
        for sentence in ref.sentences:
            code = {"size": code["size"], "counts": code["counts"]}
            text = code["counts"]
            text = text.decode() if isinstance(text, bytes) else text
            segmentation = {"size": list(code["size"]), "counts": text}
            rows.append({"sent_id": sentence.sent_id, "segmentation": segmentation})
    path = world / f"ones-{split}-{shift}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", ["json", "jsonl", "json.gz", "jsonl.gz", "parquet"])
def test_what_a_run_predicts_is_scored_to_its_own_records(world, ending, tmp_path, capsys):
    key = keys(world)[0]
    for split in ("val", "testA"):
        path = tmp_path / f"{split}.{ending}"
        assert run("predict", key, "--split", split, "--out", path, "--runs", world / "runs") == 0
        assert score(world, path, split=split, name=f"again-{ending}") == 0
        own = RunDir(world / "runs" / key)
        again = scored(world, f"again-{ending}")
        pd.testing.assert_frame_equal(again.records(split), own.records(split), check_exact=True)
        pd.testing.assert_frame_equal(again.masks(split), own.masks(split))
        assert again.read_json("result.json")[split] == own.read_json("result.json")[split]
    assert list(again.any_spec().splits) == ["val", "testA"]
    assert again.checked_status(["*"]).state == "done"
    assert "oIoU" in capsys.readouterr().out


def test_the_numbers_are_those_of_plain_counting(world, capsys):
    path = all_ones(world)
    assert score(world, path, name="ones") == 0
    data = read("refcoco", "unc", world / "data")
    truths = [data.mask(ref.ann_id) for ref in data.refs_of("val") for _ in ref.sentences]
    miou = np.mean([truth.mean() for truth in truths])
    records = scored(world, "ones").records("val")
    assert metrics.compute(records)["miou"] == pytest.approx(miou, abs=1e-12)
    assert f"{100 * miou:.2f}" in capsys.readouterr().out


def test_the_same_masks_are_scored_once_and_others_need_another_name(world, capsys):
    assert score(world, all_ones(world), name="once") == 0
    there = scored(world, "once").path / "records" / "val.parquet"
    before = there.stat().st_mtime_ns
    assert score(world, all_ones(world), name="once") == 0
    assert "had been scored before" in capsys.readouterr().out
    assert there.stat().st_mtime_ns == before
    assert score(world, all_ones(world, shift=9), name="once") == 2
    assert "give these another --name" in capsys.readouterr().err
    assert score(world, all_ones(world, "testA", shift=9), split="testA", name="once") == 0


def test_it_is_compared_with_a_run_and_with_other_predictions(world, capsys):
    assert score(world, all_ones(world), name="first") == 0
    first, key = scored(world, "first").key, keys(world)[0]
    options = ["--against", "cris-tiny-baseline", "--against", first]
    assert score(world, all_ones(world, shift=20), *options, name="second") == 0
    out = capsys.readouterr().out
    records = [RunDir(world / "runs" / its).records("val") for its in (first,)]
    difference = 100 * (
        metrics.compute(scored(world, "second").records("val"))["oiou"]
        - metrics.compute(records[0])["oiou"]
    )
    assert f"minus {first} on val" in out and f"{difference:+.2f}" in out
    assert f"minus {[its for its in keys(world) if 'cris-tiny-baseline' in its][0]}" in out
    assert key in keys(world)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "say with --name"),
        ({"name": "../up"}, "cannot name a file"),
        ({"name": "lavt"}, "is a method of the suite"),
        ({"split": "tset"}, "did you mean test"),
        ({"path": "absent.jsonl"}, "there are no predictions"),
        ({"options": ["--dataset", "refcco"]}, "did you mean refcoco"),
        ({"options": ["--against", "nothing"]}, "run 'nothing' is not known"),
    ],
)
def test_a_wrong_call_ends_in_one_sentence(world, change, message, capsys):
    path = change.get("path") or all_ones(world)
    its = {name: change[name] for name in ("name", "split") if name in change}
    assert score(world, path, *change.get("options", ()), **its) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "Traceback" not in error


def test_missing_masks_are_told(world, capsys):
    path = world / "part.jsonl"
    path.write_text("".join(all_ones(world).read_text().splitlines(keepends=True)[1:]))
    assert score(world, path, name="part") == 2
    assert "1 of 12 expressions has no mask" in " ".join(capsys.readouterr().err.split())
    assert score(world, path, "--allow-missing", name="part") == 0
    assert "1 of 12 expressions have no mask" in capsys.readouterr().out
    assert scored(world, "part").any_spec().splits["val"].missing == 1


def test_what_ignores_the_sentence_is_measured_and_kept(world, capsys):
    """These masks mark the same for every sentence, so nothing is gained by reading it."""
    for _ in range(2):
        assert score(world, all_ones(world), "--text-blind", name="blind") == 0
        assert "maximum of an image's maps" in " ".join(capsys.readouterr().out.split())
    its = scored(world, "blind")
    found = read_scores(its, "val")
    miou = metrics.compute(its.records("val"))["miou"]
    assert found["mean"] == found["max"] == pytest.approx(miou)


def test_damaged_predictions_are_scored_again(world, capsys):
    assert score(world, all_ones(world), name="hurt") == 0
    there = scored(world, "hurt")
    (there.path / "records" / "val.parquet").write_bytes(b"")
    assert score(world, all_ones(world), name="hurt") == 0
    assert there.checked_status(["*"]).state == "done" and len(there.records("val")) == 12


def test_what_needs_a_network_says_that_there_is_none(world, tmp_path, capsys):
    assert score(world, all_ones(world), name="netless") == 0
    key = scored(world, "netless").key
    places = ["--runs", world / "runs"]
    for command in (
        ["resume", key],
        ["evaluate", key],
        ["export", key],
        ["pseudo-masks", key],
        ["robustness", key],
    ):
        capsys.readouterr()
        assert run(*command, *places) in (1, 2), command
        error = " ".join(capsys.readouterr().err.split())
        assert "made elsewhere" in error and "Traceback" not in error, (command, error)


def test_other_commands_show_them_or_leave_them_alone(world, tmp_path, capsys):
    assert score(world, all_ones(world), name="shown") == 0
    key, places = scored(world, "shown").key, ["--runs", world / "runs"]
    assert run("status", *places) == 0
    assert any(key in line and "done" in line for line in capsys.readouterr().out.splitlines())
    assert run("report", "boxes", "--only", "table", "--out", tmp_path / "out", *places) == 0
    assert key in capsys.readouterr().out, "it is listed as one that no table has"
    assert run("claims", *places) == 0
    assert run("plan", "--preset", world / "boxes.yaml", "--no-measure", *places) == 0
    assert run("clean", "--yes", *places) == 0
    assert run("pack", tmp_path / "archives", *places) == 0
    archives = [*(tmp_path / "archives").glob("*.gz")]
    assert run("unpack", *archives, "--runs", tmp_path / "other") == 0
    assert (tmp_path / "other" / key / "records" / "val.parquet").exists()
    assert run("sync", "--uri", f"sqlite:///{tmp_path}/mlflow.db", *places) == 0
    assert "failed" not in capsys.readouterr().out


# --- rows of tables -------------------------------------------------------------------------------


def table(world, out, *options):
    """Write the report of the plan, and return its CSV and its Markdown."""
    parts = ["--only", "table,index", "--out", out, "--runs", world / "runs"]
    assert run("report", "boxes", *parts, *options) == 0
    return pd.read_csv(out / "boxes" / "table.csv"), (out / "boxes" / "table.md").read_text()


def test_predictions_are_a_row_of_a_plan(world, tmp_path, capsys):
    path = world / "part.jsonl"
    path.write_text("".join(all_ones(world).read_text().splitlines(keepends=True)[1:]))
    assert score(world, path, "--allow-missing", "--group", "boxes", name="guest") == 0
    csv, text = table(world, tmp_path)
    (row,) = csv.query("method == 'guest' and split == 'val' and metric == 'oiou'").to_dict(
        "records"
    )
    assert row["mean"] == pytest.approx(
        metrics.compute(scored(world, "guest").records("val"))["oiou"], abs=1e-6
    )
    assert row["strategy"] == "made elsewhere" and pd.isna(row["difference"])
    assert "1 of 12 expressions of val have no mask, which counts as empty" in text
    own = csv.query("method == 'cris' and metric == 'oiou'")
    assert own["difference"].notna().sum() == 3, "the pairs of the suite stay as they were"
    page = (tmp_path / "boxes" / "index.html").read_text()
    assert "guest" in page and scored(world, "guest").key in page
    # What runs the plan again keeps the row.
    again = ["--preset", world / "boxes.yaml", "--runs", world / "runs", "--out", tmp_path]
    assert run("matrix", *again, "--no-sync") == 0
    assert "guest" in (tmp_path / "boxes" / "table.md").read_text()
    assert run("status", "boxes", "--runs", world / "runs") == 0
    assert "guest" in capsys.readouterr().out


def test_predictions_of_both_strategies_are_a_pair(world, tmp_path):
    rows = {"released": "baseline", "masked": "maskris"}
    for number, (name, strategy) in enumerate(rows.items()):
        options = ["--group", "boxes", "--as", f"cris/tiny/{strategy}"]
        path = all_ones(world, "testA", shift=20 + 9 * number)
        assert score(world, path, *options, name=name, split="testA") == 0
    csv, text = table(world, tmp_path)
    rows = csv[csv["settings"] == "(made elsewhere)"].query("metric == 'oiou'")
    (pair,) = rows[rows["strategy"] == "+MaskRIS"].to_dict("records")
    values = [
        metrics.compute(scored(world, name).records("testA"))["oiou"]
        for name in ("released", "masked")
    ]
    assert pair["difference"] == pytest.approx(values[1] - values[0], abs=2e-6)
    assert "cris tiny (made elsewhere)" in text and "patch_size" not in text
    assert (
        "released (seed 0) on refcoco were made elsewhere and stand for cris/tiny/baseline" in text
    )


def test_two_predictions_of_a_row_need_two_seeds(world, capsys):
    row = ["--as", "lavt/paper/baseline"]
    assert score(world, all_ones(world), *row, name="one") == 0
    assert score(world, all_ones(world, shift=5), *row, name="two") == 2
    assert "'one' stands for lavt/paper/baseline" in capsys.readouterr().err
    assert score(world, all_ones(world, shift=5), *row, "--seed", "1", name="two") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--as", "lavt"], "write METHOD/VARIANT/STRATEGY"),
        (["--as", "lvat/paper/baseline"], "did you mean lavt"),
        (["--as", "lavt/papr/baseline"], "did you mean paper"),
        (["--as", "lavt/paper/maskrs"], "did you mean maskris"),
        (["--group", "boxs"], "did you mean boxes"),
    ],
)
def test_a_row_that_is_not_known_is_named_before_anything_is_scored(
    world, options, message, capsys
):
    before = keys(world)
    assert score(world, all_ones(world), *options, name="lost") == 2
    assert message in " ".join(capsys.readouterr().err.split()) and keys(world) == before
