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

import methods
from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection
from benchmark.strategies.strategy import get_strategy
from methods.cris.method import CRIS
from reports import layout
from reports.matrix import tables

SPLITS = ("val", "testA")
SHA = "0123456789abcdef" * 4


class Weak(CRIS):
    name = "weak"
    weakly_supervised = True


@pytest.fixture(autouse=True)
def weak_method(monkeypatch):
    monkeypatch.setitem(methods._registered, "weak", Weak)


def make_spec(strategy="baseline", seed=0, method="cris", dataset="refshapes", **changes):
    its = get_strategy(strategy)
    its = its.model_copy(update={name: changes.pop(name) for name in list(changes) if name in type(its).model_fields})
    recipe = CRIS.recipes["tiny"].model_copy(update=changes)
    return RunSpec(
        method=method,
        variant="tiny",
        dataset=dataset,
        split_by="unc",
        seed=seed,
        strategy=its,
        recipe=recipe,
        network=CRIS.variants["tiny"],
        selection=Selection(report=SPLITS),
        data_sha256=SHA,
        tokenizer="clip-512",
        weights="scratch",
        method_revision=1,
    )


def make_records(random, better=0.0, images=12, sentences=3):
    count = images * sentences
    union = random.integers(50, 400, count)
    swapped_union = random.integers(50, 400, count)
    share = np.clip(random.uniform(0, 0.8, count) + better, 0, 1)
    missing = np.arange(count) % 7 == 0
    return pd.DataFrame(
        {
            "image_id": np.repeat(np.arange(images), sentences),
            "ref_id": np.arange(count) // 2,
            "ann_id": np.arange(count) // 2,
            "sent_id": np.arange(count),
            "sentence": [f"shape {number}" for number in range(count)],
            "intersection": (union * share).astype(int),
            "union": union,
            "swapped_intersection": pd.array(swapped_union // 4, dtype="Int64"),
            "swapped_union": pd.array(swapped_union, dtype="Int64"),
        }
    ).assign(
        swapped_intersection=lambda t: t["swapped_intersection"].mask(missing),
        swapped_union=lambda t: t["swapped_union"].mask(missing),
    )


def make_run(runs, spec, state="done", better=0.0, **status):
    run = RunDir(runs / spec.key)
    run.create(spec)
    random = np.random.default_rng(spec.seed + 100 * len(spec.strategy.name) + 7 * len(spec.method))
    result = {"selected": {"epoch": 3 + spec.seed, "oiou": 0.4, "split": "val", "metric": "oiou"}}
    for split in SPLITS:
        records = make_records(random, better)
        run.write_records(split, records)
        result[split] = canonical(metrics.metrics(records))
    run.write_json("result.json", result)
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": spec.seed == 1}})
    run.write_status(state, **status)
    return run


def table_of(runs, specs):
    return tables.comparison(tables.collect(specs, runs))


def pick(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


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


def test_numbers_are_those_of_pandas(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)]
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
                assert row["deviation"] == pytest.approx(pd.Series(points).std(ddof=1))
                means[label] = np.array(points)
            assert row["seeds"] == (0, 1, 2) and row["compared"] == "3 seed pairs"
            assert row["differences"] == pytest.approx(means["+MaskRIS"] - means["baseline"])
            assert row["difference"] == pytest.approx(np.mean(means["+MaskRIS"] - means["baseline"]))
            assert row["baseline_mean"] == pytest.approx(means["baseline"].mean())
            assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert pick(table, split="val", strategy="baseline", metric="oiou")["git_dirty"] == ("no", "yes", "no")
    assert row["selected_epochs"] == (3, 4, 5) and row["data_sha256"] == SHA
    assert row["runs"] == tuple(spec.key for spec in specs[3:]) and row["baseline_runs"] == tuple(
        s.key for s in specs[:3]
    )


@pytest.mark.parametrize("better, expected", [(0.2, "confirmed"), (-0.2, "contradicted")])
def test_a_verdict_needs_three_seed_pairs(tmp_path, better, expected):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)]
    for spec in specs:
        make_run(tmp_path, spec, better=better * (spec.strategy.name == "maskris"))
    assert pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="miou")["verdict"] == expected
    two = [spec for spec in specs if spec.seed < 2]
    assert pick(table_of(tmp_path, two), split="val", strategy="+MaskRIS", metric="miou")["verdict"] == "undecided"
    assert pick(table_of(tmp_path, two), split="val", strategy="+MaskRIS", metric="p_50")["verdict"] == ""


