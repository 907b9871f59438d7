"""The robustness report: Markdown, CSV, figures and the terminal, all from one table.

Nothing here depends on when or where it is run, so the same records give the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.robustness import corruptions
from benchmark.robustness.occlusion import TARGETS
from reports import layout
from reports.compare import CHECKPOINTS
from reports.layout import HEADINGS, NOTHING, Block, difference, percent, plus_minus
from reports.matrix.tables import CHECKPOINTS_NOTE
from reports.robustness import figures
from reports.robustness.summary import Asked, is_whole

FAMILIES = tuple(corruptions.families())
ERRORS = {"corruption_error": "CE", "relative_corruption_error": "rel. CE"}


def write(
    name: str, description: str, every: Sequence[Asked], table: pd.DataFrame, reference: str | None, out: Path
) -> list[Path]:
    """Write `robustness.md`, `robustness.csv` and the figures into `out/<name>/robustness`; return the paths.

    Raises:
        UserError: `out` cannot be written.
    """
    contents: dict[str, str | bytes] = {
        "robustness.md": markdown(name, description, every, table, reference),
        "robustness.csv": layout.csv(table),
    }
    return layout.write_files(out / name / "robustness", contents | figures.all_figures(table))


def markdown(name: str, description: str, every: Sequence[Asked], table: pd.DataFrame, reference: str | None) -> str:
    """Return the report as Markdown that also reads well as plain text."""
    parts = [
        f"# Robustness: {name}\n\n{description}",
        layout.bullets(definitions(every, table, reference)),
        "## Ranked by mPC",
        *map(layout.markdown_block, summary_blocks(every, table)),
        "## Strategies compared",
        *map(layout.markdown_block, compared_blocks(every, table)),
        "## Per corruption, mean over severities",
        *map(layout.markdown_block, corruption_blocks(table)),
        "## Per corruption and severity",
        *map(layout.markdown_block, severity_blocks(table)),
        "## Occlusion",
        *map(layout.markdown_block, detail_blocks(table, "occlusion", ("covered", "%"))),
        "## Words covered, one at a time",
        *map(layout.markdown_block, detail_blocks(table, "word", ("words", "covered"))),
        "## Language subsets",
        *map(layout.markdown_block, detail_blocks(table, "language", ("subset", "expressions"))),
    ]
    filled = [part for n, part in enumerate(parts) if not (part.startswith("## ") and _is_last(parts, n))]
    return "\n\n".join(filled) + "\n"


def _is_last(parts: Sequence[str], number: int) -> bool:
    """Return whether nothing stands under a heading."""
    return number + 1 == len(parts) or parts[number + 1].startswith("## ")


# --- blocks -----------------------------------------------------------------------------------------------------------


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the title and the rows, with a `label` per method, of every supervision, data set, split and metric."""
    places = ["supervision", "dataset", "split", "metric"]
    for (supervision, dataset, split, metric), rows in table.groupby(places, sort=False):
        title = f"{dataset} {split}, {HEADINGS[metric]}" + (", weakly supervised" if supervision == "weak" else "")
        yield title, metric, rows.assign(label=figures.labels(rows))


def mpc_name(every: Sequence[Asked]) -> str:
    """Return what the mean over the asked common corruptions may be called."""
    return "mPC" if all(is_whole(asked) for asked in every) else "mPC*"


def summary_blocks(every: Sequence[Asked], table: pd.DataFrame) -> list[Block]:
    """Return one block per data set, split and metric: clean, mPC, rPC and families, best mPC first."""
    blocks = []
    mpc = mpc_name(every)
    for title, _, rows in _parts(table):
        errors = [name for name in ERRORS if (rows["name"] == name).any()]
        seventeen = (rows["kind"] == "set").any()
        header = ("method", "strategy", "clean", f"{mpc} [95 %]", mpc.replace("mPC", "rPC"), *FAMILIES)
        header += (("17",) if seventeen else ()) + tuple(ERRORS[name] for name in errors)
        lines = []
        for (label, strategy), its in rows.groupby(["label", "strategy"], sort=False):
            found = its.set_index(["kind", "name"])
            if ("summary", "mpc") not in found.index:
                continue

            def value(kind: str, name: str, found: pd.DataFrame = found) -> str:
                return percent(found["mean"].get((kind, name), np.nan))

            its_mpc = found.loc[("summary", "mpc")]
            cells = [plus_minus(found["mean"]["clean", "clean"], found["deviation"]["clean", "clean"])]
            cells += [_with_interval(its_mpc), value("summary", "rpc")]
            cells += [value("family", family) for family in FAMILIES]
            cells += [value("set", "maskris")] if seventeen else []
            cells += [value("summary", name) for name in errors]
            lines.append((float(its_mpc["mean"]), (label, strategy, *cells)))
        lines.sort(key=lambda line: -line[0])
        if lines:
            blocks.append(Block(title, "", header, [line for _, line in lines], names=2))
    return blocks


