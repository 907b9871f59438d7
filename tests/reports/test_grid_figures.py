"""Figures of grids: differences and loss curves."""

import os
import subprocess
import sys

import numpy as np
import pytest

from reports.studies.grids import differences, losses, report
from reports.studies.grids.results import results
from tests.reports.grids import finish, finish_all, line_of, spec_of, start


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
    assert outputs[0].stdout == outputs[1].stdout and outputs[0].stdout.count("\n") == 6


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
        "losses.svg",
    }
