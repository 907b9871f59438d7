"""Robustness numbers against pandas and published arithmetic, and reports of the same bytes."""

import shutil

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import bootstrap, masks, metrics
from benchmark.evaluation.records import canonical
from benchmark.robustness import corruptions
from benchmark.robustness.conditions import conditions_of
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.covered_words import CLOSE, OPEN, CoveredWords, read_covered
from benchmark.robustness.occlusion import Occlusion
from benchmark.robustness.results import read_results, write_masks, write_results
from benchmark.robustness.strips import Strip
from benchmark.runs.groups import write_plan
from benchmark.runs.preset import read_preset
from benchmark.runs.rundir import RunDir
from reports.collected import collect
from reports.figures import contents_of
from reports.layout import files
from reports.robustness import figures, parts, report, strip, words
from reports.robustness.finished import Finished, finished
from reports.robustness.quantities import error_ratio, mean_of, quantities
from reports.robustness.results import Results, gather
from reports.robustness.table import table as table_of
from tests.reports.fakes import WEAK, make_records, make_run, make_spec, pick, plan

CONDITIONS = [
    Condition("fog", 1),
    Condition("fog", 5),
    Condition("snow", 3),
    Condition("shot_noise", 2),
    Condition("saturate", 2),
    Occlusion("referent", 30),
    Occlusion("background", 30),
]
BOTH = ("baseline", "maskris")
SENTENCES = ["red box", "box on the left", "not blue"]


def sentences(records):
    return records.assign(sentence=[SENTENCES[number % 3] for number in range(len(records))])


def worse(records, share):
    """Return records whose intersections are a share of those given."""
    return records.assign(intersection=(records["intersection"] * share).astype("int64"))


def covered(records):
    """Return records of covered words.

    Covering a word halves the intersection, and covering a colour takes it all.
    """
    rows = []
    for row in records.to_dict("records"):
        parts = row["sentence"].split()
        rows.append(row)
        for place, word in enumerate(parts):
            text = " ".join([*parts[:place], f"{OPEN}{word}{CLOSE}", *parts[place + 1 :]])
            left = 0 if word in ("red", "blue") else row["intersection"] // 2
            rows.append(row | {"sentence": text, "intersection": left})
    return pd.DataFrame(rows)


