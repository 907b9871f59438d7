"""The table of weak supervision beside baselines that see no sentence."""

import numpy as np
import pandas as pd
import pytest

from benchmark.evaluation.text_blind_scores import write_scores
from reports.collected import collect
from reports.compare import comparison
from reports.matrix import report, text_blind
from tests.reports.fakes import SPLITS, WEAK, make_run, make_spec, plan

COMMAND = "risbench evaluate RUN --split SPLIT --text-blind"


@pytest.fixture
def measured(tmp_path):
    """Two seeds of two strategies of a weak method, measured on val alone, and a full method."""
    specs = [make_spec(s, seed, WEAK) for s in ("baseline", "maskris") for seed in (0, 1)]
    for spec in specs:
        run = make_run(tmp_path, spec)
        scores = {"constant": 0.30, "mean": 0.1 + 0.2 * spec.seed, "max": 0.25 + 0.2 * spec.seed}
        write_scores(run, "val", scores, run.records("val"))
    specs.append(make_spec())
    make_run(tmp_path, specs[-1])
    return tmp_path, specs


def miou(runs, specs, strategy, split):
    """Return the mean over seeds of the mean over expressions, in percent."""
    values = []
    for spec in specs:
        if spec.method == WEAK and spec.strategy.name == strategy:
            records = pd.read_parquet(runs / spec.key / "records" / f"{split}.parquet")
            values.append((records["intersection"] / records["union"]).mean())
    return 100 * np.mean(values)


def test_networks_stand_beside_their_baselines(measured):
    runs, specs = measured
    (block,) = text_blind.blocks(collect(plan(specs), runs), runs)
    assert block.title.startswith("refshapes (split by unc)")
    assert [line[0] for line in block.lines] == [SPLITS[0], "", SPLITS[1], ""]
    for place, strategy in enumerate(("baseline", "maskris")):
        network = miou(runs, specs, strategy, "val")
        seeds, *cells = block.lines[place][3:]
        assert seeds == "2"
        # Means over seeds 0 and 1: the maximum of the maps is the best baseline.
        assert [float(cell) for cell in cells] == pytest.approx(
            [network, 30, 20, 35, network - 35], abs=0.0051
        )
        assert cells[-1][0] in "+-"
        network = miou(runs, specs, strategy, "testA")
        assert block.lines[2 + place][4:] == (f"{network:.2f}", "–", "–", "–", "–")
    assert COMMAND in block.note


def test_a_mean_over_some_of_the_seeds_is_not_shown(measured):
    runs, specs = measured
    (runs / specs[0].key / "text_blind" / "val.json").unlink()
    (block,) = text_blind.blocks(collect(plan(specs), runs), runs)
    assert block.lines[0][5:] == ("–",) * 4 and "–" not in block.lines[1]


def test_every_format_but_latex_shows_it_after_the_compared_strategies(measured):
    runs, specs = measured
    collected = collect(plan(specs), runs)
    made = report.made(collected, comparison(collected), folder=runs)
    contents = report.contents(made)
    title = made.text_blind[0].title
    for name in ("table.md", "table.html"):
        text = contents[name]
        assert text.index(made.compared[-1].title) < text.index(title)
        assert "constant mask" in text and COMMAND in text
    assert "constant mask" not in contents["table.tex"]


def test_without_weak_supervision_there_is_no_table(tmp_path):
    make_run(tmp_path, make_spec())
    assert text_blind.blocks(collect(plan([make_spec()]), tmp_path), tmp_path) == []
