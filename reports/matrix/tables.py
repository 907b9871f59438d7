"""Comparison tables of finished runs: Markdown, CSV, LaTeX and the terminal, all from one comparison.

Nothing here depends on when or where it is run, so the same runs give the same bytes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

import methods
from benchmark.evaluation import bootstrap
from benchmark.runs.spec import RunSpec
from benchmark.strategies.strategy import Strategy
from reports.compare import (
    BASELINE,
    CHECKPOINTS,
    COMPARED,
    Collected,
    collect,
    comparison,
    dirty,
    points,
    strategy_labels,
)
from reports.layout import (
    HEADINGS,
    NOTHING,
    Block,
    _once,
    bullets,
    csv,
    difference,
    latex_comments,
    latex_tabular,
    markdown_block,
    percent,
    plus_minus,
    print_blocks,
    write_files,
)

__all__ = ["collect", "comparison", "render", "write_report"]

PER_RUN = ("oiou", "miou", "p_50", "p_70", "p_90", "grounding_gap")
WIDTH = 100  # columns of the terminal that a table may take

WEAK_NOTE = "Training saw no mask, but the epoch of these runs was selected on masks of val."
CHECKPOINTS_NOTE = (
    f'"{CHECKPOINTS}": one seed each, so the difference is one between two trained networks and not between two'
    " strategies."
)


# --- lay out ----------------------------------------------------------------------------------------------------------


def compared_blocks(table: pd.DataFrame, strategies: Sequence[str]) -> list[Block]:
    """Return one block per data set and supervision: a line per split, method, metric and other strategy."""
    others = [label for label in strategies if label != BASELINE]
    # With several strategies each line names its own; a single one heads its column.
    strategy = ("strategy", "with it") if len(others) > 1 else (others[0] if others else "other strategy",)
    header = ("split", "method", "metric", BASELINE, *strategy, "difference [95 %]", "compared", "verdict")
    blocks = []
    for title, note, part in _parts(table):
        lines = []
        for (split, method), rows in part.groupby(["split", "label"], sort=False):
            for metric in COMPARED:
                lines += [(split, method, HEADINGS[metric], *cells) for cells in _cells(rows[rows["metric"] == metric])]
        if len(others) <= 1:
            lines = [(*line[:4], *line[5:]) for line in lines]
        blocks.append(Block(title, note, header, _once(lines)))
    return blocks


def _cells(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return what follows split, method and metric: baseline, strategy, its value, difference, what is compared, verdict."""
    cells = []
    if rows["baseline_mean"].isna().all():
        for row in rows[rows["strategy"] == BASELINE].itertuples():
            cells.append((plus_minus(row.mean, row.deviation), *[NOTHING] * 5))
    for row in rows[rows["strategy"] != BASELINE].itertuples():
        before = plus_minus(row.baseline_mean, row.baseline_deviation)
        value = plus_minus(row.mean, row.deviation)
        change = difference(row.difference, row.difference_low, row.difference_high)
        cells.append((before, row.strategy, value, change, row.compared or NOTHING, row.verdict or NOTHING))
    return cells


