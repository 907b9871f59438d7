"""Reports of hand-made searches: the best trial, its preset, what is no result, and figures."""

import csv as plain_csv
import io
import re
import shutil
import warnings

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.records import SWAPPED, canonical
from benchmark.runs.execution import Places
from benchmark.runs.groups import Cell, Group, write_plan
from benchmark.runs.preset import PRESETS, read_preset, replaced
from benchmark.runs.resolve import resolve_preset
from benchmark.runs.rundir import RunDir
from reports.studies.searches import figures, importances, ranking, report
from studies import study

SPACE = {
    "distill_weight": {"low": 0.0, "high": 0.9},
    "image_mask_ratio": {"low": 0.1, "high": 0.9, "step": 0.05},
    "patch_size": {"choices": [4, 8, 16]},
    "mask_share": {"low": 0.0, "high": 1.0},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
PAPER = {
    "distill_weight": 0.5,
    "image_mask_ratio": 0.75,
    "patch_size": 8,
    "mask_share": 0.8,
    "learning_rate": 1.5e-3,
}
VALUE = "val oIoU"
BASELINE = {**PAPER, "distill_weight": 0.0}
OTHER = {
    "distill_weight": 0.3,
    "image_mask_ratio": 0.1 + 7 * 0.05,
    "patch_size": 16,
    "mask_share": 1 / 3,
    "learning_rate": 1e-3 / 7,
}
ROOMS = {
    "distill_weight": FloatDistribution(0, 0.9),
    "image_mask_ratio": FloatDistribution(0.1, 0.9, step=0.05),
    "patch_size": CategoricalDistribution((4, 8, 16)),
    "mask_share": FloatDistribution(0, 1),
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
}


@pytest.fixture
def preset(boxes, tmp_path):
    quick = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4}
    quick |= {
        "datasets": ["refcoco"],
        "data": str(boxes),
        "recipes": {"lavt": recipe},
        "selection": {"every": 2},
    }
    path = tmp_path / "boxes.yaml"
    path.write_text(yaml.safe_dump(quick))
    return str(path)