def gathered(runs, specs, conditions=CONDITIONS):
    return gather(collect(plan(specs), runs), runs, ["val"], conditions)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return runs of the baseline and of MaskRIS with three seeds each.

    Conditions cost MaskRIS half of what they cost the baseline.
    """
    runs = tmp_path_factory.mktemp("runs")
    specs = [
        make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)
    ]
    for spec in specs:
        run = make_run(runs, spec, better=0.1 if spec.strategy.name == "maskris" else 0.0)
        clean = sentences(run.records("val"))
        run.write_records("val", clean)
        kept = 0.8 if spec.strategy.name == "maskris" else 0.6
        for number, condition in enumerate(CONDITIONS):
            write_results(run, "val", condition, worse(clean, kept - 0.01 * number))
        write_results(run, "val", CoveredWords(), covered(clean))
    return runs, specs


@pytest.fixture(scope="module")
def found(evaluated):
    runs, specs = evaluated
    every = gathered(runs, specs, [*CONDITIONS, CoveredWords()])
    return every, table_of(every, specs[0].key)


def oiou(records):
    return records["intersection"].sum() / records["union"].sum()


def of(evaluated, strategy, condition):
    runs, specs = evaluated
    return [
        read_results(RunDir(runs / spec.key), "val", condition)
        for spec in specs
        if spec.strategy.name == strategy
    ]


def test_every_condition_is_a_ratio_of_sums(evaluated, found):
    _, table = found
    for condition in CONDITIONS:
        name, _, level = str(condition).rpartition("-")
        for strategy, label in (("baseline", "baseline"), ("maskris", "+MaskRIS")):
            row = pick(table, name=name, level=int(level), strategy=label, metric="oiou")
            expected = [oiou(records) for records in of(evaluated, strategy, condition)]
            assert row["points"] == pytest.approx(expected)
            assert row["mean"] == pytest.approx(np.mean(expected))
            assert row["deviation"] == pytest.approx(np.std(expected, ddof=1))
            assert row["low"] < row["mean"] < row["high"]


def test_mpc_rpc_and_families(evaluated, found):
    _, table = found
    common = CONDITIONS[:4]
    for metric, score in (("oiou", oiou), ("miou", lambda records: metrics.iou(records).mean())):
        mpc = {
            s: np.array([[score(r) for r in of(evaluated, s, its)] for its in common]).mean(0)
            for s in ("baseline", "maskris")
        }
        clean = pick(table, kind="clean", strategy="baseline", metric=metric)["points"]
        row = pick(table, name="mpc", strategy="baseline", metric=metric)
        assert row["points"] == pytest.approx(mpc["baseline"]), "saturate is none of the common 15"
        assert pick(table, name="rpc", strategy="baseline", metric=metric)[
            "points"
        ] == pytest.approx(mpc["baseline"] / clean)
        apart = pick(table, name="mpc", strategy="+MaskRIS", metric=metric)
        assert apart["differences"] == pytest.approx(mpc["maskris"] - mpc["baseline"])
        judged = "chosen on" if metric == "oiou" else ""
        assert apart["verdict"] == judged and apart["compared"] == "3 seed pairs"
    weather = np.mean([[oiou(r) for r in of(evaluated, "baseline", its)] for its in common[:3]])
    assert pick(table, kind="family", name="weather", strategy="baseline", metric="oiou")[
        "mean"
    ] == pytest.approx(weather)
    assert pick(table, kind="family", name="noise", strategy="baseline", metric="oiou")[
        "mean"
    ] == pytest.approx(np.mean([oiou(r) for r in of(evaluated, "baseline", common[3])]))
    fog = np.mean([[oiou(r) for r in of(evaluated, "baseline", its)] for its in common[:2]])
    assert pick(table, kind="corruption mean", name="fog", strategy="baseline", metric="oiou")[
        "mean"
    ] == pytest.approx(fog)


@pytest.mark.parametrize(("clean", "mpc", "rpc"), [(37.3, 18.7, 50.1), (34.2, 16.8, 49.1)])
def test_the_arithmetic_is_that_of_the_coco_benchmark(clean, mpc, rpc):
    """Michaelis et al. (2019), Mask R-CNN R50: P, mPC and rPC of box and mask AP."""
    draw = np.random.default_rng(0)
    names = [
        f"{name}-{severity}"
        for name in corruptions.sets()["common"]
        for severity in corruptions.SEVERITIES
    ]
    scores = draw.normal(size=len(names))
    scores += mpc - scores.mean()
    found = mean_of([np.full((1, 2, 1), score / 100) for score in scores])
    assert len(names) == 75 and round(100 * float(found[0, 0, 0]), 1) == mpc
    assert round(float(100 * (found / (clean / 100))[0, 0, 0]), 1) == rpc


def test_corruption_errors_are_relative_to_the_reference(evaluated, found):
    _, table = found
    for name in ("corruption_error", "relative_corruption_error"):
        points = pick(table, name=name, strategy="baseline", metric="oiou")["points"]
        assert points[0] == pytest.approx(1), "the reference itself"
    mine, its = (
        {str(c): oiou(of(evaluated, s, c)[0]) for c in CONDITIONS[:4]}
        for s in ("maskris", "baseline")
    )
    clean = {
        label: pick(table, kind="clean", strategy=label, metric="oiou")["points"][0]
        for label in ("baseline", "+MaskRIS")
    }
    by_corruption = [("fog-1", "fog-5"), ("snow-3",), ("shot_noise-2",)]
    plain = np.mean(
        [
            sum(1 - mine[n] for n in names) / sum(1 - its[n] for n in names)
            for names in by_corruption
        ]
    )
    lost = np.mean(
        [
            sum(clean["+MaskRIS"] - mine[n] for n in names)
            / sum(clean["baseline"] - its[n] for n in names)
            for names in by_corruption
        ]
    )
    row = pick(table, name="corruption_error", strategy="+MaskRIS", metric="oiou")
    assert row["points"][0] == pytest.approx(plain)
    row = pick(table, name="relative_corruption_error", strategy="+MaskRIS", metric="oiou")
    assert row["points"][0] == pytest.approx(lost)
    flat = {"clean": np.full((1, 2, 1), 0.5), "fog-1": np.full((1, 2, 1), 0.6)}
    assert np.isnan(error_ratio(flat, flat, {"fog": ["fog-1"]}, relative=True)).all(), (
        "it lost nothing"
    )


def test_intervals_of_means_are_of_one_draw_of_images(evaluated):
    tables = [records for its in CONDITIONS[:4] for records in of(evaluated, "baseline", its)[:1]]
    drawn = quantities(tables, ["oiou", "miou"], resamples=300)
    images = tables[0]["image_id"].nunique()
    from benchmark.base.rng import generator

    stream = generator("bootstrap")
    for resample, chosen in enumerate(stream.integers(images, size=(300, images))[:5]):
        parts = [
            pd.concat([table[table["image_id"] == image] for image in chosen]) for table in tables
        ]
        expected = np.mean([oiou(part) for part in parts])
        assert drawn[:, 0, 1 + resample].mean() == pytest.approx(expected), (
            "the same images under all conditions"
        )


def test_one_image_has_no_interval():
    records = make_records(np.random.default_rng(0), images=1)
    drawn = quantities([records], ["oiou", "miou"])
    assert np.isnan(drawn[..., 1:]).all() and not np.isnan(drawn[..., 0]).any()


def test_language_subsets_are_counted_and_come_from_the_clean_records(evaluated, found):
    _, table = found
    runs, specs = evaluated
    records = [RunDir(runs / spec.key).records("val") for spec in specs[:3]]
    for name, sentence in (
        ("colour", ("red box", "not blue")),
        ("position", ("box on the left",)),
        ("negation", ("not blue",)),
    ):
        row = pick(table, kind="language", name=name, strategy="baseline", metric="oiou")
        kept = [its[its["sentence"].isin(sentence)] for its in records]
        assert row["expressions"] == len(kept[0]) and row["points"] == pytest.approx(
            [oiou(its) for its in kept]
        )
    assert not (table["name"] == "number").any(), "an empty subset has no row"


def test_covered_words_are_compared_with_their_own_sentences(evaluated, found):
    _, table = found
    runs, specs = evaluated
    plain = RunDir(runs / specs[0].key).records("val")
    row = pick(table, kind="word", name="colour", strategy="baseline", metric="oiou")
    own = plain[plain["sentence"].isin(["red box", "not blue"])]
    assert row["expressions"] == len(own) and row["points"][0] == 0
    tables = [RunDir(runs / spec.key).records("val") for spec in specs[:3]]
    kept = [table[table["sentence"].isin(["red box", "not blue"])] for table in tables]
    assert row["change"] == pytest.approx(-np.mean([oiou(table) for table in kept]))
    every = read_covered(of(evaluated, "baseline", CoveredWords())[0])
    assert pick(table, kind="word", name="any word", strategy="baseline", metric="oiou")["points"][
        0
    ] == pytest.approx(oiou(every[every["position"] >= 0]))


def test_the_report_says_what_it_is_and_is_the_same_bytes_again(evaluated, found, tmp_path):
    runs, specs = evaluated
    every, table = found
    made = report.contents("test", Finished(every, table, 4, specs[0].key))
    paths = files.write(tmp_path / "one", made)
    text = paths[0].read_text()
    assert "mPC*" in text and "not comparable with an mPC that others report" in text
    assert "over the common ones of only 4 corruptions" in text and "3 seed pairs" in text
    assert text.count("Images were changed with imagecorruptions-imaug") == 1
    assert "Ranked by mPC" in text and text.index("| cris tiny | +MaskRIS") < text.index(
        "| cris tiny | baseline"
    )
    kinds = {path.name.split("-")[0] for path in paths if path.suffix == ".png"}
    assert kinds == {"severity", "means", "heat", "occlusion", "language"}
    assert f"4 conditions of {len(specs)} runs." in text
    again = report.contents("test", Finished(every, table, 4, specs[0].key))
    assert again == made
    words_alone = contents_of(figures.draw(every, table[table["kind"].isin(("word", "language"))]))
    assert (
        words_alone["language-refshapes-val.png"]
        == (paths[0].parent / "language-refshapes-val.png").read_bytes()
    )
    back = pd.read_csv(paths[1])
    assert len(back) == len(table) and back["mean"].to_numpy() == pytest.approx(
        table["mean"].to_numpy(), abs=1e-6
    )


def test_a_whole_mpc_is_called_so(evaluated, found):
    every, _ = found
    assert parts.mpc_name(every) == "mPC*"
    names = [str(its) for its in conditions_of(read_preset("gpu"), "gpu").conditions()]
    seeds = {0: dict.fromkeys(["clean", *names])}
    whole = Results(every[0].group, every[0].setting, "val", {"baseline": seeds}, ())
    assert parts.mpc_name([whole]) == "mPC"


def test_other_libraries_are_noticed(evaluated, found):
    every, _ = found
    records = every[0].records["baseline"][0]["fog-1"]
    before = dict(records.attrs["made_with"])
    records.attrs["made_with"]["pillow"] = "1.0"
    (line,) = words.libraries(every)
    records.attrs["made_with"] = before
    assert "may differ" in line and "pillow 1.0" in line


def test_what_is_missing_is_named(evaluated):
    runs, specs = evaluated
    every = gathered(runs, specs, [*CONDITIONS, Condition("frost", 1)])
    assert every[0].missing == ("frost-1",)
    assert any(
        "frost-1, so these conditions are left out" in line
        for line in words.definitions(every, table_of(every), None)
    )
    with pytest.raises(UserError, match="evaluated under these conditions on val"):
        gathered(runs, specs, [Condition("frost", 1)])
    with pytest.raises(UserError, match="is not among the runs of this report"):
        table_of(every, "another-run")


def extended(evaluated, folder, *seeds, conditions=CONDITIONS):
    """Return a copy of the runs with runs of one more strategy, and its specs."""
    runs, specs = evaluated
    shutil.copytree(runs, folder, dirs_exist_ok=True)
    crops = [make_spec("crop", seed) for seed in seeds]
    for spec in crops:
        run = make_run(folder, spec)
        clean = sentences(run.records("val"))
        run.write_records("val", clean)
        for condition in conditions:
            write_results(run, "val", condition, worse(clean, 0.5))
    return specs, crops


def test_a_strategy_of_one_seed_leaves_the_others_theirs(evaluated, tmp_path):
    specs, crops = extended(evaluated, tmp_path, 1, 7)
    before = table_of(gathered(evaluated[0], specs))
    every = gathered(tmp_path, [*specs, *crops])
    table = table_of(every)
    for label in ("baseline", "+MaskRIS"):
        for name in ("clean", "fog", "mpc", "rpc"):
            old = before[(before["strategy"] == label) & (before["name"] == name)]
            new = table[(table["strategy"] == label) & (table["name"] == name)]
            columns = ["seeds", "points", "mean", "low", "high", "difference", "compared"]
            pd.testing.assert_frame_equal(
                old[columns].reset_index(drop=True), new[columns].reset_index(drop=True)
            )
    (crop,) = {*table["strategy"]} - {"baseline", "+MaskRIS"}
    row = pick(table, name="mpc", strategy=crop, metric="oiou")
    own, partner = (
        [oiou(read_results(RunDir(tmp_path / spec.key), "val", its)) for its in CONDITIONS[:4]]
        for spec in (crops[0], specs[1])
    )
    assert row["seeds"] == (1,) and row["compared"] == "these two checkpoints"
    assert row["difference"] == pytest.approx(np.mean(own) - np.mean(partner))
    (line,) = [line for line in words._left_out(every[0]) if "no run with this seed" in line]
    assert crops[1].key in line and not any(spec.key in line for spec in [*specs, crops[0]])


def test_a_run_without_conditions_takes_none_from_the_others(evaluated, tmp_path):
    specs, crops = extended(evaluated, tmp_path, 0, conditions=())
    (results,) = gathered(tmp_path, [*specs, *crops])
    assert [*results.records] == ["baseline", "+MaskRIS"] and results.conditions
    assert results.without == (crops[0].key,) and not results.missing
    assert any(
        "not evaluated on val" in line and crops[0].key in line for line in words._left_out(results)
    )
    labels = {run.spec.strategy.name for run, _ in results.pairs("baseline")}
    assert labels == {"maskris"}
    collected = collect(plan([*specs, *crops]), tmp_path)
    assert finished(collected, tmp_path).conditions == len(CONDITIONS) + 1  # and words


def test_undefined_resamples_are_counted_and_said(tmp_path):
    """rPC does not exist in a resample of images in which the clean score is 0."""
    specs = [make_spec(strategy, 0) for strategy in BOTH]
    for spec in specs:
        run = make_run(tmp_path, spec)
        clean = sentences(run.records("val"))
        alone = clean["image_id"] == 3
        run.write_records(
            "val", clean := clean.assign(intersection=clean["intersection"].where(alone, 0))
        )
        run.write_json(
            "result.json", run.read_json("result.json") | {"val": canonical(metrics.compute(clean))}
        )
        write_results(run, "val", CONDITIONS[0], worse(clean, 0.5))
    every = gathered(tmp_path, specs, CONDITIONS[:1])
    table = table_of(every)
    images = clean["image_id"].nunique()
    drawn = generator("bootstrap").integers(images, size=(bootstrap.RESAMPLES, images))
    expected = int((drawn != 3).all(axis=1).sum())
    row = pick(table, name="rpc", strategy="+MaskRIS", metric="oiou")
    assert row["undefined"] == expected > 100
    assert pick(table, name="mpc", strategy="+MaskRIS", metric="oiou")["undefined"] == 0
    (said,) = [line for line in words.definitions(every, table, None) if "resamples, for" in line]
    assert f"rpc oIoU of refshapes val cris tiny +MaskRIS ({expected})" in said


def test_an_image_that_a_corruption_could_not_take_enters_no_number(tmp_path):
    runs, specs = tmp_path, [make_spec(strategy, 0) for strategy in BOTH]
    for spec in specs:
        clean = sentences(make_run(runs, spec, better=0.1).records("val"))
        RunDir(runs / spec.key).write_records("val", clean)
        small = int(clean["image_id"].iloc[0])
        taken = clean[clean["image_id"] != small].reset_index(drop=True)
        write_results(RunDir(runs / spec.key), "val", CONDITIONS[0], worse(taken, 0.5), [small])
        write_results(RunDir(runs / spec.key), "val", CONDITIONS[5], worse(clean, 0.7))
    (results,) = gathered(runs, specs, [CONDITIONS[0], CONDITIONS[5]])
    assert results.left_out == (small,)
    for by_seed in results.records.values():
        assert all(
            set(table["image_id"]) == set(taken["image_id"]) for table in by_seed[0].values()
        )
    table = table_of([results])
    row = table[(table["kind"] == "clean") & (table["strategy"] == "baseline")]
    assert len(row)
    assert f"Images {small} of val are too small" in "\n".join(words._left_out(results))


def test_records_about_other_expressions_are_refused(evaluated, tmp_path):
    import shutil

    runs, specs = evaluated
    shutil.copytree(runs, tmp_path / "runs")
    run = RunDir(tmp_path / "runs" / specs[0].key)
    write_results(run, "val", CONDITIONS[0], read_results(run, "val", "fog-1").iloc[1:])
    with pytest.raises(UserError, match="fog-1.parquet is not about the expressions"):
        gathered(tmp_path / "runs", specs)


def test_a_baseline_alone_has_figures_without_differences(evaluated):
    runs, specs = evaluated
    every = gathered(runs, specs[:3])
    table = table_of(every)
    assert table["difference"].isna().all()
    kinds = {name.split("-")[0] for name in contents_of(figures.draw(every, table))}
    assert kinds == {"severity", "means", "occlusion", "language"}
    assert "## Strategies compared" not in report.as_markdown("test", "", every, table, None)


def test_what_casts_doubt_on_the_plan_and_the_pairs_is_said(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for number, spec in enumerate(specs):
        environment = {"numerics": {"device": "cpu", "threads": 1 + number}}
        run = make_run(tmp_path, spec, environment=environment)
        write_results(run, "val", CONDITIONS[0], worse(run.records("val"), 0.5))
    write_plan(tmp_path, plan(specs))
    changed = write_plan(tmp_path, plan(specs, margin=2.0))
    every = gather(collect(changed, tmp_path), tmp_path, ["val"], CONDITIONS[:1])
    text = "\n".join(words.definitions(every, table_of(every), None))
    assert "threads 2 and 1" in text and "margin was 0.5" in text


def test_weakly_supervised_methods_have_figures_of_their_primary_metric(tmp_path, monkeypatch):
    # Saving takes seconds.
    monkeypatch.setattr("reports.figures.files", lambda name, figure: {name: b""})
    specs = [make_spec(strategy, method=m) for m in ("cris", WEAK) for strategy in BOTH]
    for spec in specs:
        run = make_run(tmp_path, spec)
        write_results(run, "val", CONDITIONS[0], worse(run.records("val"), 0.5))
    every = gathered(tmp_path, specs, CONDITIONS[:1])
    table = table_of(every)
    shown = parts.primary_rows(every, table)
    judged = set(zip(shown["method"], shown["metric"], strict=True))
    assert judged == {("cris", "oiou"), (WEAK, "miou")}
    drawn = contents_of(figures.draw(every, table))
    assert {"means-refshapes-val", "means-refshapes-val-weak"} <= drawn.keys()


# --- strips ---------------------------------------------------------------------------------------


def store_masks(runs, spec, condition):
    """Store masks of some expressions, which are empty."""
    run = RunDir(runs / spec.key)
    rows = [
        {"sent_id": number, "height": 4, "width": 4, "counts": "`0"} for number in (2, 3, 11, 30)
    ]
    run.write_masks("val", masks.frame(rows))
    write_masks(run, "val", condition, masks.frame(rows))


def test_a_strip_is_wanted_of_the_worst_corruption_where_masks_are(evaluated, found):
    runs, specs = evaluated
    every, table = found
    assert strip.wanted(every, table, runs) == ([], ["cris tiny, refshapes val"])
    means = table[(table["kind"] == "corruption mean") & (table["strategy"] == "baseline")]
    means = means[means["metric"] == "oiou"].set_index("name")["mean"]
    worst = means.idxmin()
    (condition,) = [its for its in CONDITIONS if str(its).startswith(worst)]
    for spec in (specs[0], specs[3]):
        store_masks(runs, spec, condition)
    (wanted,), without = strip.wanted(every, table, runs)
    assert wanted.keys == {"baseline": specs[0].key, "+MaskRIS": specs[3].key} and not without
    assert (wanted.corruption, wanted.split) == (worst, "val")
    assert wanted.severities == [condition.severity]
    assert wanted.name == "strip-refshapes-val-cris-tiny"
    records = [RunDir(runs / key).records("val") for key in wanted.keys.values()]
    ious = np.mean([metrics.iou(its) for its in records], axis=0)
    distances = np.abs(ious - np.quantile(ious, 0.75))
    assert wanted.sent_id == min((2, 3, 11, 30), key=lambda sent_id: distances[sent_id])


def test_a_strip_is_drawn_from_plain_data(monkeypatch):
    random = np.random.default_rng(0)
    levels = (0, 1, 3, 5)
    image = random.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    drawn = {level: random.random((40, 60)) > 0.5 for level in levels}
    truth = np.zeros((40, 60), np.uint8)
    truth[10:20, 10:30] = 1
    labels = ("baseline", "+MaskRIS")
    shown = Strip(
        wanted=strip.Wanted("strip-x", "cris tiny, refshapes val", {}, "val", "fog", (1, 3, 5), 3),
        sentence="the red box of $1 or $2",
        images=dict.fromkeys(levels, image),
        truth=truth,
        masks=dict.fromkeys(labels, drawn),
        ious=dict.fromkeys(labels, dict.fromkeys(levels, 0.25)),
    )
    figure = strip.figure(shown)
    assert len(figure.axes) == 3 * len(levels)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["clean", "severity 1", "severity 3"]
    assert {axes.get_title() for axes in figure.axes[len(levels) :]} == {"IoU 25.0 %"}
    assert "the red box of $1 or $2" in figure.get_suptitle()
    assert not figure._suptitle.get_parse_math(), "text of data is no formula"
    monkeypatch.setattr(strip, "files", lambda name, figure: {name: b""})
    assert set(strip.draw([shown])) == {"strip-x"}


def test_the_family_is_what_was_planned_and_not_what_is_finished(tmp_path):
    """With four planned comparisons of two summaries each, the least p-value counts eight times."""
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        run = make_run(tmp_path, spec)
        kept = {"baseline": 0.60, "maskris": 0.61}[spec.strategy.name]
        clean = run.records("testA")
        write_results(run, "testA", CONDITIONS[0], worse(clean, kept + 0.002 * spec.seed))
    every = gather(collect(plan(specs), tmp_path), tmp_path, ["testA"], CONDITIONS[:1])
    judged = table_of(every).query("kind == 'summary' and verdict != ''")
    planned = table_of(every, None, comparisons=4).query("kind == 'summary' and verdict != ''")
    assert [*judged["name"]] == ["mpc", "rpc"]
    assert judged["p_holm"].min() == pytest.approx(min(1, 2 * judged["p"].min()))
    assert planned["p_holm"].min() == pytest.approx(min(1, 8 * judged["p"].min()))
    assert planned["p_holm"].min() > judged["p_holm"].min()
