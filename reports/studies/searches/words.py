"""What the report of a search says in words of the search, its result, and what that is worth."""

from benchmark.evaluation import bootstrap, metrics
from reports import notes
from reports.compare import CHECKPOINTS
from reports.layout import numbers
from reports.studies.searches.results import BEST, ROLES, Results, heading
from reports.studies.searches.trials import counted, key_of, looked_at
from studies.search_space import SHARES, Range
from studies.trials import BASELINE, PAPER, suggest


def title(results: Results) -> str:
    """Return what was searched with what."""
    base = results.base
    return (
        f"{results.search.description}: {base.method} {base.variant} on {base.dataset} (split by"
        f" {base.split_by}), {base.recipe.epochs} epochs, seed {base.seed}."
    )


def about_search(results: Results) -> list[str]:
    """Return space, sampler, pruner and budget."""
    search = results.search
    space = "; ".join(f"{name} {_range(values)}" for name, values in search.space.items())
    several = len(search.objectives) > 1
    lines = [f"Space: {space}."]
    if set(SHARES) & search.space.keys():
        lines.append(
            f"{SHARES[0]} is the share of the selected words that become [MASK]. {SHARES[1]} is the"
            " random words' share of the rest, and the others stay."
        )
    pruner = "none (two objectives are not pruned)" if several else search.pruner
    maximized = heading(results.started, results.metric)
    if several:
        severities = ", ".join(map(str, search.severities))
        maximized += (
            f", and the same under {', '.join(search.corruptions)} at severity {severities}"
        )
    return [
        *lines,
        "The paper's setting is tried first and the baseline second. Neither is ever pruned.",
        f"The sampler is {search.sampler} with seed {search.seed}, the pruner is {pruner}, and the"
        f" budget is {search.trials} trials, complete or pruned.",
        f"What is maximized is {maximized}.",
    ]


def _range(values: Range) -> str:
    if values.choices is not None:
        return f"one of {', '.join(map(str, values.choices))}"
    step = f" in steps of {values.step:g}" if values.step else ", logarithmic" * values.log
    return f"{values.low:g} to {values.high:g}{step}"


def conclusion(results: Results) -> list[str]:
    """Return which trial is the best, of how many, and what that does not say."""
    best = results.best
    spec = results.run(BEST).spec
    split = spec.selection.split
    value = heading(results.started, results.metric)
    several = len(results.search.objectives) > 1
    which = f"Of the Pareto-optimal trials, the one with the highest {value} is"
    lines = [
        f"{which if several else 'The best trial is'} number {best.number} with {value}"
        f" {numbers.number(best.values[0])} %, the highest of {len(results.ranked)} complete"
        f" trials. {looked_at(results.trials)} were looked at ({counted(results.trials)})."
    ]
    if besides := counted(results.trials, ended=False):
        lines.append(f"Besides these: {besides}.")
    if spec.strategy.is_reference:
        lines.append(
            f"It is the baseline, so the baseline won: no setting of {results.search.strategy} that"
            f" was tried is better on {split}."
        )
    elif PAPER in results.roles and key_of(best) == key_of(results.roles[PAPER]):
        lines.append(f"It is the paper's setting: no other that was tried is better on {split}.")
    if several:
        front = [str(trial.number) for trial in results.ranked if trial.number in results.front]
        lines.append(f"The Pareto front: trials {', '.join(front)}.")
    today = results.started.trial_spec(suggest(results.search, best)).key
    if today != key_of(best):
        lines.append(
            "The code has changed since the trial: the preset of the best trial now makes the run"
            f" {today}."
        )
    if missing := [ROLES[role] for role in (PAPER, BASELINE) if role not in results.roles]:
        lines.append(f"Not complete, and so not compared: {', '.join(missing)}.")
    if len(results.ranked) > 1:
        lines.append(
            f"On {split} this number is optimistically biased, since it is the best of"
            f" {len(results.ranked)} there. A claim needs new seeds (seed {spec.seed} is the one"
            " that was searched with)."
        )
    return lines


def about_numbers(results: Results) -> list[str]:
    """Return how the compared numbers are to be read."""
    return [
        f"{metrics.get(results.metric).described_by} All numbers are percent, at the original image"
        " size.",
        f"[low, high] is the 95 % percentile bootstrap interval (B = {bootstrap.RESAMPLES}), for"
        " which images are resampled with all their expressions. There is one seed each, so a"
        f' difference is one between "{CHECKPOINTS}". Intervals know nothing of the choice among'
        " the trials.",
    ]


def footnotes(results: Results) -> list[str]:
    """Return what casts doubt on the comparison, and with what code its runs were made."""
    pairs = [(results.run(one), results.run(other)) for one, other in results.pairs()]
    return [
        *notes.numerics(pairs),
        *notes.changes(results.collected.group),
        notes.code(results.collected.runs),
    ]
