"""Writes the report of a grid as Markdown, CSV, LaTeX and figures and prints it, from one table."""

from pathlib import Path

from rich.console import Console

from reports import notes
from reports.layout import files, latex, markdown, terminal
from reports.layout.block import Block
from reports.studies.grids import differences, hours, losses, published, rows
from reports.studies.grids.results import Results
from studies.grid import Row

WIDTH = 110  # columns of the terminal that a table may take


def write(results: Results, out: Path) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.tex` and the figures, and return their paths.

    The figures, each as PNG and PDF, are `differences` (if a row can be compared) and, for grids
    with curves, `losses`. The CSV holds the table of the results as fractions with six decimals,
    and lists with a space between their entries.

    Args:
        results: the numbers of the grid.
        out: holds the folder of the report, which is called by the name of the study.

    Raises:
        UserError: `out` cannot be written.
    """
    drawn = drawings(results)
    contents = {
        "table.md": as_markdown(results, [name for name in drawn if name.endswith(".png")]),
        "table.csv": files.csv(results.table),
        "table.tex": as_latex(results),
    }
    return files.write(out / results.started.name, contents | drawn)


def drawings(results: Results) -> dict[str, bytes]:
    """Return file name -> content of the grid's figures."""
    contents = differences.figure(results)
    if results.grid.curves and (panels := losses.curves(results)):
        contents |= losses.draw(panels, "training step", "training loss")
    return contents


def as_markdown(results: Results, pictures: list[str]) -> str:
    """Return the whole report as Markdown that also reads well as plain text.

    Args:
        results: the numbers of the grid.
        pictures: names of PNG files beside it.
    """
    main, others = blocks(results)
    return markdown.document(
        [
            f"# {results.started.name}",
            title(results),
            markdown.bullets(definitions(results)),
            f"## {results.grid.place}",
            *map(markdown.table, main),
            *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
            *(["## Other splits"] if others else []),
            *map(markdown.table, others),
            markdown.bullets(footnotes(results)),
        ]
    )


def as_latex(results: Results) -> str:
    """Return one tabular per block. What must be known stands in comments."""
    main, others = blocks(results)
    known = [results.started.name, title(results), *definitions(results), *footnotes(results)]
    tabulars = [latex.tabular([block]) for block in [*main, *others]]
    return latex.comments(known) + "\n".join(tabulars)


def render(console: Console, results: Results) -> None:
    """Print the same tables and footnotes to the terminal, at most `WIDTH` columns wide."""
    main, others = blocks(results)
    known = [title(results)] + ([results.grid.note] if results.grid.note else [])
    if results.paper.numbers:
        known.append(published.note(results.started, results.paper))
        known += published.cautions(results.grid)
    width = min(console.width, WIDTH)
    terminal.print_blocks(console, [*main, *others], [*known, *footnotes(results)], width)


def blocks(results: Results) -> tuple[list[Block], list[Block]]:
    """Return the blocks about the split that chose the epoch and about hours, then the others."""
    chosen, *others = results.splits
    main = [rows.block(results, chosen, metric) for metric in results.shown]
    main += [hours.block(results)] if results.grid.hours else []
    return main, [rows.block(results, split, results.judged) for split in others]


# --- what a reader must know ----------------------------------------------------------------------


def title(results: Results) -> str:
    """Return what was compared, and which table of the paper it is about."""
    base = results.base
    what = f"{base.method} {base.variant} on {base.dataset} (split by {base.split_by})"
    place = f"{results.grid.place} of {results.grid.paper}"
    return f"{results.grid.description}: {place} with {what}."


def definitions(results: Results) -> list[str]:
    """Return how the numbers are to be read, as far as it applies to this grid."""
    grid = results.grid
    chosen, *others = results.splits
    lines = [grid.note] if grid.note else []
    about = notes.metrics_note(results.collected.runs)
    lines += [notes.ENTERING, about, notes.INTERVAL, notes.DIFFERENCE]
    lines.append(
        f"A difference is a row minus the row '{grid.reference}', on the seeds that both have."
        " a ± b is the mean and the sample standard deviation (ddof = 1) over seeds. A number"
        " without ± is from one seed."
    )
    lines.append(f"{chosen} chose the epoch of every run.")
    if others:
        were = "was" if len(others) == 1 else "were"
        lines[-1] += f" {' and '.join(others)} chose nothing and {were} measured once."
    if len(results.started.bases) > 1:
        lines.append(notes.verdicts(results.collected.group, results.comparisons))
    if results.paper.numbers:
        lines.append(published.note(results.started, results.paper))
        lines += published.cautions(grid)
    lines += [f"{row.label}: {'; '.join(_settings(results, row))}." for row in grid.rows]
    lines += notes.about(results.specs)
    lines += [losses.NOTE] if grid.curves else []
    lines.append(
        "table.csv holds fractions, every metric and split, seed, run key, commit and epoch. Its p"
        " is the p-value of one comparison, and p_holm that after Holm."
    )
    return [line if line.endswith(".") else f"{line}." for line in lines]


def _settings(results: Results, row: Row) -> list[str]:
    """Return what a row does."""
    specs = {label: next(iter(specs.values())) for label, (specs, _) in results.rows.items()}
    strategy = specs[row.label].strategy
    parts = strategy.describe() or [f"{strategy.name}, which has no settings"]
    if len({spec.recipe.epochs for spec in specs.values()}) > 1:
        parts.append(f"{specs[row.label].recipe.epochs} epochs")
    return parts + [f"{name} {value}" for name, value in row.recipe.items()]


def footnotes(results: Results) -> list[str]:
    """Return what stands under the tables, such as what is missing and what code made the runs."""
    lines = []
    if not results.rows[results.grid.reference][1]:
        lines.append(
            f"The reference row '{results.grid.reference}' is not finished, so there is no"
            " difference yet."
        )
    if results.grid.curves and (without := losses.silent(results, losses.curves(results))):
        lines.append(f"No finished run of these rows logged a loss curve: {', '.join(without)}.")
    return lines + notes.footnotes(results.collected, results.table, "reference_runs")
