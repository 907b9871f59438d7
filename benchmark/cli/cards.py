"""How `risbench plan --card` shows what runs cost on a card."""

from collections.abc import Sequence

from rich.table import Table

from benchmark.cli.options import console
from benchmark.planning.by_card import OnCard, advice, gib, total_hours
from benchmark.planning.cards import Card

HEADINGS = ("precision", "batch", "micro", "s/step", "hours of a run", "runs", "GiB", "fit")
NOT_KNOWN = "–"


def show(card: Card, runs: Sequence[OnCard]) -> None:
    """Print a table of the runs on a card, and what to do where it does not hold one."""
    datasets = {(its.spec.dataset, its.spec.split_by) for its in runs}
    memory = f"{gib(card.memory_bytes)} GiB, of which {gib(card.usable_bytes)} can be used"
    table = Table("run", title=f"one {card.card} ({memory})", title_justify="left", box=None)
    if len(datasets) > 1:
        table.add_column("data set")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "precision" else "right")
    for its in runs:
        where = [f"{its.spec.dataset}:{its.spec.split_by}"] if len(datasets) > 1 else []
        table.add_row(its.name, *where, *_cells(its))
    console.print(table)
    console.print(
        "s/step is of a step of the whole batch, hours are training without evaluation, GiB"
        " is the largest memory of a step with this micro-batch, and fit is the number of such runs"
        " that the card holds together."
    )
    if any("~" in cell for its in runs for cell in _cells(its)):
        console.print(
            "~ marks an estimate: a step that was measured, scaled by its operations, the card's"
            " matrix products and its memory bandwidth. Where a paper gives such a time (CARIS on"
            " an A6000), the estimate is 1.4 times as long."
        )
    if sources := sorted({its.of_pair.source for its in runs if its.of_pair} - {"estimate"}):
        console.print(f"Times without ~ were {' or '.join(sources)} on such a card.")
    hours = total_hours(runs)
    if hours is not None:
        count = sum(its.seeds for its in runs)
        console.print(f"All {count} runs train about {hours:,.0f} hours on one such card.")
    for sentence in advice(runs):
        console.print(sentence)
    if any(its.samples is None for its in runs):
        console.print("Hours of a run take its data, which were not found: name them with --data.")
    if unknown := sorted(
        {f"{its.spec.method} {its.spec.variant}" for its in runs if not its.of_pair}
    ):
        console.print(
            f"Nobody has measured {', '.join(unknown)} on a card: `python -m tests.speed gpu` does."
        )


def _cells(its: OnCard) -> list[str]:
    recipe = its.spec.recipe
    about = "~" if its.of_pair and its.of_pair.source == "estimate" else ""
    near = "" if its.memory_is_measured else "~"
    return [
        recipe.precision,
        str(recipe.batch_size),
        str(recipe.micro_batch),
        NOT_KNOWN if its.step_seconds is None else f"{about}{its.step_seconds:.3f}",
        NOT_KNOWN if its.hours is None else f"{about}{its.hours:.1f}",
        str(its.seeds),
        NOT_KNOWN if its.bytes is None else f"{near}{gib(its.bytes)}",
        NOT_KNOWN if its.at_a_time is None else str(its.at_a_time or "none"),
    ]
