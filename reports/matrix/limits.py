"""Warnings of runs in whose training a strategy did not do what it is named for."""

from pathlib import Path
from statistics import fmean

from benchmark.runs.rundir import RunDir
from benchmark.strategies.strategy import Limit
from reports.collected import Collected


def warnings(collected: Collected, folder: Path) -> list[str]:
    """Return a sentence for each limit and side of it that the means of some runs lie beyond.

    Args:
        collected: the runs.
        folder: of the run directories.

    Raises:
        WorldError: what a run has logged is damaged.
    """
    beyond: dict[tuple[Limit, str], list[str]] = {}
    for run in collected.runs:
        limits = run.spec.strategy.limits()
        # Most strategies have none, and their logs need not be read.
        logged = RunDir(folder / run.key).metrics() if limits else []
        for limit in limits:
            values = [line[limit.name] for line in logged if line.get(limit.name) is not None]
            if not values:
                continue
            mean = fmean(values)
            if side := "below" if mean < limit.low else "above" if mean > limit.high else "":
                beyond.setdefault((limit, side), []).append(f"{run.key} ({100 * mean:.2g} %)")
    return [
        f"The {limit.what} is {side} {100 * (limit.low if side == 'below' else limit.high):g} % in"
        f" the mean of the training, so {getattr(limit, side)}: {', '.join(runs)}."
        for (limit, side), runs in beyond.items()
    ]
