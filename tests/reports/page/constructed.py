"""A constructed plan with runs in every state, and the page of it that the tests keep.

`python -m tests.reports.page.constructed` writes the page that is kept again.
"""

import dataclasses
import json
import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.evaluation import masks
from benchmark.evaluation.text_blind_scores import write_scores
from benchmark.runs.comparisons import planned_comparisons
from benchmark.runs.costs import Costs
from benchmark.runs.groups import Cell, Group, write_plan
from benchmark.runs.rundir import RunDir
from reports.claims.answers import STATUSES
from reports.claims.claims import read_claims
from reports.claims.table import answered
from reports.collected import collect
from reports.compare import comparison, settings
from reports.costs import blocks, table
from reports.matrix.report import made
from reports.page import report
from reports.robustness.finished import finished
from studies import study
from tests.reports.fakes import WEAK, make_records, make_run, make_spec
from tests.reports.grids import finish_all, start

GOLDEN = Path(__file__).with_name("golden.html")
NAME = "every-state"
EVIL = "<script>alert('reason')</script> & \"quotes\""
SENTENCE = "<script>alert('sentence')</script> on the left"
CONDITIONS = ("fog-1", "fog-3", "fog-5", "jpeg_compression-3", "referent-50")
COSTS = Costs(parameters=1_250_000, training_images_per_second=120.0)


def make(runs: Path) -> Group:
    """Make the runs of a plan in a folder: three seeds, one seed, and all that is not done."""
    both = ("baseline", "maskris")
    three = [make_spec(strategy, seed) for strategy in both for seed in (0, 1, 2)]
    one = [make_spec(strategy, 0, "etris") for strategy in both]
    weak = [make_spec(strategy, 0, WEAK) for strategy in both]
    reference = make_spec("baseline", 0, "lavt")
    for spec in (*three, *one, *weak, reference):
        run = make_run(runs, spec, better=0.2 * (spec.strategy.name == "maskris"))
        _log(run, 40, 0.05 * (spec.strategy.name == "maskris"))
    for spec in three:
        _corrupt(RunDir(runs / spec.key), 0.05 * (spec.strategy.name == "maskris"))
    measured = RunDir(runs / weak[0].key)
    text_blind = {"constant": 0.25, "mean": 0.2, "max": 0.3}
    write_scores(measured, "val", text_blind, measured.records("val"))
    running = RunDir(runs / make_spec("maskris", 0, "lavt").key)
    running.create(make_spec("maskris", 0, "lavt"))
    _log(running, 16, 0.0)
    running.write_status("running", host="elsewhere", step=16, steps=40, best=0.41)
    failed = RunDir(runs / make_spec("baseline", 0, "caris").key)
    failed.create(make_spec("baseline", 0, "caris"))
    failed.write_status("failed", reason=EVIL)
    missing = make_spec("maskris", 0, "caris")
    began = [running.spec(), failed.spec()]
    cells = [Cell.of(spec) for spec in (*three, *one, *weak, reference, *began, missing)]
    unresolved = Cell("cris", "tiny", "maskris", "refshapes", "unc", 3)
    group = Group(NAME, "preset", "runs in every state", cells=[*cells, unresolved])
    write_plan(runs, group)
    make_examples(runs, [spec.key for spec in (*three, *one)])
    _study(runs)
    return group


