"""The figures of robustness, and strips of examples."""

import numpy as np

from benchmark.evaluation import masks, metrics
from benchmark.robustness.results import write_masks, write_results
from benchmark.robustness.strips import Strip
from benchmark.runs.rundir import RunDir
from reports.figures import contents_of
from reports.robustness import figures, parts, report, strip
from reports.robustness.table import table as table_of
from tests.reports.fakes import WEAK, make_run, make_spec
from tests.reports.robustness.runs import BOTH, CONDITIONS, gathered, worse


def test_a_baseline_alone_has_figures_without_differences(evaluated):
    runs, specs = evaluated
    every = gathered(runs, specs[:3])
    table = table_of(every)
    assert table["difference"].isna().all()
    kinds = {name.split("-")[0] for name in contents_of(figures.draw(every, table))}
    assert kinds == {"severity", "means", "occlusion", "language"}
    assert "## Strategies compared" not in report.as_markdown("test", "", every, table, None)


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
