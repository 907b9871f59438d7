"""The paper's numbers beside those of a grid, from published.csv."""

import csv as csv_reader

import pandas as pd
import pytest

from benchmark.base.errors import UserError
from reports import published as printed
from reports.published import HOURS
from reports.studies.grids import published, report
from studies import study
from tests.reports.grids import cells, finish, finish_all, line_of, start, text_of, written


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
    assert "caris tiny on refshapes" in text and "orientation" in text
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


def systems(grid):
    return {grid.system_of(row) for row in grid.rows}


@pytest.mark.parametrize("variant", ["tiny", "small", "paper"])
@pytest.mark.parametrize(
    "name", [name for name in study.shipped() if study.read_study(name).kind == "grid"]
)
def test_every_shipped_row_finds_what_the_paper_has(name, variant):
    started = start(name, variant=variant)
    paper = published.published(started)
    with printed.FILE.open() as file:
        place = [
            line
            for line in csv_reader.DictReader(file)
            if line["place"] == started.study.place and line["system"] in systems(started.study)
        ]
    known = printed.metric_names()
    for row in started.study.rows:
        if row.published:
            expected = {
                (line["split"], known[line["metric"]], float(line["value"]))
                for line in place
                if (line["condition"], line["system"])
                == (row.published, row.system or started.study.system)
                and line["metric"] in known
            }
            assert expected and expected == {
                (split, metric, value)
                for (label, split, metric), value in paper.numbers.items()
                if label == row.label and metric != HOURS
            }
    shown = {row.published for row in started.study.rows if row.published}
    if variant == "paper" and shown:
        assert {line["condition"] for line in place} == shown


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


@pytest.mark.parametrize("content", ["paper,place\nx,y\n", "", "damaged", None])
def test_a_damaged_published_csv_is_a_user_error(tmp_path, monkeypatch, content):
    path = tmp_path / "published.csv"
    if content == "damaged":
        content = printed.FILE.read_text().replace("76.49", "seventy")
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(printed, "FILE", path)
    with pytest.raises(UserError, match=r"published.csv is (damaged|missing)"):
        published.published(start())
