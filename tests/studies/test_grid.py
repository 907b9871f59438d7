"""Rows of grids: the specs that come of them, and one grid from start to report."""

import pandas as pd
import pytest
import yaml

from benchmark.base.errors import UserError
from studies import study
from tests.studies.searches import command, written


def test_the_seven_rows_of_table_3(preset):
    found = study.start("components", preset, {"method": "lavt"})
    fields = [spec.strategy.key_fields() for spec in found.specs()]
    switches = [
        tuple(its[name] for name in ("image_mask", "text_mask", "distillation")) for its in fields
    ]
    assert switches == [
        (False, False, False),
        (True, False, False),
        (False, True, False),
        (True, True, False),
        (True, False, True),
        (False, True, True),
        (True, True, True),
    ]


def test_lambda_of_table_d_is_the_other_weight(preset):
    found = study.start("lambda", preset, {"method": "lavt"})
    for row in found.study.rows:
        (spec,) = found.row_specs(row)
        weight = spec.strategy.distill_weight if spec.strategy.passes == 2 else 0.0
        assert float(row.published.split()[1]) == pytest.approx(1 - weight)


def test_training_length_is_equal_in_passes(preset, tmp_path):
    found = study.start("training-length", preset, {"method": "cris"})
    passes = {
        row.label: spec.recipe.epochs * spec.strategy.passes
        for row in found.study.rows
        for spec in found.row_specs(row)
    }
    assert passes["MaskRIS, half as long"] == passes["baseline"]
    assert passes["baseline, twice as long"] == passes["MaskRIS"] == 2 * passes["baseline"]
    with pytest.raises(UserError, match=r"'MaskRIS, half as long'.*0.5 times 3 epochs"):
        path = written(
            tmp_path,
            **{
                **yaml.safe_load((study.SHIPPED / "grids" / "training-length.yaml").read_text()),
                "variants": {},
            },
            recipe={"epochs": 3},
        )
        study.start(path, preset, {})


def test_a_longer_training_moves_its_milestones():
    from methods.cris.config import CrisRecipe

    recipe = CrisRecipe(
        epochs=50, batch_size=4, micro_batch=4, learning_rate=1e-4, optimizer="adam"
    )
    assert recipe.stretched(0.5) == {"epochs": 25, "milestones": (18,)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patch_size": 7}, "row 'odd': mask patch size 7 does not divide the image size 64"),
        ({"image_mask_ratio": 1.5}, "row 'odd': strategy maskris: image_mask_ratio"),
        (
            {"patchsize": 8},
            "row 'odd': strategy setting 'patchsize' is not known: did you mean patch_size",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(preset, tmp_path, settings, said):
    rows = [
        {"label": "none", "strategy": "baseline"},
        {"label": "odd", "strategy": "maskris", "settings": settings},
    ]
    with pytest.raises(UserError, match=said):
        study.start(
            written(tmp_path, kind="grid", place="Table C", reference="none", rows=rows), preset, {}
        )


def test_a_grid_runs_once_and_compares_its_rows(preset, tmp_path, monkeypatch, capsys):
    rows = [{"label": "none", "strategy": "baseline"}, {"label": "flipped", "strategy": "flip"}]
    grid = written(tmp_path, kind="grid", place="Fig. 2", reference="none", rows=rows, curves=True)
    place = ("--runs", tmp_path / "runs", "--out", tmp_path / "out", "--no-sync")
    assert command("study", "run", grid, "--preset", preset, *place) == 0
    said = capsys.readouterr().out
    assert "2 to do" in said and "flipped" in said and "reference" in said
    table = pd.read_csv(tmp_path / "out" / "mine-boxes" / "table.csv")
    assert set(table["row"]) == {"none", "flipped"}
    assert {"differences.png", "losses.png", "table.md", "table.tex"} <= {
        path.name for path in (tmp_path / "out" / "mine-boxes").iterdir()
    }
    assert (tmp_path / "runs" / "studies" / "mine-boxes" / "report" / "table.csv").exists()
    assert command("study", "resume", "mine-boxes", *place) == 0
    assert "2 done, 0 to do" in capsys.readouterr().out
    assert command("study", "list", "--runs", tmp_path / "runs") == 0
    assert "2/2" in capsys.readouterr().out
    assert command("study", "show", "mine-boxe", "--runs", tmp_path / "runs") == 2
    assert "study 'mine-boxe' is not known: did you mean mine-boxes" in capsys.readouterr().err
    assert command("study", "resume", "mine-boxes", "--trials", "3", *place) == 2
    assert "which has rows and no trials" in capsys.readouterr().err
