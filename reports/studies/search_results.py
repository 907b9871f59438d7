"""What a search found: its trials, ranked; the finished runs of those that are compared; the best one as a preset."""

import contextlib
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

import methods
from benchmark.base.errors import UserError
from benchmark.data import refer
from benchmark.runs.preset import Preset, RefShapes, read_preset
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from reports.compare import Run, collect
from studies.search_space import Search, split_parameters
from studies.study import Started
from studies.trials import BASELINE, PAPER, suggest

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
TAKEN_UP = "interrupted and taken up"
ROLES = {"best": "best", PAPER: "the paper's setting", BASELINE: "baseline"}
PAIRS = (("best", BASELINE), (PAPER, BASELINE), ("best", PAPER))


@dataclasses.dataclass(frozen=True)
class Found:
    """What a report is made from.

    Attributes:
        started: the search. trials: all, as they were when the report was begun. ranked: the complete ones, the best first.
        front: numbers of the Pareto-optimal ones, where there are two objectives.
        roles: `ROLES` -> its trial, where that is complete. done: run key -> finished run of these trials.
    """

    started: Started
    trials: tuple[FrozenTrial, ...]
    ranked: tuple[FrozenTrial, ...]
    front: tuple[int, ...]
    roles: dict[str, FrozenTrial]
    done: dict[str, Run]

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
        """The trial with the highest val oIoU; of equal ones the first."""
        return self.ranked[0]

    def run(self, role: str) -> Run:
        """Return the finished run of a role."""
        return self.done[key_of(self.roles[role])]

    def groups(self) -> dict[str, str]:
        """Return run key -> the roles that it plays, in words: the best trial may well be the paper's setting."""
        words: dict[str, list[str]] = {}
        for role, trial in self.roles.items():
            words.setdefault(key_of(trial), []).append(ROLES[role])
        return {key: ", ".join(roles) for key, roles in words.items()}


def results(started: Started, study: optuna.Study, runs: Path) -> Found:
    """Return the trials and the finished runs of the best one, the paper's setting and the baseline.

    Raises:
        UserError: no trial is complete, or a run of these three is missing, unfinished or damaged.
    """
    trials = tuple(trials_of(study))
    ranked = rank(trials)
    if not ranked:
        raise UserError(
            f"study {started.name} has no complete trial yet ({counted(trials)}): go on with `risbench study resume"
            f" {started.name}`."
        )
    references = {trial.user_attrs.get("reference"): trial for trial in reversed(ranked)}
    roles = {"best": ranked[0]} | {role: references[role] for role in (PAPER, BASELINE) if role in references}
    specs = {}
    for role, trial in roles.items():
        run = RunDir(runs / key_of(trial))
        if not run.path.is_dir() or run.status()["state"] != "done":
            what = f"is {run.status()['state']}" if run.path.is_dir() else "is missing"
            raise UserError(
                f"the run {run.key} of trial {trial.number} ({ROLES[role]}) {what} in {runs}: put its folder back, or make it"
                f" again by `risbench study run` with another --name."
            )
        specs[run.key] = run.spec()
        if specs[run.key].key != run.key:
            raise UserError(f"run {run.key} is damaged: its spec.yaml is another run's; put its folder back as it was.")
    done = {run.spec.key: run for run in collect([*specs.values()], runs).runs}
    front = tuple(sorted(t.number for t in study.best_trials)) if len(started.study.objectives) > 1 else ()
    return Found(started, trials, ranked, front, roles, done)


def rank(trials: Sequence[FrozenTrial]) -> tuple[FrozenTrial, ...]:
    """Return the complete trials by val oIoU (then by the second objective), of equal ones the first tried first."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return tuple(sorted(complete, key=lambda trial: (*(-value for value in trial.values), trial.number)))


def key_of(trial: FrozenTrial) -> str:
    """Return the key of a trial's run, "" where it has none yet."""
    return trial.user_attrs.get("key", "")


def counted(trials: Sequence[FrozenTrial], ended: bool = True) -> str:
    """Return in words how many trials are in each state: the ones that ended, or all others ("" where there are none)."""
    words = [STATES[trial.state] if taken_up(trial, trials) is None else TAKEN_UP for trial in trials]
    known = [STATES[state] for state in ENDED] if ended else ["running", "waiting", TAKEN_UP]
    return ", ".join(f"{words.count(word)} {word}" for word in known if word in words or word == "complete")


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials of a study, but for those that found its budget full and so asked nothing."""
    return [trial for trial in study.get_trials(deepcopy=False) if "surplus" not in trial.user_attrs]


def looked_at(trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials the best one was chosen from: those that ended, one that was interrupted and taken up once."""
    return sum(trial.state in ENDED and taken_up(trial, trials) is None for trial in trials)


