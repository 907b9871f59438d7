"""Robustness numbers against pandas and published arithmetic, and a report that is the same bytes wherever it is made."""

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.robustness import corruptions
from benchmark.robustness.conditions import read_robustness_preset
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.covered_words import CLOSE, OPEN, CoveredWords, read_covered
from benchmark.robustness.occlusion import Occlusion
from benchmark.robustness.run import RunDir, read_results, results_path, write_results
from reports.compare import collect
from reports.robustness import figures, quantities, report, summary
from reports.robustness.quantities import error_ratio, mean_of
from tests.reports.test_tables import make_records, make_run, make_spec

CONDITIONS = [
    Condition("fog", 1),
    Condition("fog", 5),
    Condition("snow", 3),
    Condition("shot_noise", 2),
    Condition("saturate", 2),
    Occlusion("referent", 30),
    Occlusion("background", 30),
]
SENTENCES = ["red box", "box on the left", "not blue"]


def sentences(records):
    return records.assign(sentence=[SENTENCES[number % 3] for number in range(len(records))])


def worse(records, share):
    """Return records whose intersections are a share of those given."""
    return records.assign(intersection=(records["intersection"] * share).astype("int64"))


def covered(records):
    """Return records of covered words of these expressions: covering a word halves the intersection, of a colour takes it all."""
    rows = []
    for row in records.to_dict("records"):
        parts = row["sentence"].split()
        rows.append(row)
        for place, word in enumerate(parts):
            text = " ".join([*parts[:place], f"{OPEN}{word}{CLOSE}", *parts[place + 1 :]])
            left = 0 if word in ("red", "blue") else row["intersection"] // 2
            rows.append(row | {"sentence": text, "intersection": left})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Baseline and MaskRIS with three seeds each, under conditions that cost MaskRIS half of what they cost the baseline."""
    runs = tmp_path_factory.mktemp("runs")
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1, 2)]
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
def found(asked):
    runs, specs = asked
    every = summary.gather(collect(specs, runs), runs, ["val"], [*CONDITIONS, CoveredWords()])
    return every, summary.table(every, specs[0].key)


def pick(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def oiou(records):
    return records["intersection"].sum() / records["union"].sum()


def of(asked, strategy, condition):
    runs, specs = asked
    return [read_results(RunDir(runs / spec.key), "val", condition) for spec in specs if spec.strategy.name == strategy]


def test_every_condition_is_a_ratio_of_sums(asked, found):
    _, table = found
    for condition in CONDITIONS:
        name, _, level = str(condition).rpartition("-")
        for strategy, label in (("baseline", "baseline"), ("maskris", "+MaskRIS")):
            row = pick(table, name=name, level=int(level), strategy=label, metric="oiou")
            expected = [oiou(records) for records in of(asked, strategy, condition)]
            assert row["points"] == pytest.approx(expected)
            assert row["mean"] == pytest.approx(np.mean(expected))
            assert row["deviation"] == pytest.approx(np.std(expected, ddof=1))
            assert row["low"] < row["mean"] < row["high"]


def test_mpc_rpc_and_families(asked, found):
    _, table = found
    common = CONDITIONS[:4]
    for metric, score in (("oiou", oiou), ("miou", lambda records: metrics.iou(records).mean())):
        mpc = {
            s: np.array([[score(r) for r in of(asked, s, its)] for its in common]).mean(0)
            for s in ("baseline", "maskris")
        }
        clean = pick(table, kind="clean", strategy="baseline", metric=metric)["points"]
        row = pick(table, name="mpc", strategy="baseline", metric=metric)
        assert row["points"] == pytest.approx(mpc["baseline"]), "saturate is none of the common 15"
        assert pick(table, name="rpc", strategy="baseline", metric=metric)["points"] == pytest.approx(
            mpc["baseline"] / clean
        )
        apart = pick(table, name="mpc", strategy="+MaskRIS", metric=metric)
        assert apart["differences"] == pytest.approx(mpc["maskris"] - mpc["baseline"])
        assert apart["verdict"] == "confirmed" and apart["compared"] == "3 seed pairs"
    weather = np.mean([[oiou(r) for r in of(asked, "baseline", its)] for its in common[:3]])
    assert pick(table, kind="family", name="weather", strategy="baseline", metric="oiou")["mean"] == pytest.approx(
        weather
    )
    assert pick(table, kind="family", name="noise", strategy="baseline", metric="oiou")["mean"] == pytest.approx(
        np.mean([oiou(r) for r in of(asked, "baseline", common[3])])
    )
    fog = np.mean([[oiou(r) for r in of(asked, "baseline", its)] for its in common[:2]])
    assert pick(table, kind="corruption mean", name="fog", strategy="baseline", metric="oiou")["mean"] == pytest.approx(
        fog
    )


@pytest.mark.parametrize(("clean", "mpc", "rpc"), [(37.3, 18.7, 50.1), (34.2, 16.8, 49.1)])
def test_the_arithmetic_is_that_of_the_coco_benchmark(clean, mpc, rpc):
    """Michaelis et al. (2019), Mask R-CNN R50: P, mPC and rPC of box and mask AP."""
    draw = np.random.default_rng(0)
    names = [f"{name}-{severity}" for name in corruptions.sets()["common"] for severity in corruptions.SEVERITIES]
    scores = draw.normal(size=len(names))
    scores += mpc - scores.mean()
    every = {name: np.full((1, 2, 1), score / 100) for name, score in zip(names, scores, strict=True)}
    found = mean_of(every, names)
    assert len(names) == 75 and round(100 * float(found[0, 0, 0]), 1) == mpc
    assert round(float(100 * (found / (clean / 100))[0, 0, 0]), 1) == rpc


def test_corruption_errors_are_relative_to_the_reference(asked, found):
    _, table = found
    for name in ("corruption_error", "relative_corruption_error"):
        points = pick(table, name=name, strategy="baseline", metric="oiou")["points"]
        assert points[0] == pytest.approx(1), "the reference itself"
    mine, its = ({str(c): oiou(of(asked, s, c)[0]) for c in CONDITIONS[:4]} for s in ("maskris", "baseline"))
    clean = {
        label: pick(table, kind="clean", strategy=label, metric="oiou")["points"][0]
        for label in ("baseline", "+MaskRIS")
    }
    by_corruption = [("fog-1", "fog-5"), ("snow-3",), ("shot_noise-2",)]
    plain = np.mean([sum(1 - mine[n] for n in names) / sum(1 - its[n] for n in names) for names in by_corruption])
    lost = np.mean(
        [
            sum(clean["+MaskRIS"] - mine[n] for n in names) / sum(clean["baseline"] - its[n] for n in names)
            for names in by_corruption
        ]
    )
    row = pick(table, name="corruption_error", strategy="+MaskRIS", metric="oiou")
    assert row["points"][0] == pytest.approx(plain)
    row = pick(table, name="relative_corruption_error", strategy="+MaskRIS", metric="oiou")
    assert row["points"][0] == pytest.approx(lost)
    flat = {"clean": np.full((1, 2, 1), 0.5), "fog-1": np.full((1, 2, 1), 0.6)}
    assert np.isnan(error_ratio(flat, flat, {"fog": ["fog-1"]}, relative=True)).all(), "it lost nothing"


def test_intervals_of_means_are_of_one_draw_of_images(asked):
    tables = [records for its in CONDITIONS[:4] for records in of(asked, "baseline", its)[:1]]
    drawn = quantities.quantities(tables, resamples=300)
    images = tables[0]["image_id"].nunique()
    from benchmark.base.rng import generator

    stream = generator("bootstrap")
    for resample, chosen in enumerate(stream.integers(images, size=(300, images))[:5]):
        parts = [pd.concat([table[table["image_id"] == image] for image in chosen]) for table in tables]
        expected = np.mean([oiou(part) for part in parts])
        assert drawn[:, 0, 1 + resample].mean() == pytest.approx(expected), "the same images under all conditions"


def test_one_image_has_no_interval():
    records = make_records(np.random.default_rng(0), images=1)
    drawn = quantities.quantities([records])
    assert np.isnan(drawn[..., 1:]).all() and not np.isnan(drawn[..., 0]).any()


def test_language_subsets_are_counted_and_come_from_the_clean_records(asked, found):
    _, table = found
    runs, specs = asked
    records = [RunDir(runs / spec.key).records("val") for spec in specs[:3]]
    for name, sentence in (
        ("colour", ("red box", "not blue")),
        ("position", ("box on the left",)),
        ("negation", ("not blue",)),
    ):
        row = pick(table, kind="language", name=name, strategy="baseline", metric="oiou")
        kept = [its[its["sentence"].isin(sentence)] for its in records]
        assert row["expressions"] == len(kept[0]) and row["points"] == pytest.approx([oiou(its) for its in kept])
    assert not (table["name"] == "number").any(), "an empty subset has no row"


def test_covered_words_are_compared_with_their_own_sentences(asked, found):
    _, table = found
    runs, specs = asked
    plain = RunDir(runs / specs[0].key).records("val")
    row = pick(table, kind="word", name="colour", strategy="baseline", metric="oiou")
    own = plain[plain["sentence"].isin(["red box", "not blue"])]
    assert row["expressions"] == len(own) and row["points"][0] == 0
    assert row["change"] == pytest.approx(-np.mean([oiou(its[its["sentence"].isin(["red box", "not blue"])]) for its in
        [RunDir(runs / spec.key).records("val") for spec in specs[:3]]]))  # fmt: skip
    every = read_covered(of(asked, "baseline", CoveredWords())[0])
    assert pick(table, kind="word", name="any word", strategy="baseline", metric="oiou")["points"][0] == pytest.approx(
        oiou(every[every["position"] >= 0])
    )


def test_the_report_says_what_it_is_and_is_the_same_bytes_again(asked, found, tmp_path):
    runs, specs = asked
    every, table = found
    paths = report.write("test", "a test", every, table, specs[0].key, tmp_path / "one")
    text = paths[0].read_text()
    assert "mPC*" in text and "not comparable with an mPC that others report" in text
    assert "over the common ones of only 4 corruptions" in text and "3 seed pairs" in text
    assert text.count("Images changed with imagecorruptions-imaug") == 1
    assert "Ranked by mPC" in text and text.index("| cris tiny | +MaskRIS") < text.index("| cris tiny | baseline")
    kinds = {path.name.split("-")[0] for path in paths if path.suffix == ".png"}
    assert kinds == {"severity", "means", "heat", "occlusion", "language"}
    assert paths[0].read_text() == report.markdown("test", "a test", every, table, specs[0].key)
    words_alone = figures.all_figures(table[table["kind"].isin(("word", "language"))])
    assert words_alone["language-refshapes-val.png"] == (paths[0].parent / "language-refshapes-val.png").read_bytes()
    back = pd.read_csv(paths[1])
    assert len(back) == len(table) and back["mean"].to_numpy() == pytest.approx(table["mean"].to_numpy(), abs=1e-6)


def test_a_whole_mpc_is_called_so(asked, found):
    every, _ = found
    assert report.mpc_name(every) == "mPC*"
    names = [str(its) for its in read_robustness_preset("common").conditions()]
    seeds = {0: dict.fromkeys(["clean", *names])}
    whole = summary.Asked(every[0].setting, "val", {"baseline": seeds}, ())
    assert report.mpc_name([whole]) == "mPC"


def test_other_libraries_are_noticed(asked, found):
    every, _ = found
    records = every[0].records["baseline"][0]["fog-1"]
    before = dict(records.attrs["made_with"])
    records.attrs["made_with"]["pillow"] = "1.0"
    (line,) = report._libraries(every)
    records.attrs["made_with"] = before
    assert "may differ" in line and "pillow 1.0" in line


def test_what_is_missing_is_named(asked):
    runs, specs = asked
    every = summary.gather(collect(specs, runs), runs, ["val"], [*CONDITIONS, Condition("frost", 1)])
    assert every[0].missing == ("frost-1",)
    assert any("frost-1; left out" in line for line in report.definitions(every, summary.table(every), None))
    with pytest.raises(UserError, match="asked under these conditions on val"):
        summary.gather(collect(specs, runs), runs, ["val"], [Condition("frost", 1)])
    with pytest.raises(UserError, match="is not among the runs of this report"):
        summary.table(every, "another-run")


def test_records_about_other_expressions_are_refused(asked, tmp_path):
    import shutil

    runs, specs = asked
    shutil.copytree(runs, tmp_path / "runs")
    run = RunDir(tmp_path / "runs" / specs[0].key)
    path = results_path(run, "val", "fog-1")
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(UserError, match="fog-1.parquet is not about the expressions"):
        summary.gather(collect(specs, tmp_path / "runs"), tmp_path / "runs", ["val"], CONDITIONS)


def test_a_baseline_alone_has_figures_without_differences(asked):
    runs, specs = asked
    every = summary.gather(collect(specs[:3], runs), runs, ["val"], CONDITIONS)
    table = summary.table(every)
    assert table["difference"].isna().all()
    kinds = {name.split("-")[0] for name in figures.all_figures(table)}
    assert kinds == {"severity", "means", "occlusion", "language"}
    assert "## Strategies compared" not in report.markdown("test", "", every, table, None)
