"""Tables of small fake runs against pandas, and what must never enter one."""

import json
import re
import shutil
import subprocess
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.base.registry import PLUGINS
from benchmark.evaluation import metrics
from benchmark.runs.rundir import RunDir
from reports.collected import collect
from reports.compare import comparison
from reports.layout import files
from reports.matrix import report
from tests.reports.fakes import (
    PLUGIN,
    SHA,
    SPLITS,
    WEAK,
    make_run,
    make_runs,
    make_spec,
    pick,
    plan,
    table_of,
)


def write(runs, specs, out, **fields):
    collected = collect(plan(specs, **fields), runs)
    made = report.made(collected, comparison(collected))
    return files.write(out / made.folder, report.contents(made))


def text_of(runs, specs, out, **fields):
    return write(runs, specs, out, **fields)[0].read_text()


def plain_ious(records):
    return records["intersection"] / records["union"]


PLAIN = {
    "oiou": lambda r: r["intersection"].sum() / r["union"].sum(),
    "miou": lambda r: plain_ious(r).mean(),
    "p_50": lambda r: (plain_ious(r) >= 0.5).mean(),
    "p_90": lambda r: (plain_ious(r) >= 0.9).mean(),
    "grounding_gap": lambda r: (
        plain_ious(r)[r["swapped_union"].notna()].mean()
        - (r["swapped_intersection"] / r["swapped_union"]).astype(float).mean()
    ),
}
BOTH = ("baseline", "maskris")


# --- numbers --------------------------------------------------------------------------------------


