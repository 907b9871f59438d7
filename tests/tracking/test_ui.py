"""The tracking UI in a real browser: what it shows of finished runs, in how many clicks."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from typer.testing import CliRunner

from benchmark.cli.app import app
from benchmark.runs.groups import Cell, Group, write_plan
from benchmark.tracking import mlflow_client
from tests.browser import visited
from tests.helpers import PROJECT, copied

SECONDS = 60  # that a page may take on a busy machine


@pytest.fixture
def runs(trained, tmp_path):
    """Return a folder with the finished runs of a plan, one for each strategy."""
    made = copied(tmp_path / "runs", trained("lavt", "baseline"), trained("lavt", "maskris"))
    cells = [Cell.of(run.spec()) for run in made]
    write_plan(tmp_path / "runs", Group("pair", "preset", cells=cells))
    return tmp_path / "runs"


@pytest.fixture
def address(runs, tmp_path):
    """Start `risbench ui` on the folder and return its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "benchmark.cli", "ui", "--runs", str(runs), "--port", port]
    with (tmp_path / "ui.txt").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=PROJECT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not answers(f"http://127.0.0.1:{port}/health"):
            shown = (tmp_path / "ui.txt").read_text()
            assert server.poll() is None, shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        # The server's workers are processes of its own group.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.browser
@pytest.mark.slow
def test_three_clicks_lead_from_the_start_page_to_baseline_against_maskris(address):
    with visited(address) as visit:
        page = visit.page
        page.set_default_timeout(1000 * SECONDS)
        clicks = 0

        def click(target) -> None:
            nonlocal clicks
            target.click()
            clicks += 1

        click(page.get_by_text("Model training", exact=True).first)
        click(page.get_by_role("link", name="refcoco", exact=True).first)
        # The first line of the note stands above the runs.
        page.get_by_text("With +MaskRIS in place of baseline").first.wait_for()
        click(page.get_by_role("link", name="lavt +MaskRIS tiny (pair)").first)
        table = page.locator("table", has_text="+MaskRIS").first
        table.wait_for()
        assert clicks == 3
        header = [cell.strip() for cell in table.locator("th").all_inner_texts()]
        assert header[2:5] == ["baseline", "+MaskRIS", "difference [95 %]"]
        # What the page asks for after the table comes later.
        child = page.get_by_role("link", name="+MaskRIS, seed 0")
        child.first.wait_for()
        assert child.count() == 1
        # The figure of the note is there, and has loaded.
        page.get_by_text("Show more", exact=True).first.click()
        figure = page.locator("img[src*=differences]").first
        figure.wait_for()
        loaded = "image => image.decode().then(() => image.naturalWidth)"
        assert figure.evaluate(loaded) > 300


@pytest.mark.browser
@pytest.mark.slow
def test_the_curves_of_two_runs_stand_in_one_chart(address):
    with visited(address) as visit:
        page = visit.page
        page.set_default_timeout(1000 * SECONDS)
        page.get_by_text("Model training", exact=True).first.click()
        page.get_by_role("link", name="refcoco", exact=True).first.click()
        page.get_by_role("link", name="lavt +MaskRIS tiny (pair)").first.click()
        # The end of a long note lies under a veil until it is opened.
        page.get_by_text("Show more", exact=True).first.click()
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="seed 0", exact=True).first.click()
        compared = opened.value
        compared.set_default_timeout(1000 * SECONDS)
        compared.get_by_text("Comparing 2 Runs").first.wait_for()
        for name in ("baseline, seed 0", "+MaskRIS, seed 0"):
            compared.get_by_text(name).first.wait_for()


@pytest.mark.browser
@pytest.mark.slow
def test_a_run_shows_its_data_parameters_and_images(runs, address):
    client = mlflow_client.client_of(address)
    experiment = client.get_experiment_by_name("refcoco").experiment_id
    found = client.search_runs([experiment], "params.strategy = 'maskris' and params.seed = '0'")
    (run,) = [its for its in found if "ris.key" in its.data.tags]
    with visited(f"{address}/#/experiments/{experiment}/runs/{run.info.run_id}") as visit:
        page = visit.page
        page.set_default_timeout(1000 * SECONDS)
        page.get_by_text("recipe.learning_rate", exact=True).first.wait_for()
        # Of several data sets MLflow shows the first one and how many more there are.
        for text in ("refcoco train", "train/loss", "lavt-tiny-maskris-refcoco"):
            page.get_by_text(text).first.wait_for()


def test_the_command_says_where_it_is_and_what_to_click(runs, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: started.append(arguments))
    done = CliRunner().invoke(app, ["ui", "--runs", str(runs), "--port", "5099"])
    assert done.exit_code == 0, done.output
    assert "http://127.0.0.1:5099" in done.output and '"Model training"' in done.output
    ((_, command, variables),) = started
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
