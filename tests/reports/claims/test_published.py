"""Every published number is in a claim, or a reason says why it is in none."""

import csv
from pathlib import Path

import pytest
import yaml

from benchmark.base.errors import UserError
from reports import published
from reports.claims.claims import read_claims
from reports.claims.paper import SHIPPED
from reports.claims.report import left_out
from tests.helpers import PROJECT


@pytest.fixture(scope="module")
def claims():
    return read_claims()


def test_each_of_729_numbers_has_its_place(claims):
    claimed = {row for claim in claims.claims for row in claim.rows}
    places = [claimed, {*claims.not_answerable}, {*claims.waiting}]
    assert sum(map(len, places)) == len(set.union(*places)) == len(claims.published) == 729
    assert [len(its) for its in places] == [463, 266, 0]


def test_a_paper_waits_for_a_method_that_is_not_there_yet(tmp_path):
    (tmp_path / "later.yaml").write_text("{paper: Later, source: nowhere, waits_for: later}")
    header, *_ = published.FILE.read_text().splitlines()
    (tmp_path / published.FILE.name).write_text(f"{header}\nLater,T,L,,refcoco,val,oIoU,1.00,\n")
    found = read_claims(tmp_path)
    assert [*found.waiting.values()] == ["later"]
    assert "1 number of Later wait for the method later." in left_out(found)


def test_the_numbers_are_those_of_the_facts(shared):
    assert published.FILE.read_text() == (shared / "facts" / "published.csv").read_text()


def test_every_sign_has_the_direction_of_the_published_numbers(claims):
    """An independent reading of the file: the arm that is said to be better has the larger one."""
    with published.FILE.open(encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    signs = [claim for claim in claims.claims if claim.kind == "sign"]
    for claim in signs:
        before, after = (lines[row] for row in claim.rows)
        assert {before["dataset"], before["split"], before["metric"]} == {
            after["dataset"],
            after["split"],
            after["metric"],
        }
        (part,) = claim.parts
        helps = float(after["value"]) > float(before["value"])
        # Tables 1 and 2 compare with the network alone, which is the reference strategy.
        if claim.places[0] in ("Table 1", "Table 2"):
            assert helps == (part.better.spec.strategy.name == "maskris")
            assert part.than.spec.strategy.name == "baseline"
        assert claim.printed == f"{before['value']} → {after['value']}"


def test_the_families_are_the_test_splits_of_a_table(claims):
    sizes = {}
    for claim in claims.claims:
        if claim.kind == "sign":
            sizes[claim.family] = sizes.get(claim.family, 0) + 1
            assert ("val" in claim.splits) == claim.family.endswith(", val") == bool(claim.on_val)
    # Table 1 has CARIS alone and combined, on five test splits each. Table 2 has six methods, one
    # of them in two steps, on two.
    assert sizes["MaskRIS Table 1"] == 10 and sizes["MaskRIS Table 2"] == 14
    assert sizes["MaskRIS Table 3, val"] == 6 * 4


def test_the_unknown_step_of_tris_is_asked_of_both_and_of_no_value(claims):
    own = [claim for claim in claims.claims if "tris-step" in claim.id]
    assert {claim.kind for claim in own} == {"sign"}
    methods_of = {claim.parts[0].better.spec.method for claim in own}
    assert methods_of == {"tris", "tris_step2"}


def test_cris_of_table_2_has_resnet_50_and_of_table_1_has_resnet_101(claims):
    networks = {
        claim.places[0]: claim.value.arm.spec.network.pretrained
        for claim in claims.claims
        if (claim.paper, claim.kind) == ("MaskRIS", "value")
        and claim.value.arm.spec.method == "cris"
    }
    assert networks == {"Table 1": "openai-RN101", "Table 2": "openai-RN50"}


def test_combined_training_is_reported_on_the_splits_of_the_three_sets(claims):
    (claim,) = [
        claim
        for claim in claims.claims
        if claim.id == "maskris-table-1-caris-maskris-combined-refcocog-umd-test-oiou"
    ]
    (part,) = claim.parts
    assert part.split == "refcocog.umd.test" and part.better.spec.dataset == "combined"


# --- files that are wrong -------------------------------------------------------------------------

LINE = "Mine,Table 1,{system},,refcoco,{split},oIoU,{value},\n"
ROWS = [
    {"label": "alone", "system": "X", "method": "cris"},
    {
        "label": "better",
        "system": "X+",
        "method": "cris",
        "strategy": "maskris",
        "against": "alone",
    },
]


def folder(tmp_path: Path, rows=ROWS, **paper):
    own = {"paper": "Mine", "source": "here", "tables": [{"place": "Table 1", "rows": rows}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own | paper))
    lines = [
        LINE.format(system=system, split=split, value=value)
        for system, value in (("X", 50), ("X+", 51.5))
        for split in ("val", "testA")
    ]
    (tmp_path / "published.csv").write_text(",".join(published.COLUMNS) + "\n" + "".join(lines))
    return tmp_path


def test_a_further_paper_is_a_file_and_rows(tmp_path):
    mine = [claim for claim in read_claims(folder(tmp_path)).claims if claim.paper == "Mine"]
    assert [claim.id for claim in mine if claim.kind == "sign"] == [
        "mine-table-1-better-refcoco-val-oiou",
        "mine-table-1-better-refcoco-testa-oiou",
    ]
    assert len(mine) == 2 + 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": "Y"}, "system 'Y' is not known"),
        ({"condition": "RN50"}, "condition 'RN50' is not known"),
        ({"note": "trained"}, "no number whose note begins so"),
        ({"method": "criss"}, "did you mean cris"),
        ({"variant": "papre"}, "did you mean paper"),
        ({"strategy": "maskri"}, "did you mean maskris"),
        ({"settings": {"patch_sise": 8}, "strategy": "maskris"}, "did you mean patch_size"),
        ({"recipe": {"epoch": 8}}, "epoch"),
        ({"protocol": "crsi"}, "did you mean cris"),
        ({"protocol": "cris"}, "number of the protocol cris 'oiou' is not known"),
        ({"against": "nobody"}, "which is no row"),
        ({"oops": 1}, "oops"),
    ],
)
def test_a_claim_without_a_number_or_a_run_is_an_error(tmp_path, change, message):
    rows = [ROWS[0], {**ROWS[1], **change}]
    with pytest.raises(UserError, match=message):
        read_claims(folder(tmp_path, rows))