def test_numbers_are_those_of_pandas(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        make_run(tmp_path, spec, better=0.1 * (spec.strategy.name == "maskris"))
    table = table_of(tmp_path, specs)
    for split in SPLITS:
        for metric, plain in PLAIN.items():
            means = {}
            for strategy, label in (("baseline", "baseline"), ("maskris", "+MaskRIS")):
                points = [
                    plain(RunDir(tmp_path / spec.key).records(split))
                    for spec in specs
                    if spec.strategy.name == strategy
                ]
                row = pick(table, split=split, strategy=label, metric=metric)
                assert row["points"] == pytest.approx(points)
                assert row["mean"] == pytest.approx(np.mean(points))
                assert row["deviation"] == pytest.approx(np.std(points, ddof=1))
                means[label] = np.array(points)
            assert row["differences"] == pytest.approx(means["+MaskRIS"] - means["baseline"])
            difference = np.mean(means["+MaskRIS"] - means["baseline"])
            assert row["difference"] == pytest.approx(difference)
            assert row["baseline_mean"] == pytest.approx(means["baseline"].mean())
            assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    baseline = pick(table, split="val", strategy="baseline", metric="oiou")
    assert baseline["git_dirty"] == ("no", "yes", "no")
    assert row["selected_epochs"] == (3, 4, 5) and row["data_sha256"] == SHA
    assert row["runs"] == tuple(spec.key for spec in specs[3:])
    assert row["baseline_runs"] == tuple(spec.key for spec in specs[:3])


@pytest.mark.parametrize("better, expected", [(0.2, "better"), (-0.2, "worse")])
def test_a_verdict_needs_three_seed_pairs(tmp_path, better, expected):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        make_run(tmp_path, spec, better=better * (spec.strategy.name == "maskris"))

    def verdict(specs, split, metric):
        table = table_of(tmp_path, specs)
        return pick(table, split=split, strategy="+MaskRIS", metric=metric)

    two = [spec for spec in specs if spec.seed < 2]
    assert verdict(specs, "testA", "oiou")["verdict"] == expected
    row = verdict(two, "testA", "oiou")
    assert row["verdict"] == "" and np.isnan(row["p_holm"]) and "3 seed pairs" in row["needs"]
    assert verdict(specs, "testA", "miou")["verdict"] == "", "oIoU is the primary metric"
    row = verdict(specs, "val", "oiou")
    assert row["verdict"] == "chosen on" and np.isnan(row["p_holm"])


def test_holms_family_is_what_was_planned_and_not_what_is_shown(tmp_path):
    """Two methods are planned, and one of them is shown or finished."""
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        make_run(tmp_path, spec, better=0.06 * (spec.strategy.name == "maskris"))
    others = [make_spec(strategy, seed, "lavt") for strategy in BOTH for seed in (0, 1, 2)]
    alone = pick(table_of(tmp_path, specs), split="testA", strategy="+MaskRIS", metric="oiou")
    assert 0 < alone["p"] < 0.5 and alone["p_holm"] == alone["p"]
    group = plan([*specs, *others])
    both = [
        comparison(collect(group, tmp_path)),
        comparison(collect(group, tmp_path, group.cells[:6])),
    ]
    for table in both:
        row = pick(table, method="cris", split="testA", strategy="+MaskRIS", metric="oiou")
        assert row["p_holm"] == pytest.approx(min(1, 2 * alone["p"]))


def test_any_strategy_can_be_what_the_others_are_compared_with(tmp_path):
    names = ("baseline", "maskris", "image-masking")
    specs = [make_spec(strategy, seed) for strategy in names for seed in (0, 1, 2)]
    for spec in specs:
        make_run(tmp_path / "runs", spec, better=0.2 * (spec.strategy.name == "maskris"))
    collected = collect(plan(specs), tmp_path / "runs")
    table = comparison(collected, "maskris")
    row = pick(table, split="testA", strategy="baseline", metric="oiou")
    forth = pick(comparison(collected), split="testA", strategy="+MaskRIS", metric="oiou")
    assert row["difference"] == pytest.approx(-forth["difference"]) and row["verdict"] == "worse"
    assert row["p_holm"] == pytest.approx(2 * row["p"], rel=0.5), "two comparisons on one split"
    made = report.made(collected, table, "maskris")
    paths = files.write(tmp_path / "out" / made.folder, report.contents(made))
    assert {path.parent.name for path in paths} == {"set-against-maskris"}
    with pytest.raises(UserError, match="crop"):
        comparison(collected, "crop")
    other = make_spec("maskris", 0, distill_weight=0.25)
    make_run(tmp_path / "runs", other)
    with pytest.raises(UserError, match="several settings"):
        comparison(collect(plan([*specs, other]), tmp_path / "runs"), "maskris")


def test_a_set_without_a_test_split_cannot_be_judged(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    selection = specs[0].selection.model_copy(update={"report": ("val",)})
    update = {"dataset": "refcocog", "split_by": "google", "selection": selection}
    specs = [spec.model_copy(update=update) for spec in specs]
    make_runs(tmp_path, *specs)
    table = table_of(tmp_path, specs)
    assert table["p_holm"].isna().all()
    text = text_of(tmp_path, specs, tmp_path / "out")
    assert "refcocog (google) has no test split" in text


def test_a_single_seed_is_two_checkpoints(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for spec in specs:
        make_run(tmp_path, spec, better=0.2 * (spec.strategy.name == "maskris"))
    row = pick(table_of(tmp_path, specs), split="testA", strategy="+MaskRIS", metric="oiou")
    assert row["compared"] == "these two checkpoints" and row["verdict"] == ""
    assert np.isnan(row["p"]) and np.isnan(row["p_holm"])
    assert np.isnan(row["deviation"])
    text = text_of(tmp_path, specs, tmp_path / "out")
    assert '- "these two checkpoints" stands where there is one seed each' in text
    assert not re.search(r"\d ± \d", text)
    mean, difference = f"{100 * row['mean']:.2f}", f"{100 * row['difference']:+.2f}"
    assert re.search(rf"{mean} \|\s+{re.escape(difference)} \[", text)


def test_the_same_runs_give_the_same_bytes_wherever_they_are(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1)]
    make_runs(tmp_path / "here", *specs[:-1])
    make_run(tmp_path / "here", specs[-1], "failed", reason="RuntimeError: no\nroom")
    first = write(tmp_path / "here", specs, tmp_path / "a")
    again = write(tmp_path / "here", specs[::-1], tmp_path / "a2")
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "runs")
    moved = write(tmp_path / "there" / "runs", specs, tmp_path / "b")
    assert [path.name for path in first] == [
        f"table.{kind}" for kind in ("md", "csv", "tex", "html")
    ]
    contents = [[path.read_bytes() for path in paths] for paths in (first, again, moved)]
    assert contents[0] == contents[1] == contents[2]
    assert all(str(tmp_path) not in path.read_text() for path in first)


def test_only_finished_planned_runs_enter(tmp_path):
    listed = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1)]
    other = make_spec("maskris", 0, distill_weight=0.25)
    make_runs(tmp_path, listed[0], listed[2], other)
    make_run(tmp_path, listed[1], "failed", reason="disk full")
    make_run(tmp_path, make_spec("maskris", 7), "running")
    markdown, csv, *_ = (path.read_text() for path in write(tmp_path, listed, tmp_path / "out"))
    assert "Not finished and not in this table (2 of 4 runs):" in markdown
    assert f"{listed[1].key}: failed (disk full)" in markdown
    assert f"{listed[3].key}: planned" in markdown
    assert f"1 finished run in the folder is not part of this table: {other.key}." in markdown
    for absent in (listed[1].key, listed[3].key, other.key):
        assert absent not in csv
    assert listed[0].key in csv and listed[2].key in csv