@pytest.fixture
def started(preset, tmp_path):
    return start(preset, tmp_path)


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the figures, which take seconds."""
    monkeypatch.setattr(figures, "draw", lambda *_: {})


def start(preset, folder, **fields):
    values = {
        "description": "a test",
        "kind": "search",
        "method": "lavt",
        "strategy": "maskris",
        "space": SPACE,
        "paper": PAPER,
        "trials": 9,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values | fields))
    return study.start(str(path), preset, {})


def make_study(objectives=1):
    return optuna.create_study(directions=["maximize"] * objectives)


def add(
    to, started, runs, parameters, *values, state=TrialState.COMPLETE, share=None, **attributes
):
    """Add a trial and, where it is complete, its finished run.

    Every expression of the run has about the IoU `share`.
    """
    # As `studies.search.suggest`, which rounds the 0.45000000000000001 of steps.
    spec = started.trial_spec(
        {name: round(v, 10) if name == "image_mask_ratio" else v for name, v in parameters.items()}
    )
    to.add_trial(
        create_trial(
            state=state,
            values=list(values) or None,
            params=parameters,
            distributions=ROOMS,
            user_attrs={"key": spec.key, **attributes},
            intermediate_values={2: 0.9} if state != TrialState.FAIL else {},
        )
    )
    if state == TrialState.COMPLETE:
        finish(RunDir(runs / spec.key), spec, values[0] if share is None else share)
    return spec


def finish(run, spec, share):
    run.create(spec)
    result = {"selected": {"epoch": 1, "oiou": share, "split": "val", "metric": "oiou"}}
    for number, split in enumerate(spec.selection.report):
        random = np.random.default_rng(number)
        union = random.integers(200, 400, 16)
        hit = np.clip(random.normal(share, 0.1, 16), 0, 1)
        table = pd.DataFrame(
            {"image_id": np.arange(16) // 2, "sent_id": np.arange(16), "sentence": "a box"}
        )
        table = table.assign(ref_id=table["sent_id"], ann_id=table["sent_id"])
        table = table.assign(intersection=(union * hit).astype(int), union=union)
        for name in SWAPPED:
            table[name] = pd.array([1] * 16, dtype="Int64")
        run.write_records(split, table)
        result[split] = canonical(metrics.compute(table))
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    run.write_status("done")


@pytest.fixture
def whole(started, tmp_path):
    """Return a search of seven trials: three complete, and one of each other end."""
    runs, made = tmp_path / "runs", make_study()
    add(made, started, runs, PAPER, state=TrialState.FAIL, reference="paper")
    add(made, started, runs, BASELINE, 0.40, reference="baseline")
    add(made, started, runs, PAPER, 0.45, reference="paper")
    best = add(made, started, runs, OTHER, 0.5)
    add(made, started, runs, {**OTHER, "patch_size": 4}, 0.99, state=TrialState.PRUNED)
    add(
        made,
        started,
        runs,
        {**OTHER, "patch_size": 8},
        state=TrialState.FAIL,
        reason="the loss\nbecame nan",
    )
    made.enqueue_trial(PAPER)
    return started, made, runs, best


def section(text, title):
    return text.split(f"## {title}", 1)[1].split("\n## ")[0]


# --- the best as a preset -------------------------------------------------------------------------


def only_key(path):
    (spec,) = resolved(read_preset(str(path)))
    return spec.key


def resolved(preset):
    return resolve_preset("best", preset, Places(preset.data), write_embedded=True).specs


def test_the_presets_run_is_the_best_trials(undrawn, whole, tmp_path):
    started, made, runs, best = whole
    report.write(started, made, runs, tmp_path / "out")
    assert (
        only_key(tmp_path / "out" / started.name / f"{started.name}-best.yaml")
        == best.key
        == made.trials[3].user_attrs["key"]
    )
    assert best.strategy.text_mask_shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_the_claims_command_adds_the_same_baseline(undrawn, whole, tmp_path):
    started, made, runs, best = whole
    report.write(started, made, runs, tmp_path)
    path = tmp_path / started.name / f"{started.name}-best.yaml"
    claim = f"risbench matrix --preset {path} --name {started.name}-claim"
    claim += " --strategies baseline,maskris --seeds 1,2,3"
    assert claim in (path.parent / "study.md").read_text()
    wider = replaced(read_preset(str(path)), strategies=("baseline", "maskris"), seeds=(0, 1, 2))
    keys = {spec.key for spec in resolved(wider)}
    assert len(keys) == 6 and best.key in keys
    same_rate = started.trial_spec({**BASELINE, "learning_rate": OTHER["learning_rate"]})
    assert same_rate.key in keys


def test_where_the_baseline_won_it_says_so(undrawn, started, tmp_path):
    runs, made = tmp_path / "runs", make_study()
    add(made, started, runs, PAPER, 0.4, reference="paper")
    baseline = add(made, started, runs, BASELINE, 0.45, reference="baseline")
    report.write(started, made, runs, tmp_path)
    path = tmp_path / started.name / f"{started.name}-best.yaml"
    assert (
        only_key(path) == baseline.key
        and "the baseline won" in (path.parent / "study.md").read_text()
    )
    paper = resolved(replaced(read_preset(str(path)), strategies=("maskris",)))
    assert paper[0].key == started.trial_spec(PAPER).key


def test_embedded_data_are_written_anew_by_the_preset(undrawn, tmp_path):
    quick = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    sizes = {"train": 12, "val": 2, "testA": 2, "testB": 2, "seed": 3}
    (tmp_path / "own.yaml").write_text(
        yaml.safe_dump(quick | {"data": str(tmp_path / "data"), "refshapes": sizes})
    )
    runs, made, started = (
        tmp_path / "runs",
        make_study(),
        start(str(tmp_path / "own.yaml"), tmp_path),
    )
    best = add(made, started, runs, PAPER, 0.4, reference="paper")
    report.write(started, made, runs, tmp_path)
    shutil.rmtree(tmp_path / "data")
    assert only_key(tmp_path / started.name / f"{started.name}-best.yaml") == best.key


# --- numbers --------------------------------------------------------------------------------------


def test_pruned_and_failed_trials_are_no_results(undrawn, whole, tmp_path):
    started, made, runs, best = whole
    paths = report.write(started, made, runs, tmp_path)
    text = next(path for path in paths if path.name == "study.md").read_text()
    assert (
        "The best trial is number 3 with val oIoU 50.00 %, the highest of 3 complete trials" in text
    )
    assert (
        "5 were looked at (3 complete, 1 pruned, 1 failed). Besides these: 1 waiting, 1"
        " interrupted and taken up." in text
    )
    assert "99.00" not in text and "the loss became nan" in text
    ranked = re.findall(r"^\| (\d) +\| (\d) +\| (\S*)", section(text, "Trials"), re.MULTILINE)
    assert ranked == [("1", "3", "best"), ("2", "2", "paper"), ("3", "1", "baseline")]


def test_val_and_test_splits_are_apart_and_their_numbers_those_of_pandas(undrawn, whole, tmp_path):
    started, made, runs, best = whole
    report.write(started, made, runs, tmp_path)
    text = (tmp_path / started.name / "study.md").read_text()
    result, test = section(text, "Result"), section(text, "Test splits: reported, never chosen by")
    assert "testA" not in result and "val" not in test.split("- best")[0]
    keys = {
        name: started.trial_spec(of).key for name, of in (("paper", PAPER), ("baseline", BASELINE))
    } | {"best": best.key}

    def oiou(name, split):
        records = RunDir(runs / keys[name]).records(split)
        return 100 * records["intersection"].sum() / records["union"].sum()

    for split, part in (("val", result), ("testA", test), ("testB", test)):
        for name in keys:
            assert f"{oiou(name, split):.2f} [" in part
        for one, other in (("best", "baseline"), ("paper", "baseline"), ("best", "paper")):
            difference = f"{oiou(one, split) - oiou(other, split):+.2f} ["
            assert (difference in part) == (split != "val"), "val chose the trial"
    assert "these two checkpoints" in text and "optimistically biased" in text


def test_the_csv_has_a_row_a_trial(whole):
    started, made, runs, best = whole
    rows = [*plain_csv.DictReader(io.StringIO(ranking.csv(started, made)))]
    assert [
        row["state"] for row in rows
    ] == "failed complete complete complete pruned failed waiting".split()
    assert [row["val_oiou"] for row in rows] == ["", "0.400000", "0.450000", "0.500000", "", "", ""]
    assert [row["reference"] for row in rows[:4]] == ["paper", "baseline", "paper", ""]
    assert (
        rows[0]["reason"] == "interrupted; trial 2 went on with its run" and rows[2]["reason"] == ""
    )
    assert (
        rows[5]["reason"] == "the loss became nan"
        and rows[5]["last_epoch"] == ""
        and rows[4]["last_epoch"] == "2"
    )
    assert rows[3]["run"] == best.key and float(rows[3]["mask_share"]) == pytest.approx(1 / 3)
    assert (rows[3]["image_mask_ratio"], rows[6]["patch_size"], rows[6]["run"]) == ("0.45", "8", "")
    assert all(float(row["seconds"]) >= 0 for row in rows[:6]) and rows[6]["seconds"] == ""


def test_of_two_objectives_the_front_is_listed(preset, tmp_path):
    started = start(
        preset,
        tmp_path,
        objectives=["oiou", "corrupted_oiou"],
        corruptions=["fog"],
        severities=[3],
        trials=5,
    )
    runs, made = tmp_path / "runs", make_study(2)
    add(made, started, runs, PAPER, 0.40, 0.30, reference="paper")
    add(made, started, runs, BASELINE, 0.39, 0.2, reference="baseline")
    add(made, started, runs, OTHER, 0.38, 0.35)
    best = add(made, started, runs, {**OTHER, "patch_size": 4}, 0.42, 0.25)
    paths = report.write(started, made, runs, tmp_path)
    text = (tmp_path / started.name / "study.md").read_text()
    assert "The Pareto front: trials 3, 0, 2." in text
    front = re.findall(
        r"^\| \d +\| (\d) +\| [^|]*Pareto *\|", section(text, "Trials"), re.MULTILINE
    )
    assert (
        front == ["3", "0", "2"]
        and only_key(tmp_path / started.name / f"{started.name}-best.yaml") == best.key
    )
    assert {"pareto.png", "pareto.pdf"} <= {path.name for path in paths}


# --- what a user can get wrong --------------------------------------------------------------------


def test_errors_are_one_sentence(undrawn, whole, tmp_path):
    started, made, runs, best = whole
    with pytest.raises(
        UserError, match=r"no complete trial yet \(0 complete\): go on with `risbench study resume"
    ):
        report.write(started, make_study(), runs, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report.write(started, made, runs, tmp_path / "file")
    (runs / best.key).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"the run {best.key} of trial 3 \(best\) is missing in"):
        report.write(started, made, runs, tmp_path)


def test_the_terminal_is_never_too_narrow(whole):
    started, made, runs, _ = whole
    said = io.StringIO()
    report.render(Console(file=said, width=100), started, made, runs)
    text = said.getvalue()
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    assert "The best trial is number 3" in text and "the loss became nan" in text
    report.render(Console(file=said, width=100), started, make_study(), runs)
    assert "no trial is complete yet (0 complete)" in said.getvalue()


# --- figures --------------------------------------------------------------------------------------


def random_study(count, objectives=1):
    made, random = make_study(objectives), np.random.default_rng(0)
    for _ in range(count):
        values = {
            **PAPER,
            "distill_weight": random.uniform(0, 0.9),
            "learning_rate": 10 ** random.uniform(-4, -2),
        }
        value = 0.5 - abs(values["distill_weight"] - 0.4) / 5
        trial = create_trial(values=[value] * objectives, params=values, distributions=ROOMS)
        made.add_trial(trial)
    return made


def test_the_same_study_gives_the_same_bytes_and_disturbs_nobody(whole, tmp_path):
    started, made, runs, _ = whole
    mine, before = plt.figure(), (dict(plt.rcParams), plt.get_backend())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = {
            path.name: path.read_bytes() for path in report.write(started, made, runs, tmp_path)
        }
        again = {
            path.name: path.read_bytes() for path in report.write(started, made, runs, tmp_path)
        }
    assert first == again and (dict(plt.rcParams), plt.get_backend()) == before
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)
    figures = {
        f"{name}.{kind}"
        for name in ("history", "parallel", "slices", "importances")
        for kind in ("png", "pdf", "svg")
    }
    assert first.keys() == figures | {"study.md", "trials.csv", f"{started.name}-best.yaml"}
    assert "Only 3 complete trials (fewer than 50)" in first["study.md"].decode()
    for name in figures:
        if name.endswith("png"):
            assert Image.open(io.BytesIO(first[name])).info["dpi"] == pytest.approx(
                (200, 200), abs=0.1
            )
        else:
            assert b"Date" not in first[name]


def test_importances_are_warned_of_or_left_out():
    few, many = (
        importances.importances(random_study(20), VALUE),
        importances.importances(random_study(50), VALUE),
    )
    assert few.warning.startswith("Only 20 complete trials") and many.warning == ""
    assert max(many.shares, key=many.shares.get) == "distill_weight" and sum(
        many.shares.values()
    ) == pytest.approx(1)
    constant = make_study()
    for trial in random_study(3).trials:
        constant.add_trial(create_trial(value=0.4, params=trial.params, distributions=ROOMS))
    for made, why in ((random_study(1), "two are needed"), (constant, "all values are equal")):
        known = importances.importances(made, VALUE)
        assert not known.shares and why in known.warning
    assert figures.draw(random_study(1), known, [VALUE], []).keys() == {
        f"{name}.{kind}"
        for name in ("history", "parallel", "slices")
        for kind in ("png", "pdf", "svg")
    }


# --- the plan -------------------------------------------------------------------------------------


def test_what_casts_doubt_on_the_comparison_is_said(undrawn, whole, tmp_path):
    started, made, runs, best = whole
    for spec, threads in ((best, 4), (started.trial_spec(PAPER), 1)):
        run = RunDir(runs / spec.key)
        environment = run.read_json("environment.json")
        run.write_json("environment.json", environment | {"numerics": {"threads": threads}})
    group = Group(started.name, "study", cells=[Cell.of(best, trial=3)])
    write_plan(runs, group)
    group.margin = 1.0
    write_plan(runs, group)
    report.write(started, made, runs, tmp_path)
    text = (tmp_path / started.name / "study.md").read_text()
    assert "threads 4 and 1" in text and "margin was 0.5" in text
