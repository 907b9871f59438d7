"""The page of a whole matrix stays small enough to be mailed and to open at once."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark.evaluation import examples, masks
from reports.collected import collect
from reports.compare import comparison
from reports.matrix import report as matrix
from reports.page import report
from tests.reports.fakes import make_run, make_spec, plan
from tests.reports.page.constructed import COSTS, entry

MEGABYTES = 5
SPECS = [
    make_spec(strategy, seed, method)
    for method in ("cris", "etris", "lavt", "caris", "tris", "sag")
    for strategy in ("baseline", "maskris")
    for seed in (0, 1, 2)
]


def make_examples(folder, count, size=(360, 480)):
    """Write examples with pictures of noise, which no format makes small, and frayed masks."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows, columns = np.indices(size)
    codes = []
    for number in range(40):
        edge = 80 + 8 * np.sin((rows + number) / 3) + random.integers(0, 3, size)
        codes.append(masks.encode(np.hypot(rows - 180, columns - 200 - number) < edge))
    entries = []
    for number in range(count):
        noise = random.integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.webp", quality=40)
        chosen = [codes[(number + place) % len(codes)] for place in range(len(SPECS))]
        guesses = {
            spec.key: {"rle": code, "iou": 0.5} for spec, code in zip(SPECS, chosen, strict=True)
        }
        sentence = f"the shape number {number}"
        truth = codes[number % len(codes)]
        entries.append(entry(number, "largest gain", sentence, size, truth, guesses))
    (folder / "examples.json").write_text(json.dumps(entries))


@pytest.mark.slow
def test_a_page_of_36_runs_is_below_five_megabytes(tmp_path):
    for spec in SPECS:
        run = make_run(tmp_path, spec)
        lines = [{"step": step, "epoch": 0, "train/loss": 1 / step} for step in range(1, 3000)]
        (run.path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        (run.path / "log.txt").write_text("a line of the log of a run\n" * 1000)
    group = plan(SPECS)
    make_examples(examples.folder(tmp_path, group.name), 60)
    collected = collect(group, tmp_path)
    tables = matrix.made(collected, comparison(collected))
    costs = {run.key: COSTS for run in collected.runs}
    page = report.page(collected, tables, tmp_path, measured=costs)
    html = report.as_html(page)
    assert 2_000_000 < len(html.encode()) < MEGABYTES * 1_000_000
    # What there is no room for is counted, and not left out in silence.
    assert 0 < page.gallery.left_out < 60
    assert f"{page.gallery.left_out} expressions are left out" in html
    assert len(page.runs) == 36 and len(page.curves) == 6