def test_seeds_without_a_partner_are_left_out_and_named(tmp_path):
    specs = [make_spec("baseline", seed) for seed in (0, 1)]
    specs += [make_spec("maskris", seed) for seed in (1, 2)]
    make_runs(tmp_path, *specs)
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="oiou")
    own, reference = (RunDir(tmp_path / specs[n].key).records("val") for n in (2, 1))
    assert row["seeds"] == (1,) and row["compared"] == "these two checkpoints"
    assert row["mean"] == PLAIN["oiou"](own) and row["baseline_mean"] == PLAIN["oiou"](reference)
    assert row["left_out"] == (specs[0].key, specs[3].key)
    text = text_of(tmp_path, specs, tmp_path / "out")
    assert f"finished run with this seed: {specs[0].key}, {specs[3].key}." in text


def test_no_common_seed_gives_no_difference(tmp_path):
    specs = [make_spec("baseline", 0), make_spec("maskris", 1)]
    make_runs(tmp_path, *specs)
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="oiou")
    assert np.isnan(row["difference"]) and row["compared"] == row["verdict"] == ""
    assert len(row["left_out"]) == 2


def test_settings_that_differ_are_never_averaged(tmp_path):
    specs = [
        make_spec("baseline"),
        make_spec("maskris"),
        make_spec("maskris", distill_weight=0.25),
        make_spec("baseline", learning_rate=0.5),
    ]
    make_runs(tmp_path, *specs)
    table = table_of(tmp_path, specs)
    assert set(zip(table["strategy"], table["settings"], strict=True)) == {
        ("baseline", "(learning_rate 0.0008)"),
        ("baseline", "(learning_rate 0.5)"),
        ("+MaskRIS (distill_weight 0.25)", "(learning_rate 0.0008)"),
        ("+MaskRIS (distill_weight 0.5)", "(learning_rate 0.0008)"),
    }
    assert all(len(seeds) == 1 for seeds in table["seeds"])


def test_every_strategy_is_compared_with_the_reference(tmp_path):
    specs = [make_spec(name) for name in ("baseline", "maskris", "image-masking")]
    make_runs(tmp_path, *specs)
    table = table_of(tmp_path, specs)
    before = pick(table, split="testA", strategy="baseline", metric="oiou")["mean"]
    for label in ("+MaskRIS", "+image-masking"):
        row = pick(table, split="testA", strategy=label, metric="oiou")
        assert row["difference"] == pytest.approx(row["mean"] - before)
    text = text_of(tmp_path, specs, tmp_path / "out")
    assert "strategy" in text.split("### ")[1].split("\n")[2]


