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
    CLAIMS,
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
    from reports.claims.needed import Needed

app = typer.Typer()
PLAN = "claims"  # the plan that holds the runs of all claims
WIDTH = 120  # columns of the terminal that a table may take

AlsoOption = Annotated[
    Path | None,
    typer.Option(
        "--also",
        envvar=CLAIMS,
        help="Folder with claims of further papers (YAML) and a published.csv of their numbers.",
    ),
]


def claim_ids(incomplete: str) -> list[str]:
    """Return the ids of claims that begin with `incomplete`, for completion in the shell."""
    from reports.claims.claims import read_claims

    also = os.environ.get(CLAIMS)
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
    from reports.claims.answers import STATUSES
    from reports.claims.claims import read_claims
    from reports.claims.table import answered
    from reports.layout import files

    known = read_claims(also)
    papers = _known(paper, [claim.paper for claim in known.claims], "paper")
    places = _known(place, [its for claim in known.claims for its in claim.places], "place")
    statuses = _known(status, STATUSES, "status of a claim")

    def is_chosen(claim: Claim) -> bool:
        here = not places or bool({*places} & {*claim.places})
        return here and (not papers or claim.paper in papers)

    its = answered(known, runs, choose=is_chosen)
    if statuses:
        its = its.with_status(statuses)
    if shape == "table":
        report.render(console, its, min(console.width, WIDTH))
    elif shape == "csv":
        typer.echo(files.csv(its.table), nl=False)
    elif shape == "md":
        typer.echo(report.as_markdown(its), nl=False)
    else:
        typer.echo(report.as_json(its), nl=False)


def _known(text: str | None, valid: Sequence[str], what: str) -> list[str]:
    """Return the comma-separated names of an option, all of which are known."""
    if text in {*valid}:
        return [text]  # The name of a place may have a comma.
    return [choose(name, {*valid}, what) for name in names(text) or []]


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
        str | None, typer.Option("--seeds", help="Seeds (default: those of the claims' preset).")
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
    from reports.claims.finished import FinishedRuns
    from reports.claims.needed import needed
    from reports.claims.planned import chosen_preset, resolve_arms
    from reports.claims.table import answered

    known = read_claims(also)
    chosen = _chosen(ids, known)
    preset = chosen_preset(chosen, numbers(seeds, "--seeds"))
    data = where.data or preset.data
    places = where.places(data=data, reports=submission.out, tracking=submission.uri)
    with console.status("reading the data"):
        planned = resolve_arms(chosen, known.claims, preset, places, where.data is None)
    execution = planned.execution.changed(processes=processes)
    write_plan(where.runs, planned.group(PLAN), add=True)
    finished = FinishedRuns(where.runs, known.claims)
    _announce(chosen, needed(chosen, Evidence(where.runs, finished), preset.seeds))
    at_a_time = jobs or preset.jobs
    specs = (*planned.needed, *planned.specs)
    outcomes = work_through_runs(specs, places, execution, submission, at_a_time)

    def measure() -> None:
        evidence = Evidence(where.runs, FinishedRuns(where.runs, known.claims))
        launcher = submission.started(at_a_time)
        jobs = _measurements(chosen, evidence, places, execution, launcher)
        with syncing(places, submission):
            measured = work_through(launcher, jobs, console, "measurements")
        conclude(measured, lambda: None)
        ids = {claim.id for claim in chosen}
        its = answered(known, where.runs, choose=lambda claim: claim.id in ids)
        report.render(console, its, min(console.width, WIDTH))

    conclude(outcomes, measure)


def _announce(chosen: Sequence[Claim], its: Needed) -> None:
    """Print what is to be done and how long it takes, before it begins."""
    claims = "1 claim" if len(chosen) == 1 else f"{len(chosen)} claims"
    hours = "" if its.hours is None else f", about {its.hours:.3g} h on one card ({its.source})"
    console.print(f"{claims}: {its.runs} runs to train" + (hours if its.runs else ""))


def _chosen(ids: Sequence[str], known: Claims) -> list[Claim]:
    """Return the claims that ids or their beginnings name.

    Raises:
        UserError: no claim begins so. The nearest ids are listed.
    """
    named: dict[str, Claim] = {}
    for wanted in ids:
        exact = [claim for claim in known.claims if claim.id == wanted]
        found = exact or [claim for claim in known.claims if claim.id.startswith(wanted)]
        if not found or not wanted:
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
    from benchmark.evaluation.published_scores import read_counts
    from benchmark.launch.jobs import evaluation_job, robustness_job
    from benchmark.robustness.results import finished_conditions
    from benchmark.runs import splits

    jobs: dict[str, Job] = {}
    corrupted: dict[str, tuple[dict[str, RunDir], dict[str, None]]] = {}
    for claim in chosen:
        if claim.value and claim.value.arm.protocol:
            protocol, split = claim.value.arm.protocol, claim.value.split
            options = {"split": split, "protocol": protocol, "device": execution.numerics.device}
            if owner := splits.owner(split):
                options |= {"split": owner[2], "dataset": ":".join(owner[:2])}
            for member in evidence.finished.of(claim.value.arm):
                run, spec = member.run, member.spec
                if not spec.has_network or split not in spec.selection.report:
                    continue
                if read_counts(run, protocol, split, run.records(split)) is None:
                    job = evaluation_job(run.key, options, places, execution, launcher)
                    jobs[job.name] = job
        for part in claim.parts:
            if not part.corruption:
                continue
            runs, conditions = corrupted.setdefault(part.split, ({}, {}))
            wanted = evidence.conditions(part)
            members = [
                its
                for arm in (part.better, part.than)
                for its in evidence.finished.of(arm)
                if its.spec.has_network and part.split in its.spec.selection.report
            ]
            for run in (member.run for member in members):
                if not {*wanted} <= {*finished_conditions(run, part.split)}:
                    runs[run.key] = run
                    conditions |= dict.fromkeys(wanted)
    for split, (runs, conditions) in corrupted.items():
        if runs:
            name = f"claims-{split}"
            job = robustness_job(
                name, [*runs.values()], [*conditions], [split], places, execution, launcher
            )
            jobs[job.name] = job
    return [*jobs.values()]
