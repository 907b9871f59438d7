"""One grid as Markdown, CSV, LaTeX and in the terminal."""

import io

from rich.console import Console

from reports.layout import files
from reports.studies.grids import report
from reports.studies.grids.results import results
from tests.reports.grids import finish_all, line_of, start, text_of


def test_the_same_runs_give_the_same_bytes(tmp_path):
    started = finish_all(tmp_path / "runs", start("training-loss", seeds=(0, 1)))
    found = [results(started, tmp_path / "runs") for _ in range(2)]
    first, again = (report.write(found[n], tmp_path / name) for n, name in enumerate("ab"))
    kinds = [
        f"{name}.{kind}" for name in ("differences", "losses") for kind in ("png", "pdf", "svg")
    ]
    assert [path.name for path in first] == ["table.md", "table.csv", "table.tex", *kinds]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[1].read_text() == files.csv(found[0].table)
    assert all(
        b"CreationDate" not in path.read_bytes() and b"Matplotlib" not in path.read_bytes()
        for path in first[3:]
    )
    assert "![losses](losses.png)" in first[0].read_text()


def test_the_terminal_shows_every_row_and_cuts_no_number(tmp_path):
    started = start("masking-ratios", seeds=(0, 1, 2))
    finish_all(tmp_path, started, but=("TM 0.15 (.8/.2/0)",))
    found = results(started, tmp_path)
    line = line_of(found.table, row="TM 0.50 (.5/.5/0)", split="val", metric="oiou")
    for width in (80, 110, 200):
        shown = io.StringIO()
        report.render(Console(file=shown, width=width), found)
        text = shown.getvalue()
        widest = max(len(line.rstrip()) for line in text.splitlines())
        assert widest <= min(width, report.WIDTH)
        assert "…" not in text and "not finished" in text and "orientation" in text
        for value in ("75.76", "76.07", "-2.35"):  # published
            assert value in text
        assert f"{100 * line['mean']:.2f}" in text and f"{100 * line['difference']:+.2f}" in text


def test_latex_has_a_tabular_per_block_with_as_many_cells_as_columns(tmp_path):
    started = finish_all(tmp_path, start("training-length"))
    text = report.as_latex(results(started, tmp_path))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    for tabular in text.split(r"\begin{tabular}{")[1:]:
        columns = len(tabular.split("}")[0])
        lines = [
            line
            for line in tabular.splitlines()
            if line.endswith(r"\\") and "multicolumn" not in line
        ]
        assert len(lines) == 5 and all(line.count(" & ") == columns - 1 for line in lines)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert "×" not in body and "–" not in body and r"$\times$" in body


def test_the_settings_of_every_row_stand_in_the_report(tmp_path):
    text = text_of(finish_all(tmp_path, start("masking-ratios")), tmp_path)
    shares = "text mask ratio 0.5; of masked words 0.5 [MASK], 0.5 random, 0 kept"
    assert f"- TM 0.50 (.5/.5/0): {shares}; distillation with w = 0.5" in text
    text = text_of(finish_all(tmp_path, start("augmentation")), tmp_path)
    assert "- all three: augmentations of image and mask: crop, flip, jitter." in text
