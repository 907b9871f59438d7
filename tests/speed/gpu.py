"""Measures what one GPU does with every network, in minutes, and goes on after a failure.

Rows are measured in child processes. A row that fails, or that a network brings down, ends its
process alone. The file is written again after every row, so that a machine which is taken away
leaves what was measured.
"""

import collections
import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import methods
from benchmark.base.files import atomic_write
from tests.speed.gpu_rows import Bench, Row, prepare

AT_A_TIME = 4  # processes that measure no time, and so may share the card
ROW_SECONDS = 120.0  # a row that takes longer has failed
STRATEGIES = ("baseline", "maskris")


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that one process measures one after the other.

    Attributes:
        rows: what is measured.
        timed: whether they measure time, so that nothing else may run beside them.
    """

    rows: tuple[Row, ...]
    timed: bool = True


def groups(
    device: str,
    smoke: bool,
    names: Sequence[str] = (),
    strategies: Sequence[str] = STRATEGIES,
) -> list[Group]:
    """Return everything that is measured, what a user waits for first.

    Args:
        device: a CPU measures `tiny` in place of `paper` and `small`.
        smoke: measure one row of each kind.
        names: of methods [all].
        strategies: whose steps are measured. Those that a method cannot serve fail by themselves.
    """
    on_gpu = device == "cuda"
    large, middle = ("paper", "small") if on_gpu else ("tiny", "tiny")
    names = list(names) or methods.names()
    checks = {
        name: (
            *(
                Row("equality", name, "tiny", "maskris", mode)
                for mode in ("fp32", "tf32", "published")
            ),
            Row("repeat", name, middle, "maskris", "published"),
        )
        for name in names
    }
    speeds = {
        name: (
            *_steps(name, large, "published", strategies),
            Row("evaluate", name, large, "baseline", "published"),
            *(_steps(name, large, "fp32", STRATEGIES) if _published(name, large) != "fp32" else ()),
        )
        for name in names
    }
    # One method's images are as large as another's, or nearly so.
    first = Group((Row("card"), Row("loader", names[0], large, "baseline", "fp32")))
    if smoke:
        chosen = checks[names[0]], speeds[names[0]]
        return [
            first,
            Group((chosen[0][0], chosen[0][-1]), timed=False),
            Group((chosen[1][0], chosen[1][2])),
        ]
    return [
        first,
        *(Group(speeds[name]) for name in names),
        *(Group(checks[name], timed=False) for name in names),
        *(Group(_steps(name, large, "published", STRATEGIES, "checkpointing")) for name in names),
        *(Group(_steps(name, large, "tf32", STRATEGIES)) for name in names),
        # It may take a minute until a large network is compiled.
        *(Group(_steps(name, large, "published", ("baseline",), "compile")) for name in names),
        # A CPU takes minutes for a step of these.
        *(Group(_steps(name, "small", "published", STRATEGIES)) for name in names if on_gpu),
    ]


def _published(name: str, variant: str) -> str:
    return methods.definition(name).recipes[variant].precision


def _steps(
    name: str, variant: str, mode: str, strategies: Sequence[str], switch: str = ""
) -> tuple[Row, ...]:
    return tuple(Row("step", name, variant, strategy, mode, switch) for strategy in strategies)


def measure(
    out: Path, bench: Bench, planned: Sequence[Group], minutes: float, console: Console
) -> dict[str, Any]:
    """Measure all rows that the time allows, and write them to a file.

    Args:
        out: the file, JSON as `Results.content` says.
        bench: where and how long rows are measured. Its folder is filled by `prepare`.
        planned: the rows in the order of their measurement.
        minutes: rows that are not finished by then are listed as not run.
        console: shows every row as soon as it is measured.

    Returns:
        The content of the file.
    """
    deadline = time.monotonic() + 60 * minutes
    results = Results(out, [row for group in planned for row in group.rows], console)

    def work(group: Group) -> None:
        # Processes beside each other share the cores, or all of them would wait for each other.
        cores = len(os.sched_getaffinity(0)) // (1 if group.timed else AT_A_TIME)
        for row, outcome in outcomes(group.rows, bench, deadline, max(1, cores)):
            results.add(row, outcome)

    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        beside: list[concurrent.futures.Future[None]] = []
        for group in planned:
            if group.timed:
                _ = [its.result() for its in beside]
                beside = []
                work(group)
            else:
                beside.append(pool.submit(work, group))
        _ = [its.result() for its in beside]
    return results.content()


def outcomes(
    rows: Sequence[Row], bench: Bench, deadline: float, threads: int
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield each row with its outcome.

    A process that ends early has failed at its first row without an answer. Another process goes
    on behind that row.
    """
    remaining = [*rows]
    while remaining:
        if time.monotonic() >= deadline:
            for row in remaining:
                yield row, {"state": "not run", "reason": "the time was used up"}
            return
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            child = _start(remaining, bench, threads, errors)
            with child:
                while remaining and (line := _line(child, deadline)):
                    yield remaining.pop(0), {"state": "measured", **json.loads(line)}
            errors.seek(0)
            said = [line.strip() for line in errors if line.strip()]
        if remaining:
            yield remaining.pop(0), _failure(child.returncode, said, deadline)