def _log(run: RunDir, steps: int, better: float) -> None:
    for step in range(4, steps + 1, 4):
        run.log(step, step // 10, {"train/loss": 1 / (1 + step) + better, "lr": 0.1})
    for epoch in range(steps // 10):
        run.log(10 * epoch + 10, epoch, {"val/oiou": 0.1 * epoch + better})
    (run.path / "log.txt").write_text(f"a line of the log\n{SENTENCE}\n")


def _corrupt(run: RunDir, better: float) -> None:
    clean = run.records("testA")
    for number, condition in enumerate(CONDITIONS):
        path = run.path / "robustness" / "testA" / f"{condition}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        lost = make_records(np.random.default_rng([number, run.spec().seed]), better - 0.1 * number)
        ours = clean.assign(intersection=lost["intersection"], union=lost["union"])
        ours.to_parquet(path, index=False)


def entry(
    number: int, rule: str, sentence: str, size: tuple[int, int], truth: object, guesses: dict
) -> dict:
    """Return an expression as `examples.json` has it, whose picture is `<number>.webp`.

    Args:
        number: its sent_id and image_id.
        rule: why it was chosen.
        sentence: its text.
        size: height and width of the picture.
        truth: the true mask, encoded.
        guesses: key of a run -> its mask and IoU.
    """
    return {
        "sent_id": number,
        "image_id": number,
        "dataset": "refshapes",
        "split_by": "unc",
        "split": "testA",
        "sentence": sentence,
        "rule": rule,
        "difference": 0.0,
        "picture": f"{number}.webp",
        "size": size,
        "truth": truth,
        "masks": guesses,
    }


def make_examples(runs: Path, keys: list[str]) -> None:
    folder = runs / "examples" / NAME
    folder.mkdir(parents=True)
    height, width = 60, 80
    rows, columns = np.indices((height, width))
    entries = []
    for number, (rule, sentence) in enumerate(
        [("largest gain", SENTENCE), ("both fail", "the small disc"), ("largest gain", "a ring")]
    ):
        color = np.stack([rows * 4, columns * 3, rows * 0 + 80 * number], axis=-1)
        Image.fromarray(color.astype(np.uint8)).save(folder / f"{number}.webp", lossless=True)

        def disc(x, radius):
            return (rows - 30) ** 2 + (columns - x) ** 2 < radius**2

        truth = disc(40, 15)
        guesses = {}
        for place, key in enumerate(keys):
            mask = disc(30 + 3 * place, 12) if number != 1 else np.zeros_like(truth)
            iou = (mask & truth).sum() / (mask | truth).sum()
            guesses[key] = {"rle": masks.encode(mask), "iou": float(iou)}
        entries.append(entry(number, rule, sentence, (height, width), masks.encode(truth), guesses))
    (folder / "examples.json").write_text(json.dumps(entries))


def _study(runs: Path) -> None:
    started = start()
    finish_all(runs, started, only=[row.label for row in started.study.rows][:2])
    study.save(runs, started)
    cells = [
        Cell.of(spec, row.label) for row in started.study.rows for spec in started.row_specs(row)
    ]
    write_plan(runs, Group(started.name, "study", started.study.description, cells=cells))


def page_of(runs: Path, group: Group, **more) -> report.Page:
    """Return the page of a plan, with the claims of the papers, of which some have an answer."""
    collected = collect(group, runs)
    its = answered(read_claims(None), runs, collected.runs)
    said = [
        dataclasses.replace(
            line, status=status, says=f"{status}, on val", ours=0.7, low=0.6, high=0.8
        )
        for line, status in zip(its.lines, STATUSES * 2, strict=False)
    ]
    its = dataclasses.replace(its, lines=(*said, *its.lines[len(said) :]))
    costs = {run.key: COSTS for run in collected.runs}
    family = planned_comparisons(collected.group, collected.specs)
    more = {"conditions": finished(collected, runs, family), **more}
    more = {"costs": blocks(table(settings(collected), costs)), "measured": costs, **more}
    tables = made(collected, comparison(collected), folder=runs)
    return report.page(collected, tables, runs, its, **more)


def normal(html: str, runs: Path) -> str:
    """Return a page without what may change while it says the same.

    That is its style and script with their digest, the bytes of pictures, the paths of drawings,
    where it was made, keys, and the claims, which are those of the papers.
    """
    html = html.replace(str(runs), "RUNS")
    html = re.sub(r"<(style|script)>.*?</\1>", r"<\1></\1>", html, flags=re.DOTALL)
    html = re.sub(
        r"<section id=\"(claims|definitions)\".*?</section>", r"<section \1>", html, flags=re.DOTALL
    )
    html = re.sub(r"<pre [^>]*spec.yaml.*?</pre>", "<pre></pre>", html, flags=re.DOTALL)
    html = re.sub(r"sha256-[\w+/=]+", "sha256-DIGEST", html)
    html = re.sub(r"(data:image/\w+;base64,)[^\"]*", r"\1DATA", html)
    html = re.sub(r" d=\"[^\"]*\"", ' d="PATH"', html)
    html = re.sub(r"(-s\d+-)[0-9a-f]{10}\b", r"\1KEY", html)
    return re.sub(r"\n\s*\n+", "\n", html)


def main() -> None:
    """Write the page that is kept."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        page = page_of(runs, make(runs))
        GOLDEN.write_text(normal(report.as_html(page), runs))


if __name__ == "__main__":
    main()
