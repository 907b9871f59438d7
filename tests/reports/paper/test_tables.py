"""Tables of papers: which number of ours stands beside which published one, and what is said."""

import functools
import math

import pytest

from reports.claims.claims import read_claims
from reports.claims.paper import read_papers
from reports.claims.table import answered
from reports.collected import collect
from reports.compare import comparison
from reports.paper import plan as plan_tables
from reports.paper import report
from reports.paper.cells import Cell
from reports.paper.published import NO_METHOD
from tests.reports.claims.runs import finish, measure
from tests.reports.fakes import make_run, make_runs, make_spec, plan

PAIR = "maskris-table-2-lavt-maskris-refcoco-testa-oiou"


@functools.cache
def claims():
    return read_claims()


def blocks(name, runs, specs=()):
    """Return the blocks of a table, with the runs of a plan in its layout."""
    specs = specs or [make_spec()]
    if not any((runs / spec.key).exists() for spec in specs):
        make_runs(runs, *specs)
    collected = collect(plan(specs), runs)
    its = answered(claims(), runs, collected.runs)
    return report.tables(its, collected, comparison(collected), read_papers())[name]


def row_of(block, label):
    (line,) = [line for line in block.lines if line[0] == label]
    return dict(zip(block.header[1::2], zip(line[1::2], line[2::2], strict=True), strict=True))


def titled(found, *parts):
    (block,) = [block for block in found if all(part in block.title for part in parts)]
    return block


def finish_pair(runs, difference):
    """Finish LAVT with and without MaskRIS on RefCOCO, measured by the protocol of the paper."""
    (claim,) = [its for its in claims().claims if its.id == PAIR]
    (part,) = claim.parts
    for seed in range(3):
        for arm, share in ((part.than, 0.75), (part.better, 0.75 + difference + 0.001 * seed)):
            run = finish(runs, arm, seed, share, only=("testA",))
            measure(run, arm.protocol, "testA", share)


@pytest.mark.parametrize(
    ("difference", "sign", "is_bold"), [(0.03, "▲", True), (-0.03, "▼", False), (0.0, "=", False)]
)
def test_our_number_stands_beside_the_published_one(tmp_path, difference, sign, is_bold):
    finish_pair(tmp_path, difference)
    block = titled(blocks("maskris-table2", tmp_path), "MaskRIS, Table 2, refcoco, oIoU")
    ours, printed = row_of(block, "LAVT + MaskRIS")["testA"]
    value, _, half_width, seeds, its_sign = ours.split()
    assert float(value) == pytest.approx(75 + 100 * difference + 0.1, abs=0.2)
    assert 0 < float(half_width) < 1 and (seeds, its_sign, printed) == ("(3)", sign, "76.57")
    before, printed = row_of(block, "LAVT")["testA"]
    # The row that it is compared with has no verdict of its own.
    assert before.endswith("(3)") and printed == "75.82"
    place = ([line[0] for line in block.lines].index("LAVT + MaskRIS"), 1 + 2 * 1)
    assert (place in block.bold) == is_bold
    # What is not there says why, and its published number is there all the same.
    assert row_of(block, "LAVT")["val"] == ("not run", "72.73")
    assert row_of(block, "CARIS")["testA"] == ("not run", "77.63")


def test_every_published_number_of_a_table_stands_in_it(tmp_path):
    known = claims().published
    for place, name in (("Table 1", "maskris-table1"), ("Table 2", "maskris-table2")):
        own = known[(known["paper"] == "MaskRIS") & (known["place"] == place)]
        wanted = sorted(f"{value:.2f}" for value in own["value"])
        found = [
            cell
            for block in blocks(name, tmp_path)
            if "layout" not in block.title
            for line in block.lines
            if not (place == "Table 2" and "(step 2)" in line[0])  # the same numbers once more
            for cell in line[2::2]
            if cell != "–"
        ]
        assert sorted(found) == wanted


def test_systems_without_a_method_and_metrics_of_their_own(tmp_path):
    found = blocks("maskris-table1", tmp_path)
    titles = [block.title for block in found]
    assert titles[:2] == ["MaskRIS, Table 1, mIoU", "MaskRIS, Table 1, oIoU"]
    first = row_of(found[0], "CGFormer")
    assert {ours for ours, _ in first.values()} == {NO_METHOD}
    assert first["refcoco val"][1] == "76.93"
    weak = titled(blocks("maskris-table2", tmp_path), "weakly supervised", "mIoU")
    assert [line[0] for line in weak.lines][:2] == ["TRIS (step 1)", "TRIS (step 1) + MaskRIS"]
    assert weak.lines[0][1] == "not comparable"


def test_a_plan_stands_in_the_layout_of_the_paper_and_says_what_is_missing(tmp_path):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in range(3)]
    make_runs(tmp_path, *specs)
    late = make_spec("maskris", method="lavt")
    make_run(tmp_path, late, "running", step=3, steps=10, heartbeat=4e9)
    found = blocks("maskris-table2", tmp_path, [*specs, late])
    block = titled(found, "In the layout of MaskRIS, Table 2: tiny on refshapes (unc), oIoU")
    by_label = {line[0]: line[1:] for line in block.lines}
    table = comparison(collect(plan(specs), tmp_path))
    wanted = table[(table["metric"] == "oiou") & (table["strategy"] == "+MaskRIS")]
    for split, cell in zip(block.header[1:], by_label["cris +MaskRIS"], strict=True):
        (line,) = wanted[wanted["split"] == split].to_dict("records")
        assert cell.startswith(f"{100 * line['mean']:.2f} ± {100 * line['half_width']:.2f} (3)")
    assert set(by_label["lavt +MaskRIS"]) == {"running (30% of the steps are done)"}
    assert set(by_label["caris"]) == {plan_tables.NOT_PLANNED}
    # A run with another setting is another strategy than the published one.
    assert "In the layout" not in " ".join(
        its.title for its in blocks("maskris-table2", tmp_path / "other", [make_spec()])
    )


def test_a_number_is_bold_by_its_verdict_alone():
    larger = Cell(100, 0.9, 0.01, 3, "undecided", 10.0)
    assert larger.ours == "90.00 ± 1.00 (3) ?" and not larger.is_bold
    assert Cell(100, 0.9, math.nan, 1).ours == "90.00 (1)"
    assert Cell(100, why="not run").ours == "not run" and Cell(100).printed == "–"


def test_every_format_has_the_numbers_and_bold(tmp_path):
    finish_pair(tmp_path, 0.03)
    files = report.files("paper/x", blocks("maskris-table2", tmp_path))
    assert [*files] == ["paper/x.md", "paper/x.tex", "paper/x.html"]
    assert r"\textbf{" in files["paper/x.tex"] and r"$\uparrow$" in files["paper/x.tex"]
    assert "**7" in files["paper/x.md"] and "76.57" in files["paper/x.html"]