def _with_interval(row: pd.Series) -> str:
    value = plus_minus(row["mean"], row["deviation"])
    return value if np.isnan(row["low"]) else f"{value} [{percent(row['low'])}, {percent(row['high'])}]"


def compared_blocks(every: Sequence[Asked], table: pd.DataFrame) -> list[Block]:
    """Return one block per data set, split and metric: what each strategy changes of clean, mPC and rPC."""
    names = {"clean": "clean", "mpc": mpc_name(every), "rpc": mpc_name(every).replace("mPC", "rPC")}
    header = ("method", "strategy", "of", "baseline", "with it", "difference [95 %]", "compared", "verdict")
    blocks = []
    for title, _, rows in _parts(table):
        lines = []
        for (label, strategy), its in rows[rows["difference"].notna()].groupby(["label", "strategy"], sort=False):
            for name, shown in names.items():
                for row in its[its["name"] == name].itertuples():
                    values = (percent(row.mean - row.difference), percent(row.mean))
                    apart = difference(row.difference, row.difference_low, row.difference_high)
                    lines.append((label, strategy, shown, *values, apart, row.compared, row.verdict or NOTHING))
        if lines:
            blocks.append(Block(title, "", header, lines))
    return blocks


def corruption_blocks(table: pd.DataFrame) -> list[Block]:
    """Return one block per data set, split and metric: the mean of every corruption over its severities (Fig. 6a)."""
    blocks = []
    for title, _, rows in _parts(table):
        chosen = rows[rows["kind"].isin(["clean", "corruption mean"])]
        blocks += _detail(title, chosen, ("corruption", ""), lambda row: (row.name_.replace("_", " "), ""))
    return blocks


def severity_blocks(table: pd.DataFrame) -> list[Block]:
    """Return one block per data set, split and metric: every corruption at every severity."""
    blocks = []
    for title, _, rows in _parts(table):
        columns = rows[["label", "strategy"]].drop_duplicates()
        chosen = rows[rows["kind"] == "corruption"]
        cells = chosen.set_index(["label", "strategy", "name", "level"])["mean"]
        header = ("corruption", "severity", *(f"{label} {strategy}" for label, strategy in columns.to_numpy()))
        lines = [
            (
                name.replace("_", " "),
                str(int(level)),
                *(percent(cells.get((label, its, name, level), np.nan)) for label, its in columns.to_numpy()),
            )
            for name, level in chosen[["name", "level"]].drop_duplicates().to_numpy()
        ]
        if lines:
            blocks.append(Block(title, "", header, lines, names=1))
    return blocks


def detail_blocks(table: pd.DataFrame, kind: str, heads: tuple[str, str]) -> list[Block]:
    """Return one block per data set, split and metric of a kind: value and change per method and strategy."""
    blocks = []
    for title, _, rows in _parts(table):
        chosen = rows[rows["kind"] == kind]
        if kind == "occlusion":
            order = {name: number for number, name in enumerate(TARGETS)}
            chosen = chosen.sort_values("name", key=lambda names: names.map(order), kind="stable")
            blocks += _detail(title, chosen, heads, lambda row: (row.name_, str(int(row.level))))
        else:
            blocks += _detail(title, chosen, heads, lambda row: (row.name_, str(row.expressions)))
    return blocks


def _detail(
    title: str, rows: pd.DataFrame, heads: tuple[str, str], first: Callable[[Any], tuple[str, str]]
) -> list[Block]:
    header = (*heads, "method", "strategy", "value [95 %]", "change [95 %]", "difference to the baseline [95 %]")
    if not heads[1]:
        header = (heads[0], *header[2:])
    lines = []
    for row in rows.rename(columns={"name": "name_"}).itertuples():
        change = difference(row.change, row.change_low, row.change_high)
        apart = difference(row.difference, row.difference_low, row.difference_high)
        value = f"{percent(row.mean)} [{percent(row.low)}, {percent(row.high)}]"
        names = first(row) if heads[1] else first(row)[:1]
        lines.append((*names, row.label, row.strategy, value, change, apart))
    return [Block(title, "", header, lines, names=len(header) - 3)] if lines else []