def test_p_values_are_holm_adjusted_over_the_shown_differences(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for number, spec in enumerate(specs):
        make_run(tmp_path, spec, better=0.1 * number)
    table = table_of(tmp_path, specs)
    tested = table[table["p_images"].notna()]
    assert set(zip(tested["split"], tested["metric"], strict=True)) == {
        (s, m) for s in SPLITS for m in ("oiou", "miou")
    }
    assert set(tested["strategy"]) == {"+MaskRIS"}
    smallest = tested.sort_values("p_images").iloc[0]
    assert smallest["p_images_holm"] == pytest.approx(min(1, 4 * smallest["p_images"]))


def test_a_single_seed_is_two_checkpoints(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for spec in specs:
        make_run(tmp_path, spec, better=0.2 * (spec.strategy.name == "maskris"))
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="oiou")
    assert row["compared"] == "these two checkpoints" and row["verdict"] == "undecided" and np.isnan(row["deviation"])
    text = tables.write_report("one", "one seed", specs, tmp_path, tmp_path / "out")[0].read_text()
    assert '- "these two checkpoints": one seed each' in text
    assert not re.search(r"\d ± \d", text)
    expected = f"{100 * row['mean']:.2f} | {100 * row['difference']:+.2f} ["
    assert expected in text


def test_the_same_runs_give_the_same_bytes_wherever_they_are(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1)]
    for spec in specs[:-1]:
        make_run(tmp_path / "here", spec)
    make_run(tmp_path / "here", specs[-1], "failed", reason="RuntimeError: no\nroom")
    first = tables.write_report("set", "a set", specs, tmp_path / "here", tmp_path / "a")
    again = tables.write_report("set", "a set", specs[::-1], tmp_path / "here", tmp_path / "a2")
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "runs")
    moved = tables.write_report("set", "a set", specs, tmp_path / "there" / "runs", tmp_path / "b")
    assert [path.name for path in first] == ["table.md", "table.csv", "table.tex"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again] == [p.read_bytes() for p in moved]
    assert all(str(tmp_path) not in path.read_text() for path in first)


def test_only_finished_listed_runs_enter(tmp_path):
    listed = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1)]
    other = make_spec("maskris", 0, distill_weight=0.25)
    make_run(tmp_path, listed[0])
    make_run(tmp_path, listed[1], "failed", reason="disk full")
    make_run(tmp_path, listed[2])
    make_run(tmp_path, other)
    make_run(tmp_path, make_spec("maskris", 7), "running")
    collected = tables.collect(listed, tmp_path)
    assert [run.spec.key for run in collected.runs] == [listed[0].key, listed[2].key]
    assert collected.unused == (other.key,)
    assert dict((key, rest) for key, *rest in collected.unfinished) == {
        listed[1].key: ["failed", "disk full"],
        listed[3].key: ["planned", ""],
    }
    markdown, csv, _ = (
        path.read_text() for path in tables.write_report("part", "x", listed, tmp_path, tmp_path / "out")
    )
    assert "Not finished and not in this table (2 of 4 runs):" in markdown
    assert f"{listed[1].key}: failed (disk full)" in markdown and f"{listed[3].key}: planned" in markdown
    assert f"1 finished run in the folder is not part of this table: {other.key}." in markdown
    for absent in (listed[1].key, listed[3].key, other.key):
        assert absent not in csv
    assert listed[0].key in csv and listed[2].key in csv


def test_seeds_without_a_partner_are_left_out_and_named(tmp_path):
    specs = [make_spec("baseline", seed) for seed in (0, 1)] + [make_spec("maskris", seed) for seed in (1, 2)]
    for spec in specs:
        make_run(tmp_path, spec)
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="oiou")
    assert row["seeds"] == (1,) and row["compared"] == "these two checkpoints"
    assert row["mean"] == PLAIN["oiou"](RunDir(tmp_path / specs[2].key).records("val"))
    assert row["baseline_mean"] == PLAIN["oiou"](RunDir(tmp_path / specs[1].key).records("val"))
    assert row["left_out"] == (specs[0].key, specs[3].key)
    text = tables.write_report("unpaired", "x", specs, tmp_path, tmp_path / "out")[0].read_text()
    assert f"finished run with this seed: {specs[0].key}, {specs[3].key}." in text