def _start(rows: Sequence[Row], bench: Bench, threads: int, errors: Any) -> subprocess.Popen[str]:
    """Start a process that prints one line of JSON for each row."""
    asked = {"rows": [dataclasses.asdict(row) for row in rows], "bench": dataclasses.asdict(bench)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.speed", "gpu-rows", json.dumps(asked, default=str)],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        # A message of ours stays on one line.
        env={**os.environ, "COLUMNS": "1000", "OMP_NUM_THREADS": str(threads)},
    )


def _line(child: subprocess.Popen[str], deadline: float) -> str:
    """Return the next line of a process, or nothing if it ends or takes too long."""
    limit = max(0.0, min(ROW_SECONDS, deadline - time.monotonic()))
    timer = threading.Timer(limit, child.kill)
    timer.start()
    try:
        return child.stdout.readline()
    finally:
        timer.cancel()


def _failure(code: int, said: Sequence[str], deadline: float) -> dict[str, Any]:
    """Return the outcome of a row at which its process ended."""
    if code < 0 and time.monotonic() >= deadline:
        return {"state": "not run", "reason": "the time was used up while it was measured"}
    if code >= 0:
        # A message of CUDA goes on for several lines behind the one that names the error.
        named = [line for line in said if re.match(r"[\w.]+(Error|Exception)\b", line)]
        reason = [f"the process ended with {code}", *said[-1:], *named[-1:]][-1]
        return {"state": "failed", "reason": reason, "log": said[-12:]}
    reason = f"the process was ended by signal {-code}, or took over {ROW_SECONDS:.0f} s"
    return {"state": "failed", "reason": reason, "log": said[-12:]}