def test_weakly_supervised_methods_stand_apart_with_a_note(tmp_path):
    specs = [make_spec(strategy, method=method) for method in ("cris", WEAK) for strategy in BOTH]
    make_runs(tmp_path, *specs)
    text = text_of(tmp_path, specs, tmp_path / "out").split("## Every finished run")[0]
    full, weak = text.split("### refshapes (split by unc), weakly supervised")
    assert f"{WEAK} tiny" in weak and "selected on masks of val" in weak
    assert f"{WEAK} tiny" not in full.split("### ")[1]


def test_a_matrix_that_is_half_done_shows_the_baseline_alone(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    make_run(tmp_path, specs[0])
    text = text_of(tmp_path, specs, tmp_path / "out")
    oiou = 100 * PLAIN["oiou"](RunDir(tmp_path / specs[0].key).records("val"))
    (line,) = [line for line in text.splitlines() if line.startswith("| val") and "oIoU" in line]
    assert [cell.strip() for cell in line.split("|")[4:-1]] == [f"{oiou:.2f}", *"–––––"]
    assert "+MaskRIS" in text and f"{specs[1].key}: planned" in text


def test_a_strategy_without_a_reference_in_the_plan_is_described_alone(tmp_path):
    specs = [make_spec("maskris", seed) for seed in (0, 1)]
    make_runs(tmp_path, *specs)
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="miou")
    assert row["seeds"] == (0, 1) and row["left_out"] == () and np.isnan(row["difference"])


# --- metrics of plugins ---------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    path = tmp_path / "size.py"
    path.write_text(PLUGIN)
    monkeypatch.setenv(PLUGINS, str(path))