def test_no_common_seed_gives_no_difference(tmp_path):
    specs = [make_spec("baseline", 0), make_spec("maskris", 1)]
    for spec in specs:
        make_run(tmp_path, spec)
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="oiou")
    assert np.isnan(row["difference"]) and row["compared"] == "" and row["verdict"] == "" and len(row["left_out"]) == 2


def test_settings_that_differ_are_never_averaged(tmp_path):
    specs = [
        make_spec("baseline"),
        make_spec("maskris"),
        make_spec("maskris", distill_weight=0.25),
        make_spec("baseline", learning_rate=0.5),
    ]
    for spec in specs:
        make_run(tmp_path, spec)
    table = table_of(tmp_path, specs)
    assert set(zip(table["strategy"], table["settings"], strict=True)) == {
        ("baseline", "(learning_rate 0.0008)"),
        ("baseline", "(learning_rate 0.5)"),
        ("+MaskRIS (distill_weight 0.25)", "(learning_rate 0.0008)"),
        ("+MaskRIS (distill_weight 0.5)", "(learning_rate 0.0008)"),
    }
    assert all(len(seeds) == 1 for seeds in table["seeds"])


def test_every_strategy_is_compared_with_the_baseline(tmp_path):
    names = ("baseline", "maskris", "image-masking")
    specs = [make_spec(name) for name in names]
    for spec in specs:
        make_run(tmp_path, spec)
    table = table_of(tmp_path, specs)
    before = pick(table, split="testA", strategy="baseline", metric="oiou")["mean"]
    for label in ("+MaskRIS", "+image-masking"):
        row = pick(table, split="testA", strategy=label, metric="oiou")
        assert row["difference"] == pytest.approx(row["mean"] - before)
    text = tables.write_report("three", "x", specs, tmp_path, tmp_path / "out")[0].read_text()
    assert "strategy" in text.split("## Strategies compared")[1].split("\n")[4]


def test_weakly_supervised_methods_stand_apart_with_a_note(tmp_path):
    specs = [make_spec(strategy, method=method) for method in ("cris", "weak") for strategy in ("baseline", "maskris")]
    for spec in specs:
        make_run(tmp_path, spec)
    text = tables.write_report("weak", "x", specs, tmp_path, tmp_path / "out")[0].read_text()
    full, weak = text.split("## Every finished run")[0].split("### refshapes (split by unc), weakly supervised")
    assert "weak tiny" in weak and "weak tiny" not in full.split("### ")[1] and "selected on masks of val" in weak


def test_nothing_finished_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="none of the 1 runs .* `risbench matrix`"):
        tables.write_report("none", "x", [make_spec()], tmp_path, tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "row", "result", "epoch", "missing", "spec"])
