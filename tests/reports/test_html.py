"""Tables as HTML: what is text stays text, and what a sorted table needs is there."""

from xml.etree import ElementTree

import pytest

from reports.layout import html
from reports.layout.block import Block, named_once
from reports.layout.signs import LOOKS, look

EVIL = "<script>alert(1)</script> & \"both\" 'quotes'"


def block(*lines, header=("split", "method", "p", "verdict"), **more):
    return Block("a title", "", header, [*lines], **{"names": 2, **more})


def parsed(text):
    """Return a table as a tree. XML knows no entities but its own."""
    return ElementTree.fromstring(f"<main>{text.replace('&nbsp;', ' ')}</main>")


def words(cell):
    return " ".join("".join(cell.itertext()).split())


def test_text_is_text_in_every_place():
    table = Block(EVIL, EVIL, (EVIL, "status"), [(EVIL, f"failed ({EVIL})")], names=1)
    root = parsed(html.table(table, legend=EVIL))
    assert not root.findall(".//script")
    assert words(root.find(".//tbody/tr/th")) == EVIL
    assert words(root.find(".//caption")) == f"{EVIL} {EVIL}"
    assert EVIL in words(root.find(".//tbody/tr/td"))
    assert words(root.find(".//thead//th")) == EVIL
    assert words(root.find("./p")) == EVIL
    assert root.find("./div").get("aria-label") == EVIL


def test_a_name_that_is_left_out_is_there_again():
    lines = named_once(
        [("val", "cris", "a", "1"), ("val", "cris", "b", "2"), ("val", "lavt", "a", "3")]
    )
    assert lines[1][:2] == ("", "")
    root = parsed(html.table(block(*lines, header=("split", "method", "metric", "p"), names=3)))
    rows = [[words(cell) for cell in row] for row in root.findall(".//tbody/tr")]
    assert [row[:3] for row in rows] == [
        ["val", "cris", "a"],
        ["val", "cris", "b"],
        ["val", "lavt", "a"],
    ]
    again = [["again" in cell.get("class") for cell in row] for row in root.findall(".//tbody/tr")]
    assert again == [[False] * 4, [True, True, False, False], [True, False, False, False]]


@pytest.mark.parametrize(
    "text, order",
    [
        ("+1.25 [0.10, 2.40]", "1.25"),
        ("-1.25 [-2.40, -0.10]", "-1.25"),
        ("39.80 ± 2.97", "39.80"),
        ("1,234", "1234"),
        ("< 0.0001", "0.0001"),
        ("–", None),
        ("not finished", None),
    ],
)
def test_numbers_sort_by_their_first_number(text, order):
    root = parsed(html.table(block(("val", "cris", text, "–"))))
    cell = root.find(".//td[@class='number']")
    assert cell.get("data-order") == order


def test_headings_and_names_are_headers_of_their_columns_and_rows():
    root = parsed(html.table(block(("val", "cris", "0.01", "better"))))
    assert [head.get("scope") for head in root.findall(".//thead//th")] == ["col"] * 4
    assert [head.get("scope") for head in root.findall(".//tbody//th")] == ["row"] * 2
    assert words(root.find(".//caption")) == "a title"


def test_a_verdict_has_a_sign_beside_its_word():
    for verdict in ("better", "worse", "no relevant difference", "undecided"):
        its = look(verdict)
        root = parsed(html.table(block(("val", "cris", "0.01", verdict))))
        cell = root.find(".//td/span")
        assert words(cell) == f"{its.sign} {verdict}" and cell.get("class") == f"word {its.tone}"
    assert (
        len(
            {look(word).sign for word in ("better", "worse", "no relevant difference", "undecided")}
        )
        == 4
    )


def test_what_is_said_with_a_status_does_not_hide_it():
    assert look("confirmed on val, these two checkpoints").word == "confirmed"
    assert look("not run").word == "not run"
    assert look("not planned").word == "not planned"
    assert look("nothing of the kind") is None
    assert {its.tone for its in LOOKS} == {"good", "bad", "equal", "open", "none"}


def test_a_word_in_a_sentence_of_another_column_is_no_verdict():
    header = ("split", "why, and beside", "status")
    root = parsed(
        html.table(block(("val", "better on test splits", "confirmed"), header=header, names=1))
    )
    marked = [words(cell) for cell in root.findall(".//span[@data-word]")]
    assert marked == ["▲ confirmed"]


def test_a_document_allows_its_own_script_alone_and_ends_with_the_definitions():
    text = html.document(EVIL, [block(("val", "cris", "0.01", "better"))], "a legend", [EVIL])
    script = text.split("<script>")[1].split("</script>")[0]
    policy = html.content_policy(script)
    assert "default-src 'none'" in policy
    assert policy.replace("'", "&#39;") in text
    assert text.count("<script>") == 1
    assert text.index("</table>") < text.index("a legend") < text.index("What the numbers mean")
