"""The page of a constructed plan with runs in every state."""

import dataclasses
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.runs.groups import read_group
from reports.collected import collect
from reports.compare import comparison
from reports.matrix import report as matrix
from reports.page import report, summary
from reports.page.chart import WIDTH
from tests.helpers import PROJECT
from tests.reports.fakes import make_run, make_spec, plan
from tests.reports.page import constructed

SECTIONS = ["comparison", "claims", "studies", "curves", "robustness", "gallery", "costs", "runs"]
SECTIONS += ["definitions"]


class Text(HTMLParser):
    """Collects the text of a page, its tags with their attributes, and its ids."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.parts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.parts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.parts).split())


def section(html, name):
    (found,) = re.findall(rf'<section id="{name}".*?</section>', html, flags=re.DOTALL)
    return found


def text_of(html, name):
    return Text(section(html, name)).text


def test_the_page_is_the_stored_one(made):
    expected = constructed.GOLDEN.read_text()
    assert constructed.normal(made.html, made.runs) == expected, (
        "look at the page, and if it is as it should be, store it with"
        " `python -m tests.reports.page.constructed`"
    )


def test_the_same_runs_give_the_same_bytes(made):
    again = constructed.page_of(made.runs, read_group(made.runs, constructed.NAME))
    assert report.as_html(again) == made.html


def test_sections_come_in_the_order_in_which_people_read(made):
    assert re.findall(r'<section id="(\w+)"', made.html) == SECTIONS
    links = [its["href"] for tag, its in Text(made.html).tags if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]


def test_text_from_data_is_text(made):
    assert made.html.count("<script>") == 1 and "<script>alert" not in made.html
    for evil, names in (
        (constructed.EVIL, ("comparison", "runs")),
        (constructed.SENTENCE, ("gallery", "runs")),
    ):
        for name in names:
            assert " ".join(evil.split()) in text_of(made.html, name)
    tags = Text(made.html).tags
    assert not [its for _, its in tags if any(name.startswith("on") for name in its)]


def test_the_page_asks_for_nothing(made):
    tags = Text(made.html).tags
    addresses = [its[name] for _, its in tags for name in ("href", "src") if name in its]
    assert addresses and all(its.startswith(("#", "data:image/webp;base64,")) for its in addresses)
    assert "url(" not in made.html and "@import" not in made.html
    assert {tag for tag, _ in tags} & {"link", "iframe", "object", "img", "form"} == {"form"}


def test_ids_are_unique_and_every_reference_has_its_target(made):
    tags = Text(made.html).tags
    ids = [its["id"] for _, its in tags if "id" in its]
    assert len(set(ids)) == len(ids)
    named = [its["href"][1:] for _, its in tags if its.get("href", "").startswith("#")]
    named += [its["aria-labelledby"] for _, its in tags if "aria-labelledby" in its]
    assert {*named} <= {*ids}


def test_every_state_is_shown(made):
    shown = text_of(made.html, "comparison")
    assert "running (40% of the steps are done)" in shown
    assert "failed (<script>alert('reason')</script>" in shown
    assert "not resolved yet" in shown and "these two checkpoints" in shown
    runs = text_of(made.html, "runs")
    for state in ("● done", "◐ running 40%", "× failed", "○ planned", "– not planned"):
        assert state in runs
    assert made.page.counts == {
        "done": 11, "running": 1, "failed": 1, "planned": 1, "not resolved yet": 1,
    }  # fmt: skip


def test_the_sentence_says_what_was_run_and_found(made):
    assert re.fullmatch(
        r"With \+MaskRIS in place of baseline, 3 methods change by \+[\d.]+ to \+[\d.]+ points on"
        r" test splits of refshapes \(unc\) \(1 to 3 seeds\), which is better in the one comparison"
        r" that can be judged. 11 of 15 planned runs are finished.",
        made.page.sentence,
    )


def test_the_sentence_counts_verdicts():
    words = pd.Series(["better", "undecided", "undecided", "worse"])
    assert summary._verdicts(words) == (
        "which is better in 1 of 4 comparisons, worse in 1 and undecided in 2"
    )
    assert (
        summary._verdicts(pd.Series(["undecided"] * 3)) == "which is undecided in all 3 comparisons"
    )
    assert summary._verdicts(pd.Series(["", ""])) == "and nothing can be judged yet"


def test_unfinished_runs_have_curves_as_far_as_they_are(made):
    (lavt,) = [its for its in made.page.curves if its.method == "lavt tiny"]
    (loss, chosen) = lavt.charts
    assert [label for label, *_ in loss.lines] == ["baseline, seed 0", "+MaskRIS, seed 0"]
    ends = [float(path.split("L")[-1].split()[0]) for _, _, path, _, _ in loss.lines]
    assert ends[1] < ends[0] <= WIDTH
    assert [len(dots) for *_, dots in chosen.lines] == [4, 1]


def test_curves_show_every_seed(made):
    (cris,) = [its for its in made.page.curves if its.method == "cris tiny"]
    labels = [label for label, *_ in cris.charts[0].lines]
    assert labels == [
        f"{name}, seed {seed}" for name in ("baseline", "+MaskRIS") for seed in (0, 1, 2)
    ]


def test_robustness_has_severity_on_the_axis_and_both_strategies(made):
    (its,) = made.page.robustness.panels
    assert its.title == "cris tiny, refshapes testA, oIoU"
    assert [chart.title for chart in its.corruptions] == ["fog", "jpeg compression"]
    fog = its.corruptions[0]
    assert [label for label, *_ in fog.lines] == ["baseline", "+MaskRIS"]
    assert all(len(dots) == 4 and band for _, _, _, band, dots in fog.lines)
    assert [text for _, text in fog.x_ticks] == ["0", "1", "2", "3", "4", "5"]
    assert [chart.title for chart in its.occlusion] == ["covered: of the referent"]


def test_every_chart_stays_in_its_frame(made):
    panels = made.page.robustness.panels
    charts = [chart for its in panels for chart in (*its.corruptions, *its.occlusion)]
    charts += [chart for its in made.page.curves for chart in its.charts]
    for chart in charts:
        for _, _, path, band, dots in chart.lines:
            places = [float(number) for number in re.findall(r"[\d.]+", path + band)]
            places += [place for dot in dots for place in dot]
            assert all(chart.left <= x <= chart.right for x in places[::2])
            assert all(chart.top <= y <= chart.bottom for y in places[1::2])


def test_a_study_shows_its_rows_and_its_progress(made):
    (study,) = made.page.studies
    assert study.progress == "7 runs: 2 done, 5 planned."
    shown = text_of(made.html, "studies")
    assert "components-quick" in shown and "IM + TM + DCL" in shown and "not finished" in shown


def test_a_run_says_what_one_needs_to_make_it_again(made):
    key = make_spec("baseline", 1).key
    (facts,) = [its for its in made.page.runs if its.key == key]
    assert facts.facts["commit"] == "c0ffee, with uncommitted changes"
    assert facts.facts["data"].endswith(make_spec().data_sha256)
    assert facts.spec == (made.runs / key / "spec.yaml").read_text()
    assert (
        facts.log.endswith(f"{key}/log.txt") and facts.lines.splitlines()[0] == "a line of the log"
    )
    assert len(made.page.runs) == 13


def test_a_run_of_a_joined_folder_says_where_its_log_lies(made, tmp_path):
    specs = [make_spec("baseline", seed) for seed in (0, 1)]
    for spec in specs:
        (tmp_path / spec.key).symlink_to(made.runs / spec.key)
    collected = collect(plan(specs), tmp_path)
    tables = matrix.made(collected, comparison(collected))
    its = report.page(collected, tables, tmp_path)
    assert [facts.log for facts in its.runs] == [f"{spec.key}/log.txt" for spec in specs]


def test_a_tracking_address_is_linked_where_it_is_one(made):
    page = dataclasses.replace(made.page, tracking="http://127.0.0.1:5000")
    assert 'href="http://127.0.0.1:5000"' in section(report.as_html(page), "runs")
    assert "risbench ui" in text_of(made.html, "runs")


@pytest.fixture
def bare(tmp_path):
    """Return the page of one finished run and nothing else."""
    spec = make_spec()
    make_run(tmp_path, spec)
    collected = collect(plan([spec]), tmp_path)
    its = report.page(
        collected,
        matrix.made(collected, comparison(collected)),
        tmp_path,
        tracking="sqlite:///mlflow.db",
    )
    return report.as_html(its)


def test_a_section_without_content_says_what_fills_it(bare):
    for name, command in (
        ("claims", "risbench claims"),
        ("studies", "risbench study run"),
        ("curves", "risbench status"),
        ("robustness", "risbench robustness"),
        ("gallery", "risbench examples"),
        ("costs", "risbench matrix"),
        ("runs", "risbench ui"),
    ):
        assert command in text_of(bare, name)
    assert "Nothing is compared with baseline yet, and all runs are finished." in Text(bare).text
    assert "sqlite" not in bare


def test_the_page_is_made_without_torch(made):
    code = (
        "import sys; from pathlib import Path; from benchmark.runs.groups import read_group;"
        "from tests.reports.page import constructed; from reports.page import report;"
        f"runs = Path({str(made.runs)!r});"
        "report.as_html(constructed.page_of(runs, read_group(runs, constructed.NAME)));"
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)


def test_a_damaged_list_of_examples_is_named(made, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(made.runs, runs)
    (runs / "examples" / constructed.NAME / "examples.json").write_text("[{")
    with pytest.raises(UserError, match="risbench examples"):
        constructed.page_of(runs, read_group(runs, constructed.NAME))


def test_a_page_holds_no_password():
    """The address of a store may have one, and a page is sent to others."""
    address = "https://user:secret@lab.example:5000/x?y=1"
    assert report.without_password(address) == "https://lab.example:5000/x?y=1"
    assert report.without_password("http://lab:5000") == "http://lab:5000"
