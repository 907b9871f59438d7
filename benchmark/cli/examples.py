"""The command that cuts examples out of the data: pictures, true masks and those of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.base.errors import UserError, choose
from benchmark.cli.options import Where, console, numbers, spread

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.evaluation.examples import Pair
    from reports.compare import Setting

app = typer.Typer()


@app.command(rich_help_panel="Report")
@spread
def examples(
    where: Where,
    plan: Annotated[
        str, typer.Argument(help="A planned preset or study (see `risbench status`).")
    ] = "quick",
    split: Annotated[
        str | None,
        typer.Option("--split", help="Reported split (default: the first one to judge runs on)."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="Rule that chooses expressions, which may be given several times: largest-gain,"
            " largest-loss, both-fail, occluded, two-of-a-kind, long-sentence (default: all).",
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(help="Numbers of expressions (sent_id), comma-separated, in place of rules."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Expressions of each rule.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of what the rules draw at random.")] = 0,
) -> None:
    """Cut examples of a plan's finished runs out of the data, for figures and the page.

    The command needs the data and runs no network. Every strategy is compared with the reference,
    on expressions that rules choose or that you name. The examples are written into
    RUNS/examples/PLAN, in place of those that were there.

    Example: risbench examples quick --rule largest-gain --rule occluded
    """
    from benchmark.evaluation import examples as cutting
    from benchmark.evaluation.example_rules import RULES, Wanted
    from benchmark.runs.groups import plan_name, read_group
    from benchmark.runs.opened import opened_for
    from reports.collected import collect
    from reports.compare import settings

    if rule and ids:
        raise UserError("name either rules with --rule or expressions with --ids.")
    rules = [choose(name.replace("-", " "), RULES, "rule") for name in rule or RULES]
    wanted = Wanted(rules, count, numbers(ids, "--ids") or (), seed)
    group = read_group(where.runs, plan_name(plan))
    pairs = [*_pairs(settings(collect(group, where.runs)), split, where.runs)]
    cut, pictures = cutting.cut(pairs, wanted, opened_for(where.places()))
    path = cutting.write(cutting.folder(where.runs, group.name), cut, pictures)
    console.print(
        f"wrote {path}: {len(cut)} examples on {len(pictures)} pictures",
        highlight=False,
        soft_wrap=True,
    )


def _pairs(every: Sequence[Setting], split: str | None, runs: Path) -> Iterator[Pair]:
    """Yield the compared strategies of all settings, with the seeds that both have.

    Args:
        every: finished runs.
        split: name of a reported split. By default it is the first one to judge runs on.
        runs: folder of the run directories.

    Raises:
        UserError: no setting reports the split, or has a strategy to compare with the reference.
    """
    from benchmark.evaluation.examples import Pair
    from benchmark.runs.rundir import RunDir
    from reports import labels

    if split:
        choose(split, [*dict.fromkeys(name for its in every for name in its.splits)], "split")
    found = False
    for setting in every:
        tests = [name for name, role in setting.splits.items() if role == "test"]
        name = split or next(iter([*tests, *setting.splits]))
        reference = setting.strategies.get(labels.reference(), {})
        for label, others in setting.strategies.items():
            seeds = [seed for seed in others if seed in reference]
            if label == labels.reference() or name not in setting.splits or not seeds:
                continue
            found = True
            first, second = (
                {run: run.records(name) for run in directories}
                for directories in (
                    [RunDir(runs / by[seed].spec.key) for seed in seeds]
                    for by in (reference, others)
                )
            )
            yield Pair(first, second, name)
    if not found:
        raise UserError(
            "no two finished runs of this plan differ in the strategy alone, so there is nothing"
            " to compare: finish a run of the reference and one of another strategy."
        )