def run_blocks(table: pd.DataFrame) -> list[Block]:
    """Return one block per data set and supervision: a line per split and finished run, with its own numbers."""
    header = ("split", "method", "strategy", "seed", *(HEADINGS[name] for name in PER_RUN), "epoch")
    return [
        Block(
            title,
            "",
            header,
            _once(
                [
                    (row.split, row.label, row.strategy, str(row.seed))
                    + (*(percent(getattr(row, name)) for name in PER_RUN), str(row.epoch))
                    for row in part.itertuples()
                ]
            ),
        )
        for title, _, part in _parts(table)
    ]


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield title, note and rows per supervision and data set, with a `label` per method, sorted by split."""
    words = table[["method", "stage", "variant", "settings"]]
    label = words.agg(lambda row: " ".join(filter(None, row)), axis=1)
    for (supervision, dataset, by), part in table.assign(label=label).groupby(["supervision", "dataset", "split_by"]):
        order = {split: number for number, split in enumerate(dict.fromkeys(part["split"]))}
        weak = supervision == "weak"
        title = f"{dataset} (split by {by})" + (", weakly supervised" if weak else "")
        part = part.sort_values("split", key=lambda names, order=order: names.map(order), kind="stable")
        yield title, WEAK_NOTE if weak else "", part


# --- what a reader must know ------------------------------------------------------------------------------------------

ENTERING = "Only finished runs of exactly the listed configurations enter; averages are over seeds alone."
METRICS_NOTE = (
    "All numbers are percent. IoU of an expression is intersection / union at the original image size, 0 where the union"
    " is empty. mIoU: mean IoU over expressions. oIoU: sum of intersections / sum of unions. P@X: share of expressions"
    " with IoU >= X. gap (grounding gap): mIoU minus the mIoU of what the network says to a sentence about another"
    " object of the image; 0 for a network that ignores the text."
)
INTERVAL_NOTE = (
    f"[low, high]: 95 % percentile bootstrap, B = {bootstrap.RESAMPLES}, images resampled with all their expressions;"
    " differences are paired on the same expressions and seeds. It says how much the choice of test images matters, not"
    " how much the seed does."
)


def definitions(collected: Collected) -> list[str]:
    """Return how the numbers are to be read, one sentence or two each, only what applies to these runs."""
    lines = [
        ENTERING,
        METRICS_NOTE,
        INTERVAL_NOTE,
        "a ± b: mean and sample standard deviation (ddof = 1) over the seeds that both strategies have; a number without"
        " ± is from one seed.",
        "verdict: confirmed (an improvement) or contradicted only by at least three seed pairs of one sign and an interval"
        " clear of zero, otherwise undecided.",
    ]
    strategies = {
        label: Strategy.model_validate_json(text)
        for text, label in strategy_labels(collected).items()
        if label != BASELINE
    }
    lines += [f"{label}: {'; '.join(settings_of(strategy))}." for label, strategy in strategies.items()]
    lines += about(collected.specs)
    lines.append(
        "table.csv holds fractions, every metric, seed, run key, commit and epoch; its p_images are bootstrap p-values under"
        " resampling of the test images (they are about these trained networks, not about other seeds), p_images_holm"
        " adjusts them for all differences shown here."
    )
    return lines


def about(specs: Sequence[RunSpec]) -> list[str]:
    """Return what applies to these runs alone: the weight's convention, CLIP's missing [MASK], departures, the data."""
    lines, strategies = [], [spec.strategy for spec in specs]
    if any(strategy.distillation for strategy in strategies):
        lines.append(
            "w (`distill_weight`) is the weight of L_dist in L = w L_dist + (1 - w) L_ce (Eq. 5 of MaskRIS); the paper's"
            " Table D calls 1 - w lambda."
        )
    clip = sorted({spec.method for spec in specs if methods.get(spec.method).text[0] == "clip"})
    if clip and any(strategy.text_mask for strategy in strategies):
        lines.append(
            f"CLIP's word pieces ({', '.join(clip)}) have no [MASK]: id 0 stands in. Neither the paper nor any code decides"
            " this."
        )
    departures: dict[tuple[str, ...], set[str]] = {}
    for spec in specs:
        departures.setdefault(spec.network.departures, set()).add(f"{spec.method} {spec.variant}")
    for texts, names in sorted(departures.items(), key=lambda item: sorted(item[1])):
        if texts:
            lines.append(f"Departures from the published training ({', '.join(sorted(names))}): {'; '.join(texts)}.")
    for name, digest in sorted({(f"{spec.dataset} ({spec.split_by})", spec.data_sha256) for spec in specs}):
        lines.append(f"data of {name}: sha256 {digest[:12]}.")
    return lines


def settings_of(s: Strategy) -> list[str]:
    """Return what a strategy does, in its own settings."""
    parts = []
    if s.image_mask:
        parts.append(
            f"image mask ratio {s.image_mask_ratio:g}, {s.image_mask_sampling} sampling, patches of {s.patch_size} px"
        )
    if s.text_mask:
        parts.append(f"text mask ratio {s.text_mask_ratio:g}")
        if s.text_mask_shares != Strategy.model_fields["text_mask_shares"].default:
            shares = zip(s.text_mask_shares, ("[MASK]", "random", "kept"), strict=True)
            parts.append(f"of masked words {', '.join(f'{share:.3g} {what}' for share, what in shares)}")
    if s.distillation:
        updates = "updates" if s.batchnorm_in_masked_pass else "does not update"
        parts += [
            f"distillation with w = {s.distill_weight:g}",
            f"the masked pass {updates} BatchNorm's running statistics",
        ]
    elif parts:
        parts.append(f"applied with probability {s.augment_probability:g}, without distillation")
    if s.augmentations:
        parts.append(f"augmentations of image and mask: {', '.join(s.augmentations)}")
    return parts


def footnotes(collected: Collected, table: pd.DataFrame) -> list[str]:
    """Return what stands under the table: what it leaves out, and with what code its runs were made."""
    notes = []
    if (table["compared"] == CHECKPOINTS).any():
        notes.append(CHECKPOINTS_NOTE)
    if left_out := sorted({key for keys in table["left_out"] for key in keys}):
        notes.append(
            f"Not compared, since the other strategy has no finished run with this seed: {', '.join(left_out)}."
        )
    if collected.unfinished:
        notes.append(
            f"Not finished and not in this table ({len(collected.unfinished)} of {len(collected.specs)} runs):"
        )
        notes += [f"  {key}: {state}{f' ({reason})' if reason else ''}" for key, state, reason in collected.unfinished]
    if collected.unused:
        some = len(collected.unused)
        runs = "run in the folder is" if some == 1 else "runs in the folder are"
        notes.append(f"{some} finished {runs} not part of this table: {', '.join(collected.unused)}.")
    states = sorted({(run.commit, dirty(run)) for run in collected.runs})
    code = [
        commit + {"yes": " with uncommitted changes", "no": "", "unknown": " (changes unknown)"}[its]
        for commit, its in states
    ]
    notes.append(f"Code of the runs: git commit {', '.join(code)}.")
    return notes


# --- formats ----------------------------------------------------------------------------------------------------------


def write_report(name: str, description: str, specs: Sequence[RunSpec], runs: Path, out: Path) -> list[Path]:
    """Write `out/<name>/table.md`, `table.csv` and `table.tex` of the finished runs among `specs`; return the paths.

    The CSV holds what `comparison` returns: fractions with six decimals, and lists with a space between their entries.

    Raises:
        UserError: no run is finished, one is damaged, or `out` cannot be written.
    """
    collected = collect(specs, runs)
    table = comparison(collected)
    contents = {
        "table.md": markdown(name, description, collected, table),
        "table.csv": csv(table),
        "table.tex": latex(name, collected, table),
    }
    return write_files(out / name, contents)


def markdown(name: str, description: str, collected: Collected, table: pd.DataFrame) -> str:
    """Return the whole table as Markdown that also reads well as plain text."""
    blocks = [markdown_block(block) for block in compared_blocks(table, [*strategy_labels(collected).values()])]
    every = [markdown_block(block) for block in run_blocks(points(collected))]
    parts = [
        f"# {name}\n\n{description}",
        bullets(definitions(collected)),
        "## Strategies compared",
        *blocks,
        bullets(footnotes(collected, table)),
        "## Every finished run",
        *every,
    ]
    return "\n\n".join(parts) + "\n"


def latex(name: str, collected: Collected, table: pd.DataFrame) -> str:
    """Return the compared strategies as one tabular for the package booktabs; what must be known stands in comments."""
    blocks = compared_blocks(table, [*strategy_labels(collected).values()])
    return latex_comments([name, *definitions(collected), *footnotes(collected, table)]) + latex_tabular(blocks)


def render(console: Console, specs: Sequence[RunSpec], runs: Path) -> None:
    """Print the same tables and footnotes to the terminal, at most `WIDTH` columns wide.

    Raises:
        UserError: as `collect`.
    """
    collected = collect(specs, runs)
    table = comparison(collected)
    width = min(console.width, WIDTH)
    blocks = compared_blocks(table, [*strategy_labels(collected).values()])
    print_blocks(console, [*blocks, *run_blocks(points(collected))], footnotes(collected, table), width)
