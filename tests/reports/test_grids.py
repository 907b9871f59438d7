"""Grids of small fake runs against metrics' own functions and published.csv's own figures."""

import csv as csv_reader
import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import methods
from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.records import canonical
from benchmark.runs.groups import Cell, write_plan
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import Selection
from reports.layout import files
from reports.studies.grids import differences, losses, published, report
from reports.studies.grids.results import plan, results
from studies import study
from studies.grid import Grid
from tests.reports.fakes import make_records, make_spec

SPLITS = ("val", "testA", "testB")


def start(name="components", seeds=(0,), dataset="refshapes", variant="tiny", **changes):
    """Return a shipped grid on fake data; `changes` replace fields of the study."""
    caris = methods.definition("caris")
    its = {
        "method": "caris",
        "variant": variant,
        "recipe": caris.recipes[variant].model_copy(update={"epochs": 4}),
        "network": caris.variants[variant],
        "selection": Selection(metric="oiou", report=SPLITS),
    }
    return study.Started(
        name=f"{name}-quick",
        origin=name,
        preset="quick",
        study=Grid.model_validate({**study.read_study(name, variant).model_dump(), **changes}),
        bases={
            seed: make_spec("baseline", seed, dataset=dataset).model_copy(update=its)
            for seed in seeds
        },
        data=Path("data"),
    )


def finish(runs, spec, better=0.0, seconds=72.0, curve=True):
    run = RunDir(runs / spec.key)
    run.create(spec)
    result = {"selected": {"epoch": 2, "oiou": 0.4, "split": "val", "metric": "oiou"}}
    for number, split in enumerate(SPLITS):
        random = np.random.default_rng([number, spec.seed, round(1000 * better)])
        records = make_records(random, better, images=6)
        run.write_records(split, records)
        result[split] = canonical(metrics.compute(records))
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    run.write_json("timing.json", {"training_seconds": seconds})
    if curve:
        for step in range(0, 100, 25):
            run.log(
                step,
                0,
                {
                    "probe/loss_original": 1.0 + step,
                    "probe/loss_masked": 2.0 + better,
                    "train/loss": 9.0,
                },
            )
    run.write_status("done")


def finish_all(runs, started, but=(), only=None, **more):
    """Finish the runs of a grid: those of all rows, or of some."""
    for number, row in enumerate(started.study.rows):
        if row.label not in but and (only is None or row.label in only):
            for spec in started.row_specs(row):
                finish(runs, spec, 0.03 * number, **more)
    return started


def spec_of(started, label, seed=0):
    (row,) = [row for row in started.study.rows if row.label == label]
    (spec,) = [spec for spec in started.row_specs(row) if spec.seed == seed]
    return spec