class Results:
    """The outcomes so far, which a file holds.

    Args:
        out: the file.
        rows: all rows that are to be measured.
        console: shows every row as soon as it is measured.
    """

    def __init__(self, out: Path, rows: Sequence[Row], console: Console) -> None:
        self.out = out
        self.console = console
        self.outcomes: dict[Row, dict[str, Any]] = {
            row: {"state": "not run", "reason": "its turn had not come"} for row in rows
        }
        self.started = time.monotonic()
        self.lock = threading.Lock()

    def add(self, row: Row, outcome: dict[str, Any]) -> None:
        """Note the outcome of a row, and write the file."""
        with self.lock:
            self.outcomes[row] = outcome
            text = json.dumps(self.content(), indent=1) + "\n"
            atomic_write(self.out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            seconds = time.monotonic() - self.started
            self.console.print(f"{seconds:5.0f} s  {row}  {described(outcome)}", markup=False)

    def content(self) -> dict[str, Any]:
        """Return `card`, what is known of the card, and `rows`, each with its state.

        A measured step also has `share_of_peak`, its operations a second as a share of those of a
        matrix product of its precision, which the same card did.
        """
        (card,) = (its for row, its in self.outcomes.items() if row.kind == "card")
        rows = []
        for row, outcome in self.outcomes.items():
            names = {name: value for name, value in dataclasses.asdict(row).items() if value}
            rows.append(names | outcome | share_of_peak(row, outcome, card))
        counts = collections.Counter(row["state"] for row in rows)
        return {
            "card": card,
            "seconds": round(time.monotonic() - self.started, 1),
            "counts": dict(counts),
            "rows": [row for row in rows if row["kind"] != "card"],
        }


def share_of_peak(row: Row, outcome: dict[str, Any], card: dict[str, Any]) -> dict[str, float]:
    """Return what share of the card's measured products a step reached, if both were measured."""
    if "flops" not in outcome or card["state"] != "measured":
        return {}
    precision = outcome["precision"]
    peak = card[f"{'tf32' if row.mode == 'tf32' else precision}_flops_per_second"]
    return {"share_of_peak": outcome["flops"] / outcome["median_seconds"] / peak}


def described(outcome: dict[str, Any]) -> str:
    """Return an outcome in a few words."""
    if outcome["state"] != "measured":
        return f"{outcome['state']}: {outcome['reason']}"
    if "equal" in outcome:
        verdict = "equal" if outcome["equal"] else "NOT equal"
        return f"{verdict}: differs by {outcome['difference']:.1e} of {outcome['tolerance']:.0e}"
    if "differing_tensors" in outcome:
        if not outcome["differing_tensors"]:
            return f"{outcome['steps']} steps bit-equal"
        first = outcome["first_differing_step"]
        return f"{outcome['differing_tensors']} tensors differ, the loss from step {first} on"
    if "pairs_per_second" in outcome:
        return (
            f"{1000 * outcome['median_seconds']:.0f} ms, {outcome['pairs_per_second']:.1f} pairs/s,"
            f" {outcome['peak_bytes'] / 2**30:.1f} GiB, batch {outcome['batch_size']} of"
            f" {outcome['published_batch_size']}, {_count(outcome['host_syncs'])} host syncs"
        )
    if "expressions_per_second" in outcome:
        return f"{outcome['expressions_per_second']:.1f} expressions/s"
    if "card" in outcome:
        return f"{outcome['card']}, {outcome['copy_bytes_per_second'] / 1e12:.2f} TB/s copied"
    loaders = [(name, its) for name, its in outcome.items() if name.startswith("workers_")]
    return ", ".join(f"{its['images_per_second']:.0f} images/s by {name}" for name, its in loaders)


def _count(value: int | None) -> str:
    """Return a number, or a dash on a CPU, which waits for no GPU."""
    return "–" if value is None else str(value)


def show(content: dict[str, Any], console: Console) -> None:
    """Print a table of the steps, and a line for everything that was not measured."""
    card = content["card"]
    table = Table(title=f"training steps, {card.get('card', 'card not measured')}")
    for heading in ("network", "strategy", "precision"):
        table.add_column(heading)
    for heading in ("batch", "ms", "pairs/s", "GiB", "% of peak", "host syncs"):
        table.add_column(heading, justify="right")
    for its in content["rows"]:
        if its["kind"] == "step" and its["state"] == "measured":
            share = its.get("share_of_peak")
            table.add_row(
                f"{its['method']} {its['variant']}",
                " ".join(filter(None, (its["strategy"], its.get("switch")))),
                its["precision"] if its["mode"] == "published" else its["mode"],
                str(its["batch_size"]),
                f"{1000 * its['median_seconds']:.0f}",
                f"{its['pairs_per_second']:.1f}",
                f"{its['peak_bytes'] / 2**30:.1f}",
                "–" if share is None else f"{100 * share:.1f}",
                _count(its["host_syncs"]),
            )
    console.print(table)
    for name in ("failed", "not run"):
        console.print(f"{content['counts'].get(name, 0)} rows {name}")


def run(
    out: Path,
    device: str,
    minutes: float,
    smoke: bool,
    console: Console,
    names: Sequence[str] = (),
    strategies: Sequence[str] = STRATEGIES,
) -> dict[str, Any]:
    """Prepare the data, measure all rows that the time allows, and print the table.

    Args:
        out: the file of the results.
        device: `cpu` or `cuda`.
        minutes: the time in which all must be done.
        smoke: measure one row of each kind, with two steps.
        console: is printed on.
        names: of methods [all].
        strategies: whose steps are measured.

    Returns:
        The content of the file.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        large = device == "cuda"
        bench = Bench(Path(folder), device, steps=2 if smoke else 5, large=large)
        prepare(bench.folder, *((256, 48) if large else (24, 4)))
        left = minutes - (time.monotonic() - started) / 60
        content = measure(out, bench, groups(device, smoke, names, strategies), left, console)
    show(content, console)
    return content
