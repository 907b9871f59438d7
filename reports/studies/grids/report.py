"""The report of a grid as Markdown, CSV, LaTeX and figures and in the terminal, from one table."""

from pathlib import Path

from rich.console import Console

from benchmark.evaluation import metrics
from reports import notes
from reports.layout import files, latex, markdown, terminal
from reports.layout.block import Block
from reports.studies.grids import differences, hours, losses, published, rows
from reports.studies.grids.results import Results
from studies.grid import Row

WIDTH = 110  # columns of the terminal that a table may take


def write(found: Results, out: Path) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.tex` and the figures into `out/<name>`; return the paths.

    The figures, each as PNG and PDF, are `differences` (where a row can be compared) and, for
    grids with curves, `losses`. The CSV holds the table of the results: fractions with six
    decimals, and lists with a space between their entries.

    Raises:
        UserError: `out` cannot be written.
    """
    drawn = drawings(found)
    contents = {
        "table.md": as_markdown(found, [name for name in drawn if name.endswith(".png")]),
        "table.csv": files.csv(found.table),
        "table.tex": as_latex(found),
    }
    return files.write(out / found.started.name, contents | drawn)


def drawings(found: Results) -> dict[str, bytes]:
    """Return file name -> content of the grid's figures."""
    contents = differences.figure(found)
    if found.grid.curves and (panels := losses.curves(found)):
        contents |= losses.draw(panels, "training step", "training loss")
    return contents


def as_markdown(found: Results, pictures: list[str]) -> str:
    """Return the whole report as Markdown that also reads well as plain text.

    Args:
        pictures: files beside it.
    """
    main, others = blocks(found)
    return markdown.document(
        [
            f"# {found.started.name}",
            title(found),
            markdown.bullets(definitions(found)),
            f"## {found.grid.place}",
            *map(markdown.table, main),
            *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
            *(["## Other splits"] if others else []),
            *map(markdown.table, others),
            markdown.bullets(footnotes(found)),
        ]
    )


def as_latex(found: Results) -> str:
    """Return one tabular per block. What must be known stands in comments."""
    main, others = blocks(found)
    known = [found.started.name, title(found), *definitions(found), *footnotes(found)]
    tabulars = [latex.tabular([block]) for block in [*main, *others]]
    return latex.comments(known) + "\n".join(tabulars)


def render(console: Console, found: Results) -> None:
    """Print the same tables and footnotes to the terminal, at most `WIDTH` columns wide."""
    main, others = blocks(found)
    known = [title(found)] + ([found.grid.note] if found.grid.note else [])
    if found.paper.numbers:
        known.append(published.note(found.started, found.paper))
    width = min(console.width, WIDTH)
    terminal.print_blocks(console, [*main, *others], [*known, *footnotes(found)], width)


def blocks(found: Results) -> tuple[list[Block], list[Block]]:
    """Return the blocks about the split that chose the epoch, and about hours, and the others."""
    chosen, *others = found.splits
    main = [rows.block(found, chosen, metric) for metric in found.shown]
    main += [hours.block(found)] if found.grid.hours else []
    return main, [rows.block(found, split, found.judged) for split in others]


# --- what a reader must know ----------------------------------------------------------------------


def title(found: Results) -> str:
    """Return what was compared, and which table of the paper it is about."""
    base = found.base
    what = f"{base.method} {base.variant} on {base.dataset} (split by {base.split_by})"
    place = f"{found.grid.place} of {published.PAPER}"
    return f"{found.grid.description}: {place} with {what}."


def definitions(found: Results) -> list[str]:
    """Return how the numbers are to be read, only what applies to this grid."""
    grid = found.grid
    chosen, *others = found.splits
    judged = metrics.get(found.judged).heading
    lines = [grid.note] if grid.note else []
    lines += [notes.ENTERING, notes.metrics_note(), notes.INTERVAL]
    lines.append(
        f"A difference is a row minus the row '{grid.reference}', on the seeds that both have. a ± b"
        " is the mean and the sample standard deviation (ddof = 1) over seeds. A number without ±"
        " is from one seed."
    )
    lines.append(f"{chosen} chose the epoch of every run.")
    if others:
        were = "was" if len(others) == 1 else "were"
        lines[-1] += f" {' and '.join(others)} chose nothing and {were} measured once."
    if len(found.started.bases) > 1:
        lines.append(
            f"{judged}'s verdict is confirmed (better than the reference) or contradicted (worse)"
            " only by at least three seed pairs of one sign and an interval clear of zero."
            " Otherwise it is undecided."
        )
    if found.paper.numbers:
        lines.append(published.note(found.started, found.paper))
    lines += [f"{row.label}: {'; '.join(_settings(found, row))}." for row in grid.rows]
    lines += notes.about(found.specs)
    lines += [losses.NOTE] if grid.curves else []
    lines.append(
        "table.csv holds fractions, every metric and split, seed, run key, commit and epoch."
        f" {notes.P_VALUES} {judged} differences of this grid."
    )
    return [line if line.endswith(".") else f"{line}." for line in lines]


def _settings(found: Results, row: Row) -> list[str]:
    """Return what a row does."""
    specs = {label: next(iter(specs.values())) for label, (specs, _) in found.rows.items()}
    strategy = specs[row.label].strategy
    parts = strategy.describe() or [f"{strategy.name}, which has no settings"]
    if len({spec.recipe.epochs for spec in specs.values()}) > 1:
        parts.append(f"{specs[row.label].recipe.epochs} epochs")
    return parts + [f"{name} {value}" for name, value in row.recipe.items()]


def footnotes(found: Results) -> list[str]:
    """Return what stands under the tables: what is missing, and with what code the runs were made."""
    lines = []
    if not found.rows[found.grid.reference][1]:
        lines.append(
            f"The reference row '{found.grid.reference}' is not finished, so there is no difference"
            " yet."
        )
    if found.grid.curves and (without := losses.silent(found, losses.curves(found))):
        lines.append(f"No finished run of these rows logged a loss curve: {', '.join(without)}.")
    return lines + notes.footnotes(found.collected, found.table, "reference_runs")