def test_other_errors_of_a_file_are_one_sentence(tmp_path):
    statement = {"id": "s", "place": "Table 1", "text": "t", "dataset": "refcoco"}
    statement |= {
        "splits": ["val"],
        "metric": "oIoU",
        "parts": [["Table 1: best", "Table 1: alone"]],
    }
    with pytest.raises(UserError, match="row of Mine 'Table 1: best' is not known"):
        read_claims(folder(tmp_path, statements=[statement]))
    with pytest.raises(UserError, match="published.csv has no number of this paper"):
        read_claims(folder(tmp_path, paper="Nobody's"))
    reason = {"place": "Table 9", "reason": "none"}
    with pytest.raises(UserError, match="place 'Table 9' is not known"):
        read_claims(folder(tmp_path, not_answerable=[reason]))
    (folder(tmp_path) / "published.csv").write_text("paper\n")
    with pytest.raises(UserError, match=r"published.csv is damaged .*: mend it"):
        read_claims(tmp_path)


@pytest.mark.parametrize("value", ["seventy", "inf", ""])
def test_a_value_that_is_no_number_is_named(tmp_path, value):
    path = folder(tmp_path) / "published.csv"
    path.write_text(path.read_text().replace("51.5", value, 1))
    with pytest.raises(UserError, match=f"the value '{value}' of line 4 is no number"):
        read_claims(tmp_path)


def test_two_claims_of_one_id_are_an_error(tmp_path):
    again = {**ROWS[1], "label": "better!"}
    with pytest.raises(UserError, match="two claims have the id mine-table-1-better"):
        read_claims(folder(tmp_path, [*ROWS, again]))


def test_every_shipped_file_is_installed_with_the_package():
    text = (PROJECT / "pyproject.toml").read_text()
    assert SHIPPED.relative_to(PROJECT / "reports").as_posix() == "claims/papers"
    assert "claims/papers/*.yaml" in text and "planning/speeds/*.json" in text
    assert "planning/*.json" in text


def test_a_quoted_number_is_the_claim_of_the_paper_that_measured_it(claims):
    """CM-MaskSD's Table I repeats CRIS' numbers, and AMLRIS' main table those of LAVT."""
    for paper, system, place in (
        ("CM-MaskSD", "CRIS", "Table I"),
        ("AMLRIS", "LAVT", "main table (mIoU), as copied by papernotes.org"),
    ):
        known = claims.published
        own = known[known[["paper", "system", "place"]].eq([paper, system, place]).all(axis=1)]
        asked = [
            claim
            for claim in claims.claims
            if claim.kind == "value" and {*claim.rows} & {*own.index}
        ]
        assert len(asked) == len(own) == 8
        assert {claim.paper for claim in asked} == {"MaskRIS"}
        assert all(place in claim.places for claim in asked)