def test_damaged_runs_are_named(tmp_path, damage):
    spec = make_spec()
    run = make_run(tmp_path, spec)
    parquet = run.path / "records" / "val.parquet"
    records = run.records("val")
    if damage == "cut":
        parquet.write_bytes(parquet.read_bytes()[:200])
    if damage == "row":
        run.write_records("val", records.assign(union=0))
    if damage == "result":
        run.write_records("val", records.assign(intersection=records["intersection"] // 2))
    if damage == "epoch":
        result = run.read_json("result.json")
        run.write_json("result.json", {name: result[name] for name in SPLITS})
    if damage == "missing":
        parquet.unlink()
    if damage == "spec":
        text = (run.path / "spec.yaml").read_text()
        (run.path / "spec.yaml").write_text(text.replace("seed: 0", "seed: 5"))
    with pytest.raises(UserError, match=spec.key):
        tables.collect([spec], tmp_path)


def test_pairs_about_other_expressions_are_refused_by_name(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for spec in specs:
        make_run(tmp_path, spec)
    run = RunDir(tmp_path / specs[1].key)
    fewer = run.records("val").iloc[3:]
    run.write_records("val", fewer)
    run.write_json("result.json", {**run.read_json("result.json"), "val": canonical(metrics.metrics(fewer))})
    with pytest.raises(UserError, match=f"'val' of {specs[1].key}, {specs[0].key}: .*same expressions"):
        table_of(tmp_path, specs)


def test_csv_reads_back(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1)]
    for spec in specs:
        make_run(tmp_path, spec)
    path = tables.write_report("set", "x", specs, tmp_path, tmp_path / "out")[1]
    read, table = pd.read_csv(path), table_of(tmp_path, specs)
    assert list(read.columns) == list(table.columns) and len(read) == 2 * 2 * len(metrics.METRICS)
    assert read["mean"].to_numpy() == pytest.approx(table["mean"].to_numpy(), abs=1e-6)
    points = [tuple(map(float, cell.split())) for cell in read["points"]]
    assert np.array(points) == pytest.approx(np.array(table["points"].tolist()), abs=1e-6)
    assert read["runs"].str.split().map(tuple).tolist() == table["runs"].tolist()


def test_latex_escapes_and_is_rectangular(tmp_path):
    specs = [make_spec(s, dataset="refcoco+", **e) for s, e in (("baseline", {}), ("maskris", {}))]
    specs += [make_spec("maskris", dataset="refcoco+", distill_weight=0.1)]
    for spec in specs:
        make_run(tmp_path, spec)
    text = tables.write_report("x_y", "50% & more", specs, tmp_path, tmp_path / "out")[2].read_text()
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lllrlrrll}" and body[-1] == r"\end{tabular}"
    assert r"+MaskRIS (distill\_weight 0.1)" in text and r"difference [95 \%]" in text
    for line in body:
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 8
        assert not re.search(r"(?<!\\)[_%#]", line) and "±" not in line and "–" not in line
    assert layout._latex("a_b 5% & {x} #1 $ ^~\\ ± –") == (
        r"a\_b 5\% \& \{x\} \#1 \$ \textasciicircum{}\textasciitilde{}\textbackslash{} $\pm$ --"
    )
    assert layout._latex("+1.20 [-0.50, 2.00] rn-50") == "$+$1.20 [$-$0.50, 2.00] rn-50"
    if shutil.which("pdflatex"):
        document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + text + "\\end{document}"
        (tmp_path / "x.tex").write_text(document)
        subprocess.run(["pdflatex", "-halt-on-error", "x.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_the_terminal_shows_the_same_numbers_in_100_columns(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)]
    for spec in specs:
        make_run(tmp_path, spec)
    stream = StringIO()
    tables.render(Console(file=stream, width=200), specs, tmp_path)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    markdown = tables.write_report("set", "x", specs, tmp_path, tmp_path / "out")[0].read_text()
    numbers = re.findall(r"[+-]\d+\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]", markdown)
    assert len(numbers) == 4 and all(number in stream.getvalue() for number in numbers)


def test_the_head_states_what_a_reader_must_know(tmp_path):
    specs = [make_spec(strategy) for strategy in ("baseline", "maskris")]
    for spec in specs:
        make_run(tmp_path, spec)
    text = tables.write_report("quick", "tiny networks", specs, tmp_path, tmp_path / "out")[0].read_text()
    assert text.startswith("# quick\n\ntiny networks\n")
    for part in (
        "Only finished runs",
        "B = 2000",
        "1 - w lambda",
        "BatchNorm",
        "id 0",
        "trained from scratch",
        SHA[:12],
    ):
        assert part in text.split("## Strategies compared")[0]
    only = tables.write_report("base", "x", specs[:1], tmp_path, tmp_path / "out")[0].read_text()
    assert "lambda" not in only and "id 0" not in only


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    make_run(tmp_path, make_spec())
    (tmp_path / "out").write_text(json.dumps("a file"))
    with pytest.raises(UserError, match="choose another --out folder"):
        tables.write_report("set", "x", [make_spec()], tmp_path, tmp_path / "out")


def test_a_matrix_that_is_half_done_shows_the_baseline_alone(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    make_run(tmp_path, specs[0])
    text = tables.write_report("half", "x", specs, tmp_path, tmp_path / "out")[0].read_text()
    oiou = 100 * PLAIN["oiou"](RunDir(tmp_path / specs[0].key).records("val"))
    (line,) = [line for line in text.splitlines() if line.startswith("| val") and "oIoU" in line]
    assert [cell.strip() for cell in line.split("|")[4:-1]] == [f"{oiou:.2f}", "–", "–", "–", "–"]
    assert "+MaskRIS" in text and f"{specs[1].key}: planned" in text


def test_a_strategy_without_a_baseline_in_the_specs_is_described_alone(tmp_path):
    specs = [make_spec("maskris", seed) for seed in (0, 1)]
    for spec in specs:
        make_run(tmp_path, spec)
    row = pick(table_of(tmp_path, specs), split="val", strategy="+MaskRIS", metric="miou")
    assert row["seeds"] == (0, 1) and row["left_out"] == () and np.isnan(row["difference"])
