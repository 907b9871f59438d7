"""The table of weakly supervised networks beside baselines that see no sentence."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmark.evaluation import metrics
from benchmark.evaluation.text_blind_scores import read_scores
from benchmark.runs.rundir import RunDir
from reports import labels
from reports.collected import Collected, Run
from reports.compare import settings
from reports.layout import numbers
from reports.layout.block import Block, named_once

HEADINGS = {
    "constant": "constant\nmask",
    "mean": "mean\nmap",
    "max": "maximum\nmap",
}
NOTE = (
    "A network reads the sentence only as far as its mIoU exceeds these baselines: the best"
    " constant mask for the whole split, and the mean or the maximum of its own maps for all"
    " sentences of an image, which is decided once. The difference is to the best of them."
)
MISSING = (
    " A dash stands where a seed was not measured, which `risbench evaluate RUN --split SPLIT"
    " --text-blind` does."
)


def blocks(collected: Collected, runs: Path) -> list[Block]:
    """Return one block per data set, with a line per split, method and strategy.

    The numbers are means over seeds. The network is compared with its best baseline.

    Args:
        collected: the finished runs. Those of fully supervised methods are left out.
        runs: folder of the run directories.

    Raises:
        UserError: measured numbers are damaged. The message names the file.
    """
    by_title: dict[str, list[tuple[str, ...]]] = {}
    for setting in settings(collected):
        columns = setting.columns
        if columns["supervision"] != "weak":
            continue
        title = f"{columns['dataset']} (split by {columns['split_by']})"
        lines = by_title.setdefault(title, [])
        for split in setting.splits:
            for strategy, by_seed in setting.strategies.items():
                names = (split, labels.method_label(columns), strategy)
                lines.append((*names, *_cells(by_seed, split, runs)))
    header = ("split", "method", "strategy", "seeds", "network")
    header += (*HEADINGS.values(), "difference")
    return [
        Block(
            f"{title}, mIoU of weak supervision and without the sentence",
            NOTE + (MISSING if any(numbers.NOTHING in line for line in lines) else ""),
            header,
            named_once(_by_split(lines)),
        )
        for title, lines in by_title.items()
    ]


def _cells(by_seed: Mapping[int, Run], split: str, runs: Path) -> tuple[str, ...]:
    """Return number of seeds, the network's mIoU, each baseline's, and the difference."""
    name = metrics.MIOU.name
    network = np.mean([run.splits[split].points[name] for run in by_seed.values()])
    measured = [read_scores(RunDir(runs / run.key), split) for run in by_seed.values()]
    # A mean over some of the seeds could not be compared with the network's over all of them.
    means = {
        blind: np.nan if None in measured else np.mean([scores[blind] for scores in measured])
        for blind in HEADINGS
    }
    return (
        str(len(by_seed)),
        *map(numbers.number, (network, *means.values())),
        numbers.number(network - max(means.values()), sign="+"),
    )


def _by_split(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines ordered by split, with the splits in the order of their first line."""
    order = [*dict.fromkeys(line[0] for line in lines)]
    return sorted(lines, key=lambda line: order.index(line[0]))