def line_of(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def cells(text, title, label):
    """Return the cells of a row in a block of the Markdown."""
    block = text.split(f"### {title}\n")[1].strip().split("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    (found,) = [line for line in lines if line[0] == label]
    return found


def text_of(started, runs):
    """Return the Markdown, without drawing the figures that it shows."""
    return report.as_markdown(results(started, runs), [])


def written(started, runs, out):
    paths = {path.name: path for path in report.write(results(started, runs), out)}
    return paths["table.md"].read_text(), paths


@pytest.fixture(scope="module")
def components(tmp_path_factory):
    """Return the finished seven rows of Table 3 and their results, to read alone."""
    runs = tmp_path_factory.mktemp("components")
    started = finish_all(runs, start())
    return started, results(started, runs)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_differences_are_those_of_metrics(tmp_path):
    compared = ("none", "IM + TM + DCL")
    started = finish_all(tmp_path, start(seeds=(0, 1, 2)), only=compared)
    table = results(started, tmp_path).table
    records = {
        (label, split): {
            seed: RunDir(tmp_path / spec_of(started, label, seed).key).records(split)
            for seed in (0, 1, 2)
        }
        for label in compared
        for split in ("val", "testB")
    }
    for split in ("val", "testB"):
        own = records["IM + TM + DCL", split]
        expected = bootstrap.paired_differences(records["none", split], own)
        for metric in metrics.names():
            line = line_of(table, row="IM + TM + DCL", split=split, metric=metric)
            points = [metrics.compute(its)[metric] for its in own.values()]
            assert line["points"] == pytest.approx(points) and line["mean"] == pytest.approx(
                np.mean(points)
            )
            assert line["deviation"] == pytest.approx(np.std(points, ddof=1))
            assert (line["low"], line["high"]) == bootstrap.intervals(*own.values())[metric]
            assert line["difference"] == expected[metric].value
            assert (line["difference_low"], line["difference_high"]) == expected[metric].interval
            assert line["differences"] == tuple(expected[metric].per_seed.values())
            judged = expected["oiou"].p_value if metric == "oiou" else np.nan
            assert line["p_images"] == pytest.approx(judged, nan_ok=True)
            assert bool(line["verdict"]) == (metric == "oiou")
    assert line["runs"] == tuple(spec_of(started, "IM + TM + DCL", seed).key for seed in (0, 1, 2))
    assert line["reference_runs"] == tuple(spec_of(started, "none", seed).key for seed in (0, 1, 2))
    assert line["git_commits"] == ("c0ffee",) * 3 and line["selected_epochs"] == (2, 2, 2)


def test_holm_is_over_the_oiou_differences_of_all_rows_and_splits(components):
    _, found = components
    table = found.table
    tested = table[table["p_images"].notna()]
    assert set(tested["metric"]) == {"oiou"} and len(tested) == 6 * len(SPLITS)
    smallest = tested.sort_values("p_images").iloc[0]
    assert smallest["p_images_holm"] == pytest.approx(min(1, 18 * smallest["p_images"]))
    assert tested["p_images_holm"].tolist() == pytest.approx(
        bootstrap.holm(tested["p_images"].tolist())
    )


def test_one_seed_is_two_checkpoints_and_three_get_a_verdict(tmp_path):
    one, three = start("lambda"), start("lambda", seeds=(0, 1, 2))
    finish_all(tmp_path, three, only=(three.study.reference, "lambda 0.1 (w = 0.9)"))
    text = text_of(one, tmp_path)
    assert (
        '- "these two checkpoints" stands where there is one seed each' in text
        and "verdict" not in text
        and "± 0" not in text
    )
    text = text_of(three, tmp_path)
    found = cells(text, "oIoU on refshapes val", "lambda 0.1 (w = 0.9)")
    assert found[1] == "0, 1, 2" and " ± " in found[2] and found[4].startswith("3 seed pairs: ")
    assert "these two checkpoints" not in text


def test_differences_use_the_seeds_that_both_rows_have(tmp_path):
    started = start("mask-sampling", seeds=(0, 1))
    for label, seeds in (("patch", (0, 1)), ("grid", (1,))):
        for seed in seeds:
            finish(tmp_path, spec_of(started, label, seed), 0.1 * (label == "grid"))
    text = text_of(started, tmp_path)
    line = line_of(results(started, tmp_path).table, row="grid", split="val", metric="oiou")
    assert line["seeds"] == (1,) and line["compared"] == "these two checkpoints"
    assert f"finished run with this seed: {spec_of(started, 'patch').key}." in text


# --- the paper beside -------------------------------------------------------------------------------------------------


def test_published_differences_are_table_3s(components):
    _, found = components
    text = report.as_markdown(found, [])
    # Table 3's last column, and its P@0.9, by hand
    oious = {
        "IM": "+0.64",
        "TM": "+0.65",
        "IM + TM": "+1.04",
        "IM + DCL": "+1.35",
        "TM + DCL": "+1.09",
    }
    for label, expected in (oious | {"none": "–", "IM + TM + DCL": "+1.82"}).items():
        assert cells(text, "oIoU on refshapes val", label)[-1] == expected
    assert cells(text, "P@0.9 on refshapes val", "IM")[-2:] == ["38.73", "-0.87"]
    assert cells(text, "oIoU on refshapes val", "none")[3:5] == ["reference", "74.67"]
    assert (
        "These runs are caris tiny on refshapes, so the numbers stand there for orientation only"
        in text
    )
    line = line_of(found.table, row="IM", split="val", metric="p_90")
    assert line["published"] == pytest.approx(0.3873) and line[
        "published_difference"
    ] == pytest.approx(-0.0087)


def test_table_b_has_its_test_splits_and_hours(tmp_path):
    started = start("training-length")
    for row in started.study.rows:
        for spec in started.row_specs(row):
            finish(
                tmp_path,
                spec,
                seconds=90 * spec.recipe.epochs if row.label != "MaskRIS" else 2.5 * 3600,
            )
    text, paths = written(started, tmp_path, tmp_path / "out")
    assert cells(text, "oIoU on refshapes testB", "MaskRIS")[-2:] == ["73.96", "+2.25"]
    assert cells(text, "oIoU on refshapes testA", "baseline, twice as long")[-2:] == [
        "77.38",
        "-0.25",
    ]
    title = "time of training, mean over seeds"
    assert cells(text, title, "baseline")[2:] == ["4", "6.0 min", "1.00 ×", "18.4 h", "1.00 ×"]
    assert cells(text, title, "MaskRIS, half as long")[2:] == [
        "2",
        "3.0 min",
        "0.50 ×",
        "16.7 h",
        "0.91 ×",
    ]
    assert cells(text, title, "MaskRIS")[2:] == ["4", "2.5 h", "25.00 ×", "–", "–"]
    assert "CARIS and CARIS+MaskRIS on refcoco" in text
    read = pd.read_csv(paths["table.csv"])
    line = line_of(read, row="MaskRIS, half as long", split="val", metric="oiou")
    assert line["training_hours"] == pytest.approx(0.05) and line["published_hours"] == 16.7


@pytest.mark.parametrize("variant", ["tiny", "small", "paper"])
@pytest.mark.parametrize(
    "name", [name for name in study.shipped() if study.read_study(name).kind == "grid"]
)
def test_every_shipped_row_finds_what_the_paper_has(name, variant):
    started = start(name, variant=variant)
    paper = published.published(started)
    with (published.FILE).open() as file:
        place = [
            line for line in csv_reader.DictReader(file) if line["place"] == started.study.place
        ]
    for row in started.study.rows:
        if row.published:
            expected = {
                (line["split"], float(line["value"]))
                for line in place
                if (line["condition"], line["system"])
                == (row.published, row.system or started.study.system)
                and line["metric"] == "oIoU"
            }
            assert expected and expected == {
                (split, value)
                for (label, split, metric), value in paper.numbers.items()
                if (label, metric) == (row.label, "oiou")
            }
    if variant == "paper":
        values = {line["condition"] for line in place}
        assert values == {row.published for row in started.study.rows if row.published}


def test_the_papers_own_setting_is_no_orientation(tmp_path):
    started = finish_all(tmp_path, start(dataset="refcoco", variant="paper"))
    text = text_of(started, tmp_path)
    assert (
        "CARIS+MaskRIS on refcoco, one run each and without intervals." in text
        and "orientation" not in text
    )


def test_a_figure_without_printed_numbers_shows_none(tmp_path):
    text = text_of(finish_all(tmp_path, start("augmentation")), tmp_path)
    assert (
        len(cells(text, "oIoU on refshapes val", "random crop")) == 4 and "published:" not in text
    )


# --- what is missing --------------------------------------------------------------------------------------------------


def test_unfinished_rows_are_listed_and_no_result(tmp_path):
    started = finish_all(tmp_path, start(), but=("TM", "IM + TM", "IM + DCL"))
    for label, state, reason in (
        ("IM + TM", "pruned", "by Hyperband"),
        ("IM + DCL", "failed", "disk full"),
    ):
        finish(tmp_path, spec_of(started, label))
        RunDir(tmp_path / spec_of(started, label).key).write_status(state, reason=reason)
    text, paths = written(started, tmp_path, tmp_path / "out")
    read = pd.read_csv(paths["table.csv"])
    for label in ("TM", "IM + TM", "IM + DCL"):
        assert cells(text, "oIoU on refshapes val", label)[1:4] == ["–", "not finished", "–"]
        line = line_of(read, row=label, split="val", metric="oiou")
        assert line["finished"] == "0 of 1" and np.isnan(line["mean"]) and line["published"] > 0.7
        assert spec_of(started, label).key not in paths["table.csv"].read_text()
    assert f"{spec_of(started, 'IM + TM').key}: pruned (by Hyperband)" in text
    assert f"{spec_of(started, 'IM + DCL').key}: failed (disk full)" in text
    assert f"{spec_of(started, 'TM').key}: planned" in text and "(3 of 7 runs)" in text


def test_without_the_reference_there_is_no_difference_and_no_figure_of_one(tmp_path):
    started = finish_all(tmp_path, start(), but=("none",))
    text, paths = written(started, tmp_path, tmp_path / "out")
    assert "The reference row 'none' is not finished, so there is no difference yet." in text
    assert cells(text, "oIoU on refshapes val", "IM")[3] == "–" and "differences.png" not in paths


def test_other_runs_of_the_folder_are_no_concern(tmp_path):
    started = finish_all(tmp_path, start())
    finish(
        tmp_path,
        make_spec("maskris", 5).model_copy(
            update={"selection": Selection(metric="oiou", report=SPLITS)}
        ),
    )
    assert "not part of this table" not in text_of(started, tmp_path)


@pytest.mark.parametrize("content", ["paper,place\nx,y\n", "", "damaged", None])
def test_a_damaged_published_csv_is_a_user_error(tmp_path, monkeypatch, content):
    path = tmp_path / "published.csv"
    if content == "damaged":
        content = published.FILE.read_text().replace("76.49", "seventy")
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(published, "FILE", path)
    with pytest.raises(UserError, match=r"published.csv is (damaged|missing)"):
        published.published(start())


def test_user_errors_say_what_to_do(tmp_path):
    with pytest.raises(
        UserError, match="none of the 7 runs .* `risbench study resume components-quick`"
    ):
        results(start(), tmp_path)
    rows = [{"label": "a", "published": "IM+TN"}, {"label": "b"}]
    with pytest.raises(
        UserError, match=r"row 'a': condition of CARIS\+MaskRIS in Table 3 .*'IM\+TN'.*IM\+TM"
    ):
        results(start(rows=rows, reference="b", strategy="maskris"), tmp_path)
    with pytest.raises(UserError, match="metric of study components-quick 'oIoU' is not known"):
        results(start(metrics=("oIoU",)), tmp_path)
    started = finish_all(tmp_path, start("mask-sampling"))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="choose another --out folder"):
        report.write(results(started, tmp_path), tmp_path / "out")


# --- formats ----------------------------------------------------------------------------------------------------------


def test_the_same_runs_give_the_same_bytes(tmp_path):
    started = finish_all(tmp_path / "runs", start("training-loss", seeds=(0, 1)))
    found = [results(started, tmp_path / "runs") for _ in range(2)]
    first, again = (report.write(found[n], tmp_path / name) for n, name in enumerate("ab"))
    kinds = [f"{name}.{kind}" for name in ("differences", "losses") for kind in ("png", "pdf")]
    assert [path.name for path in first] == ["table.md", "table.csv", "table.tex", *kinds]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[1].read_text() == files.csv(found[0].table)
    assert all(
        b"CreationDate" not in path.read_bytes() and b"atplotlib" not in path.read_bytes()
        for path in first[3:]
    )
    assert "![losses](losses.png)" in first[0].read_text()


def test_figures_are_the_same_in_another_process_with_other_settings(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 5\n")
    code = (
        "import hashlib; from reports.studies.grids import differences as f, losses\n"
        "p = [f.Point('a', 1.0, 0.5, 1.5, 2.0), f.Point('b', 0.0, 0.0, 0.0, 0.0, 'reference')]\n"
        "c = {'one': {'a': [([0, 25, 50], [3.0, 2.0, 1.0])]}}\n"
        "for content in (f.draw(p, 'x', 'o', 'p') | losses.draw(c, 'x', 'y')).values():\n"
        "    print(hashlib.sha256(content).hexdigest())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=True,
        )
        for more in (
            {"PYTHONHASHSEED": "1"},
            {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(tmp_path)},
        )
    ]
    assert outputs[0].stdout == outputs[1].stdout and outputs[0].stdout.count("\n") == 4


def test_the_terminal_shows_every_row_and_cuts_no_number(tmp_path):
    started = start("masking-ratios", seeds=(0, 1, 2))
    finish_all(tmp_path, started, but=("TM 0.15 (.8/.2/0)",))
    found = results(started, tmp_path)
    line = line_of(found.table, row="TM 0.50 (.5/.5/0)", split="val", metric="oiou")
    for width in (80, 110, 200):
        shown = io.StringIO()
        report.render(Console(file=shown, width=width), found)
        text = shown.getvalue()
        widest = max(len(line.rstrip()) for line in text.splitlines())
        assert widest <= min(width, report.WIDTH)
        assert "…" not in text and "not finished" in text and "orientation" in text
        for value in ("75.76", "76.07", "-2.35"):  # published
            assert value in text
        assert f"{100 * line['mean']:.2f}" in text and f"{100 * line['difference']:+.2f}" in text


def test_latex_has_a_tabular_per_block_with_as_many_cells_as_columns(tmp_path):
    started = finish_all(tmp_path, start("training-length"))
    text = report.as_latex(results(started, tmp_path))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    for tabular in text.split(r"\begin{tabular}{")[1:]:
        columns = len(tabular.split("}")[0])
        lines = [
            line
            for line in tabular.splitlines()
            if line.endswith(r"\\") and "multicolumn" not in line
        ]
        assert len(lines) == 5 and all(line.count(" & ") == columns - 1 for line in lines)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert "×" not in body and "–" not in body and r"$\times$" in body


def test_the_settings_of_every_row_stand_in_the_report(tmp_path):
    text = text_of(finish_all(tmp_path, start("masking-ratios")), tmp_path)
    shares = "text mask ratio 0.5; of masked words 0.5 [MASK], 0.5 random, 0 kept"
    assert f"- TM 0.50 (.5/.5/0): {shares}; distillation with w = 0.5" in text
    text = text_of(finish_all(tmp_path, start("augmentation")), tmp_path)
    assert "- all three: augmentations of image and mask: crop, flip, jitter." in text


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_figure_shows_the_tables_differences_in_points(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        differences, "draw", lambda points, *words: drawn.extend([points, words]) or {}
    )
    started = finish_all(tmp_path, start(), but=("TM",))
    found = results(started, tmp_path)
    differences.figure(found)
    points, (_, ours, published) = drawn
    assert [point.label for point in points] == [row.label for row in started.study.rows]
    assert [point.note for point in points[:3]] == ["reference", "", "not finished"]
    line = line_of(found.table, row="IM", split="val", metric="oiou")
    numbers = points[1].value, points[1].low, points[1].high
    assert numbers == pytest.approx(
        [100 * line[f"difference{end}"] for end in ("", "_low", "_high")]
    )
    assert points[1].published == pytest.approx(0.64) and points[2].published == pytest.approx(0.65)
    assert (
        np.isnan(points[2].value) and ours.startswith("refshapes") and published == "paper, refcoco"
    )


def test_curves_are_the_logged_probes_of_finished_runs(components, tmp_path):
    started = finish_all(
        tmp_path, start("training-loss", seeds=(0, 1)), but=("masking as augmentation", "MaskRIS")
    )
    for seed in (0, 1):
        finish(tmp_path, spec_of(started, "MaskRIS", seed), curve=False)
    found = results(started, tmp_path)
    steps = (0, 25, 50, 75)
    assert losses.curves(found) == {
        "original inputs": {"baseline": [(steps, (1.0, 26.0, 51.0, 76.0))] * 2},
        "masked inputs": {"baseline": [(steps, (2.0,) * 4)] * 2},
    }
    assert "logged a loss curve: masking as augmentation, MaskRIS." in "\n".join(
        report.footnotes(found)
    )
    _, plain = components
    assert "losses.png" not in report.drawings(plain), "a grid without curves draws none"


def test_smoothing_keeps_constants_and_symmetric_lines():
    steps = list(range(0, 1000, 25))
    assert losses.smoothed(steps, [0.7] * 40, steps) == pytest.approx(np.full(40, 0.7))
    line = losses.smoothed(steps, steps, steps)
    assert line[20] == pytest.approx(500, abs=1e-6) and (np.diff(line) > 0).all()
    assert losses.smoothed([0], [3.0], [0]).tolist() == [3.0]


def test_a_single_measurement_can_be_drawn():
    assert set(losses.draw({"one": {"a": [([0], [1.0])]}}, "x", "y")) == {
        "losses.png",
        "losses.pdf",
    }


# --- the plan -------------------------------------------------------------------------------------


def test_what_the_plan_says_of_a_grid_stands_under_it(tmp_path):
    started = finish_all(tmp_path, start("mask-sampling"))
    before = make_spec("maskris", 9).model_copy(
        update={"selection": Selection(metric="oiou", report=SPLITS)}
    )
    finish(tmp_path, before)
    now = plan(started, tmp_path)
    written_before = dataclasses.replace(now, cells=[*now.cells, Cell.of(before, "patch")])
    write_plan(tmp_path, written_before)
    write_plan(tmp_path, dataclasses.replace(now, margin=1.0))
    text = text_of(started, tmp_path)
    assert "margin was 0.5" in text and "1 finished run is superseded" in text
    assert before.key in text and "in the folder" not in text


def test_the_plan_says_which_metric_is_judged(tmp_path):
    started = finish_all(tmp_path, start("mask-sampling", seeds=(0, 1, 2)))
    write_plan(tmp_path, dataclasses.replace(plan(started, tmp_path), primary={"full": "p_50"}))
    found = results(started, tmp_path)
    assert found.judged == "p_50" and found.shown[0] == "p_50" and "oiou" in found.shown
    judged = found.table[found.table["verdict"] != ""]
    assert set(judged["metric"]) == {"p_50"}
    text = text_of(started, tmp_path)
    assert "P@0.5's verdict" in text and "all P@0.5 differences of this grid" in text


def test_compared_rows_of_other_numerics_are_warned_about(tmp_path):
    started = finish_all(tmp_path, start("mask-sampling"))
    for label, threads in (("patch", 1), ("grid", 4)):
        run = RunDir(tmp_path / spec_of(started, label).key)
        environment = {"device": {"type": "cpu", "threads": threads}}
        run.write_json("environment.json", run.read_json("environment.json") | environment)
    text = text_of(started, tmp_path)
    assert "threads 4 and 1" in text and spec_of(started, "grid").key in text