def test_a_metric_of_a_plugin_appears_by_itself(tmp_path, plugin):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        run = make_run(tmp_path / "runs", spec)
        if spec.strategy.name == "maskris":  # smaller is better here
            records = run.records("val")
            half = {"intersection": records["intersection"] // 2, "union": records["union"] // 2}
            run.write_records("val", records.assign(**half))
            numbers = metrics.compute(run.records("val"))
            run.write_json("result.json", {**run.read_json("result.json"), "val": numbers})
    table = table_of(tmp_path / "runs", specs)
    row = pick(table, split="val", strategy="+MaskRIS", metric="pixels")
    means = [RunDir(tmp_path / "runs" / spec.key).records("val")["union"].mean() for spec in specs]
    assert row["mean"] == pytest.approx(np.mean(means[3:])) and row["mean"] > 50
    assert row["difference"] < 0
    text = text_of(tmp_path / "runs", specs, tmp_path / "out")
    assert f"{np.mean(means[3:]):.2f}" in text and "size (pixels)" in text
    assert "size is the mean number of pixels" in text
    every = text.split("## Every finished run")[1]
    assert "size (pixels)" in every and f"{means[0]:.2f}" in every


def test_of_a_metric_that_should_fall_less_is_better(tmp_path, plugin):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        run = make_run(tmp_path / "runs", spec)
        if spec.strategy.name == "maskris":
            records = run.records("testA")
            half = {"intersection": records["intersection"] // 3, "union": records["union"] // 3}
            run.write_records("testA", records.assign(**half))
            numbers = metrics.compute(run.records("testA"))
            run.write_json("result.json", {**run.read_json("result.json"), "testA": numbers})
    group = plan(specs, primary={"full": "pixels", "weak": "miou"})
    table = comparison(collect(group, tmp_path / "runs"))
    row = pick(table, split="testA", strategy="+MaskRIS", metric="pixels")
    assert row["difference"] < 0 and row["verdict"] == "better"


def test_a_metric_that_runs_have_not_recorded_says_so(tmp_path, plugin):
    spec = make_spec()
    make_run(tmp_path / "runs", spec)
    text = text_of(tmp_path / "runs", [spec], tmp_path / "out")
    assert f"late is not recorded in {spec.key}" in text
    assert " late |" not in text.split("## Every finished run")[1]
    row = pick(table_of(tmp_path / "runs", [spec]), split="val", metric="late")
    assert np.isnan(row["mean"]) and row["points"] == ()


# --- formats --------------------------------------------------------------------------------------


def test_csv_reads_back(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1)]
    make_runs(tmp_path, *specs)
    read = pd.read_csv(write(tmp_path, specs, tmp_path / "out")[1])
    table = table_of(tmp_path, specs)
    assert list(read.columns) == list(table.columns)
    assert len(read) == 2 * 2 * len(metrics.expected(()))
    assert read["mean"].to_numpy() == pytest.approx(table["mean"].to_numpy(), abs=1e-6)
    points = [tuple(map(float, cell.split())) for cell in read["points"]]
    assert np.array(points) == pytest.approx(np.array(table["points"].tolist()), abs=1e-6)
    assert read["runs"].str.split().map(tuple).tolist() == table["runs"].tolist()


def test_latex_escapes_and_is_rectangular(tmp_path):
    specs = [make_spec(strategy, dataset="refcoco+") for strategy in BOTH]
    specs += [make_spec("maskris", dataset="refcoco+", distill_weight=0.1)]
    make_runs(tmp_path, *specs)
    text = write(tmp_path, specs, tmp_path / "out", name="x_y")[2].read_text()
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lllrlrrlrl}" and body[-1] == r"\end{tabular}"
    assert r"+MaskRIS (distill\_weight 0.1)" in text and r"difference [95 \%]" in text
    for line in body:
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 9
        assert not re.search(r"(?<!\\)[_%#]", line) and "±" not in line and "–" not in line
    if shutil.which("pdflatex"):
        head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        (tmp_path / "x.tex").write_text(head + text + "\\end{document}")
        command = ["pdflatex", "-halt-on-error", "x.tex"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_the_terminal_shows_the_same_numbers_in_100_columns(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    make_runs(tmp_path, *specs)
    collected, stream = collect(plan(specs), tmp_path), StringIO()
    report.render(Console(file=stream, width=100), report.made(collected, comparison(collected)))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    markdown = text_of(tmp_path, specs, tmp_path / "out")
    numbers = re.findall(r"[+-]\d+\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]", markdown)
    assert len(numbers) == 4 and all(number in text for number in numbers)


def test_the_table_comes_first_and_what_a_reader_must_know_last(tmp_path):
    specs = [make_spec(strategy) for strategy in BOTH]
    make_runs(tmp_path, *specs)
    text = text_of(tmp_path, specs, tmp_path / "out", name="quick", description="tiny networks")
    assert text.startswith("# quick\n\ntiny networks\n")
    assert text.index("| split") < text.index("a ± b: mean") < text.index("## Every finished run")
    head = text.split("## How to read the numbers")[1]
    for part in ("Only finished runs", "B = 2000", "1 - w lambda", "BatchNorm", "id 0", SHA[:12]):
        assert part in head
    assert "trained from scratch" in head and "oIoU is the sum of all intersections" in head
    only = text_of(tmp_path, specs[:1], tmp_path / "out")
    assert "lambda" not in only and "id 0" not in only


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    make_run(tmp_path, make_spec())
    (tmp_path / "out").write_text(json.dumps("a file"))
    with pytest.raises(UserError, match="choose another folder"):
        write(tmp_path, [make_spec()], tmp_path / "out")


def test_what_no_publication_decides_stands_under_the_table(tmp_path):
    specs = [make_spec(strategy, method="cmmasksd") for strategy in BOTH]
    for spec in specs:
        make_run(tmp_path, spec)
    text = text_of(tmp_path, specs, tmp_path / "out")
    assert text.count("Choices of this suite that no publication of cmmasksd decides: ") == 1
    assert all(choice in text for choice in specs[0].definition.choices)