def taken_up(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int | None:
    """Return which trial went on with the run of one that was interrupted; None where none did."""
    if trial.state != TrialState.FAIL or not key_of(trial):
        return None
    later = (other.number for other in trials if other.number > trial.number and key_of(other) == key_of(trial))
    return next(later, None)


def parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters; of one that is waiting, those that are fixed for it. 13 steps of 0.05 are 0.65."""
    values = trial.params or trial.system_attrs.get("fixed_params", {})
    return {name: round(value, 10) if isinstance(value, float) else value for name, value in values.items()}


def reason(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """Return why a trial failed, "" for the others."""
    if trial.state != TrialState.FAIL:
        return ""
    if said := trial.user_attrs.get("reason"):
        return " ".join(said.split())
    if (later := taken_up(trial, trials)) is not None:
        return f"interrupted; trial {later} went on with its run"
    return "none given (its worker died)"


def unused_at_zero(search: Search, recipe_type: type) -> list[str]:
    """Return the parameters that count for nothing where distill_weight is 0: the baseline masks nothing."""
    return [name for name in search.space if name not in recipe_type.model_fields and name != "distill_weight"]


# --- the best as a preset ---------------------------------------------------------------------------------------------


def best_preset(found: Found) -> Preset:
    """Return the preset whose only run is the best trial's.

    Where the baseline won, its settings of MaskRIS are the paper's, so that the two can be compared by the same file.
    """
    started, spec = found.started, found.run("best").spec
    is_baseline = spec.strategy.name == BASELINE
    chosen = found.search.paper if is_baseline else suggest(found.search, found.best)
    settings, _ = split_parameters(type(spec.recipe), chosen)
    method = methods.get(spec.method)
    usual, recipe = method.recipes[spec.variant].model_dump(mode="json"), spec.recipe.model_dump(mode="json")
    split = "" if spec.split_by == refer.default_split_by(spec.dataset) else f":{spec.split_by}"
    changes = {name: value for name, value in recipe.items() if value != usual[name]}
    return Preset(
        description=f"best of study {started.name}",
        methods=(spec.method,),
        strategies=(spec.strategy.name,),
        datasets=(spec.dataset + split,),
        variants=(spec.variant,),
        seeds=(spec.seed,),
        data=started.data,
        refshapes=_refshapes(started, spec),
        recipes={spec.method: changes} if changes else {},
        strategy=started.settings | settings,
        selection=spec.selection.model_copy(update={"report": type(spec.selection)().report}),
        execution=started.execution,
        jobs=started.jobs,
    )


def _refshapes(started: Started, spec: RunSpec) -> RefShapes | None:
    """Return how the study's preset writes the embedded sets; None where the data were others than the preset's."""
    if spec.dataset.startswith("refshapes"):
        with contextlib.suppress(UserError):  # a preset file that is gone; the data it wrote are there
            preset = read_preset(started.preset)
            return preset.refshapes if preset.data == started.data else None
    return None


def best_yaml(found: Found) -> str:
    """Return the preset as a file that says where it is from."""
    values = best_preset(found).model_dump(mode="json", exclude_defaults=True)
    head = [
        f"Trial {found.best.number} of study {found.started.name}, the best of {len(found.ranked)} complete trials"
        f" ({looked_at(found.trials)} looked at) by val oIoU.",
        f"`risbench run --preset` this file is the run {key_of(found.best)}.",
    ]
    if found.run("best").spec.strategy.name == BASELINE:
        head.append("The baseline won; `strategy` holds the paper's setting of MaskRIS, to be compared with it.")
    return "".join(f"# {line}\n" for line in head) + yaml.safe_dump(values, sort_keys=False, width=120)


def commands(found: Found, path: Path) -> tuple[str, str]:
    """Return the command that makes the best run, and the one that puts the claim to the test with other seeds."""
    where = f" --images {shlex.quote(str(found.started.images))}" if found.started.images else ""
    preset = f"--preset {shlex.quote(str(path))}"
    strategies = f"{BASELINE},{found.search.strategy}"
    new = [seed for seed in range(4) if seed not in found.started.bases][:3]  # of the searched seed it was the best
    return (
        f"risbench run {preset}{where}",
        f"risbench matrix {preset} --strategies {strategies} --seeds {','.join(map(str, new))}{where}",
    )
