"""What a search found, namely its ranked trials and the finished runs that are compared."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.runs.groups import Cell
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from reports.collected import Collected, Run, collect
from reports.studies.plan import written_plan
from reports.studies.searches.trials import complete, counted, key_of, ranked, trials_of
from studies.search_space import CORRUPTED, Search
from studies.study import Started
from studies.trials import BASELINE, PAPER

BEST = "best"
ROLES = {BEST: "best", PAPER: "the paper's setting", BASELINE: "baseline"}
PAIRS = ((BEST, BASELINE), (PAPER, BASELINE), (BEST, PAPER))

SWITCH = "distill_weight"  # a trial is the baseline if it is 0 (see `Started.trial_spec`)


@dataclasses.dataclass(frozen=True)
class Results:
    """What a search's report is made from.

    Attributes:
        started: the search.
        trials: all trials, as they were when the report was begun.
        ranked: the complete ones, the best first.
        front: numbers of the Pareto-optimal ones, or nothing for a single objective.
        roles: role -> its trial, for each of `ROLES` whose trial is complete.
        collected: the finished runs of these trials.
    """

    started: Started
    trials: tuple[FrozenTrial, ...]
    ranked: tuple[FrozenTrial, ...]
    front: tuple[int, ...]
    roles: Mapping[str, FrozenTrial]
    collected: Collected

    @property
    def search(self) -> Search:
        """The study."""
        return self.started.study

    @property
    def base(self) -> RunSpec:
        """The spec of the baseline, from which all are made."""
        return next(iter(self.started.bases.values()))

    @property
    def best(self) -> FrozenTrial:
        """The trial with the highest value, and the first of equal ones."""
        return self.ranked[0]

    @property
    def metric(self) -> str:
        """The metric that is compared, which is the first objective."""
        return self.search.objectives[0]

    @property
    def splits(self) -> tuple[str, tuple[str, ...]]:
        """The split that chose, and those that chose nothing."""
        selection = self.run(BEST).spec.selection
        others = [split for split in selection.report if split != selection.split]
        return selection.split, tuple(others)

    @property
    def done(self) -> dict[str, Run]:
        """Run key -> finished run."""
        return {run.key: run for run in self.collected.runs}

    def run(self, role: str) -> Run:
        """Return the finished run of a role."""
        return self.done[key_of(self.roles[role])]

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of roles that are there and are not the same run."""
        return [
            (one, other)
            for one, other in PAIRS
            if {one, other} <= self.roles.keys()
            and key_of(self.roles[one]) != key_of(self.roles[other])
        ]

    def played(self) -> dict[str, str]:
        """Return run key -> its roles in words."""
        # The best trial may well be the paper's setting.
        words: dict[str, list[str]] = {}
        for role, trial in self.roles.items():
            words.setdefault(key_of(trial), []).append(ROLES[role])
        return {key: ", ".join(roles) for key, roles in words.items()}


def results(started: Started, study: optuna.Study, runs: Path) -> Results:
    """Return the trials, and the finished runs of the three that are compared.

    These are the best trial, the paper's setting and the baseline.

    Args:
        started: the search.
        study: its trials.
        runs: folder of the run directories.

    Raises:
        UserError: no trial is complete, or a run of these three is missing, unfinished or damaged.
    """
    trials = tuple(trials_of(study))
    in_order = ranked(trials)
    if not in_order:
        raise UserError(
            f"study {started.name} has no complete trial yet ({counted(trials)}): go on with"
            f" `risbench study resume {started.name}`."
        )
    # Of several trials of a reference the first counts. It comes last here and replaces the others.
    references = {trial.user_attrs.get("reference"): trial for trial in reversed(in_order)}
    roles = {BEST: in_order[0]}
    roles |= {role: references[role] for role in (PAPER, BASELINE) if role in references}
    cells = []
    for role, trial in roles.items():
        run = RunDir(runs / key_of(trial))
        state = run.status().state if run.path.is_dir() else "missing"
        if state != "done":
            raise UserError(
                f"the run {run.key} of trial {trial.number} ({ROLES[role]}) is {state} in {runs}:"
                " put its folder back, or make it again by `risbench study run` with another"
                " --name."
            )
        cells.append(Cell.of(run.spec(), trial=trial.number))
        cells[-1].key = run.key
    plan = dataclasses.replace(written_plan(started, runs), cells=cells)
    several = len(started.study.objectives) > 1
    front = tuple(sorted(trial.number for trial in study.best_trials)) if several else ()
    return Results(started, trials, in_order, front, roles, collect(plan, runs))


def heading(started: Started, objective: str) -> str:
    """Return what tables and figures call an objective, e.g. `val oIoU`, `corrupted val oIoU`."""
    selection = next(iter(started.bases.values())).selection
    metric = metrics.get(objective.removeprefix(CORRUPTED)).heading
    return ("corrupted " if objective.startswith(CORRUPTED) else "") + f"{selection.split} {metric}"


def unused_by_baseline(search: Search, recipe_type: type) -> list[str]:
    """Return the parameters that count for nothing in a trial that is the baseline."""
    return [
        name for name in search.space if name not in recipe_type.model_fields and name != SWITCH
    ]


def references(trials: Sequence[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return the complete trials of the paper's setting and the baseline."""
    named = {trial.user_attrs.get("reference"): trial for trial in complete(trials)}
    return {role: named[role] for role in (PAPER, BASELINE) if role in named}
