"""Commands on what papers claim: they show what the runs say to it, and run what is lacking."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.base.errors import choose
from benchmark.cli.jobs import conclude, syncing, work_through_runs
from benchmark.cli.options import (
    RUNS,
    RunsOption,
    Submission,
    Where,
    console,
    names,
    numbers,
    spread,
)

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.launch.base import Job, Launcher
    from benchmark.runs.execution import Execution, Places
    from benchmark.runs.rundir import RunDir
    from reports.claims.claims import Claim, Claims
    from reports.claims.evidence import Evidence

app = typer.Typer()
PLAN = "claims"  # the plan that holds the runs of all claims
WIDTH = 120  # columns of the terminal that a table may take

AlsoOption = Annotated[
    Path | None,
    typer.Option(
        "--also",
        envvar="RISBENCH_CLAIMS",
        help="Folder with claims of further papers (YAML) and a published.csv of their numbers.",
    ),
]


def claim_ids(incomplete: str) -> list[str]:
    """Return the ids of claims that begin with `incomplete`, for completion in the shell."""
    from reports.claims.claims import read_claims

    also = os.environ.get("RISBENCH_CLAIMS")
    known = read_claims(Path(also) if also else None)
    return [claim.id for claim in known.claims if claim.id.startswith(incomplete)]


@app.callback(invoke_without_command=True)
def claims(
    context: typer.Context,
    paper: Annotated[
        str | None, typer.Option("--paper", help="Papers to show, comma-separated.")
    ] = None,
    place: Annotated[
        str | None,
        typer.Option("--place", help='Tables and figures to show, such as "Table 2,Fig. 6a".'),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help='Statuses to show, such as "confirmed,not run".'),
    ] = None,
    shape: Annotated[
        Literal["table", "csv", "md", "json"], typer.Option("--format", help="How they are shown.")
    ] = "table",
    runs: RunsOption = RUNS,
    also: AlsoOption = None,
) -> None:
    """Show what papers claim, and what the finished runs say to it.

    Example: risbench claims --place "Table 2"
    """
    if context.invoked_subcommand:
        return
    from reports.claims import report
    from reports.claims.table import JOINED, read_table

    known, every = read_table(runs, also)
    places = {its for text in every["place"] for its in text.split(JOINED)}
    shown = report.chosen(
        every,
        _known(paper, every["paper"], "paper"),
        _known(place, places, "place"),
        _known(status, _statuses(), "status of a claim"),
    )
    if shape == "table":
        report.render(console, shown, min(console.width, WIDTH))
    elif shape == "csv":
        typer.echo(report.as_csv(shown), nl=False)
    elif shape == "md":
        typer.echo(report.as_markdown(shown, known), nl=False)
    else:
        typer.echo(report.as_json(shown), nl=False)


def _known(text: str | None, valid: Sequence[str], what: str) -> list[str]:
    """Return the comma-separated names of an option, all of which are known."""
    if text in {*valid}:
        return [text]  # The name of a place may have a comma.
    return [choose(name, {*valid}, what) for name in names(text) or []]


def _statuses() -> Sequence[str]:
    from reports.claims.answers import STATUSES

    return STATUSES


# --- running --------------------------------------------------------------------------


@app.command("run")
@spread
def run(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Claims: ids, or the beginning of several.",
            autocompletion=claim_ids,
        ),
    ],
    where: Where,
    submission: Submission,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds (default: those of the preset `paper`).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Runs at a time (default: the preset's).")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes (GPUs) per run (default: the preset's).")
    ] = None,
    also: AlsoOption = None,
) -> None:
    """Train and measure what claims lack, then show what the runs say to them.

    The runs are those of the paper, so they take its data and GPUs. Started again, the command
    goes on from where it was.

    Example: risbench claims run maskris-table-2-caris
    """
    from benchmark.launch.outcomes import work_through
    from benchmark.runs.groups import write_plan
    from reports.claims import report
    from reports.claims.claims import read_claims
    from reports.claims.evidence import Evidence
    from reports.claims.planned import chosen_preset, resolve_arms
    from reports.claims.table import read_table

    known = read_claims(also)
    chosen = _chosen(ids, known)
    preset = chosen_preset(chosen, numbers(seeds, "--seeds"))
    data = where.data or preset.data
    places = where.places(data=data, reports=submission.out, tracking=submission.uri)
    with console.status("reading the data"):
        planned = resolve_arms(chosen, known.claims, preset, places, where.data is None)
    execution = planned.execution.changed(processes=processes)
    write_plan(where.runs, planned.group(where.runs, PLAN))
    at_a_time = jobs or preset.jobs
    specs = (*planned.needed, *planned.specs)
    outcomes = work_through_runs(specs, places, execution, submission, at_a_time)

    def measure() -> None:
        evidence = Evidence(where.runs, chosen)
        launcher = submission.started(at_a_time)
        jobs = _measurements(chosen, evidence, places, execution, launcher)
        with syncing(places, submission):
            measured = work_through(launcher, jobs, console, "measurements")
        conclude(measured, lambda: None)
        _, table = read_table(where.runs, also)
        shown = table[table["id"].isin([claim.id for claim in chosen])]
        report.render(console, shown, min(console.width, WIDTH))

    conclude(outcomes, measure)


def _chosen(ids: Sequence[str], known: Claims) -> list[Claim]:
    """Return the claims that ids or their beginnings name.

    Raises:
        UserError: no claim begins so. The nearest ids are listed.
    """
    named: dict[str, Claim] = {}
    for wanted in ids:
        exact = [claim for claim in known.claims if claim.id == wanted]
        found = exact or [claim for claim in known.claims if claim.id.startswith(wanted)]
        if not found:
            choose(wanted, [claim.id for claim in known.claims], "claim")
        named |= {claim.id: claim for claim in found}
    return [*named.values()]


def _measurements(
    chosen: Sequence[Claim],
    evidence: Evidence,
    places: Places,
    execution: Execution,
    launcher: Launcher,
) -> list[Job]:
    """Return the jobs that measure finished runs as claims want it and nobody did yet."""
    from benchmark.evaluation.published_scores import counts_path
    from benchmark.launch.jobs import evaluation_job, robustness_job
    from benchmark.robustness.corruptions import SEVERITIES, Condition
    from benchmark.runs import splits

    jobs: dict[str, Job] = {}
    corrupted: dict[str, tuple[dict[str, RunDir], dict[str, None]]] = {}
    for claim in chosen:
        if claim.value and claim.value.arm.protocol:
            protocol, split = claim.value.arm.protocol, claim.value.split
            options = {"split": split, "protocol": protocol, "device": execution.numerics.device}
            if owner := splits.owner(split):
                options |= {"split": owner[2], "dataset": ":".join(owner[:2])}
            for run in evidence.finished(claim.value.arm):
                if not counts_path(run, protocol, split).exists():
                    job = evaluation_job(run.key, options, places, execution, launcher)
                    jobs[job.name] = job
        for part in claim.parts:
            if not part.corruption:
                continue
            runs, conditions = corrupted.setdefault(part.split, ({}, {}))
            for arm in (part.better, part.than):
                runs |= {run.key: run for run in evidence.finished(arm)}
            conditions |= {str(Condition(part.corruption, its)): None for its in SEVERITIES}
    for split, (runs, conditions) in corrupted.items():
        if runs:
            name = f"claims-{split}"
            job = robustness_job(
                name, [*runs.values()], [*conditions], [split], places, execution, launcher
            )
            jobs[job.name] = job
    return [*jobs.values()]