# --- what a reader must know ------------------------------------------------------------------------------------------


def definitions(every: Sequence[Asked], table: pd.DataFrame, reference: str | None) -> list[str]:
    """Return how the numbers are to be read, only what applies to these."""
    lines = [
        "All numbers are percent. Corruptions are those of `imagecorruptions`, applied to the image at its original size, the"
        " same corrupted image for every method and expression.",
        *_libraries(every),
        "mPC: mean over the 15 common corruptions at severities 1 to 5; rPC = mPC / clean. Ranked by mPC: what falls least is"
        " often what had least to lose. Families are means over their common corruptions.",
    ]
    if (table["kind"] == "corruption").any() and mpc_name(every) != "mPC":
        asked = sorted(
            {name for its in every for name in its.conditions if name.rpartition("-")[0] in corruptions.sets()["all"]}
        )
        kinds, levels = ({name.rpartition("-")[place] for name in asked} for place in (0, 2))
        lines.append(
            f"mPC*, rPC*: over the common ones of only {len(kinds)} corruptions ({', '.join(sorted(kinds))}) at severities"
            f" {', '.join(sorted(levels))}: not comparable with an mPC that others report."
        )
    if (table["kind"] == "set").any():
        lines.append(
            "17: mean over the 17 corruptions that the MaskRIS paper most likely used (it names none; all but glass_blur and"
            " gaussian_blur, which fail in the environment that it states)."
        )
    lines.append(
        "[low, high]: 95 % percentile bootstrap, the images resampled once for all conditions, strategies and seeds; it says how"
        " much the choice of test images matters, not how much the seed does."
    )
    if reference:
        lines.append(
            f"CE, rel. CE: error 1 - score, or what the score lost against clean, divided by that of the run {reference}, which"
            " was declared the reference; the mean over corruptions (100: like it). No value where the reference lost nothing"
            " under some corruption."
        )
    if (table["kind"] == "occlusion").any():
        lines.append(
            "Occlusion: patches with the image's mean colour over a share of the whole image, of the referent's mask, of the"
            " masks of the image's other objects, or (background, the control) over as many pixels as of the referent but where"
            " no object is. change: against the uncovered image."
        )
    if (table["kind"] == "word").any():
        lines.append(
            "Words covered: each word in turn masked as in MaskRIS' text mask, the attention untouched; change: against the same"
            " sentences with no word covered. A sentence counts once per covered word of the subset."
        )
    lines.append(
        "Language subsets are those of benchmark/data/language.yaml, matched on whole words; an expression can be in several."
    )
    if (table["compared"] == CHECKPOINTS).any():
        lines.append(CHECKPOINTS_NOTE)
    for asked in every:
        strategies = asked.setting.strategies
        alone = [
            run.spec.key
            for its in strategies
            for seed, run in strategies[its].items()
            if seed not in asked.records[its]
        ]
        if alone:
            lines.append(f"Left out, since another strategy has no finished run with this seed: {', '.join(alone)}.")
        if asked.missing:
            keys = [run.spec.key for by_seed in asked.setting.strategies.values() for run in by_seed.values()]
            lines.append(
                f"{asked.split} of {', '.join(keys)}: not all of them were asked under {', '.join(asked.missing)}; left out."
            )
    return lines


def _libraries(every: Sequence[Asked]) -> list[str]:
    """Return what the images were changed with; more than one line where not all with the same."""
    found = {
        " ".join(f"{name} {version}" for name, version in records.attrs["made_with"].items())
        for asked in every
        for by_seed in asked.records.values()
        for by_condition in by_seed.values()
        for records in by_condition.values()
        if "made_with" in records.attrs
    }
    if len(found) < 2:
        return [f"Images changed with {text}." for text in found]
    texts = "; ".join(sorted(found))
    return [
        f"The images of some conditions were changed with other libraries than those of others, and may differ: {texts}."
    ]


def terminal_blocks(every: Sequence[Asked], table: pd.DataFrame) -> list[Block]:
    """Return what a terminal shows: the ranking and the comparison of the first metric."""
    shown = table[table["metric"] == table["metric"].iloc[0]]
    blocks = summary_blocks(every, shown) + compared_blocks(every, shown)
    return blocks or detail_blocks(shown, "language", ("subset", "expressions"))
