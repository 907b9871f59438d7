"""The best trial as a preset file, and the commands that make use of it."""

import contextlib
import shlex
from pathlib import Path

import yaml

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.runs import splits
from benchmark.runs.preset import Preset, RefShapes, defaults, read_preset
from benchmark.runs.spec import RunSpec, Selection
from reports.studies.searches.results import BEST, Results, heading
from reports.studies.searches.trials import key_of, looked_at
from studies.search_space import split_parameters
from studies.study import Started
from studies.trials import suggest


def best_preset(results: Results) -> Preset:
    """Return the preset whose only run is the best trial's.

    If the baseline won, its settings of the searched strategy are the paper's, so that the two can
    be compared by the same file.
    """
    started = results.started
    spec = results.run(BEST).spec
    is_baseline = spec.strategy.is_reference
    chosen = results.search.paper if is_baseline else suggest(results.search, results.best)
    settings, _ = split_parameters(type(spec.recipe), chosen)
    usual = methods.definition(spec.method).recipes[spec.variant]
    changes = {
        field.alias or name: getattr(spec.recipe, name)
        for name, field in type(usual).model_fields.items()
        if getattr(spec.recipe, name) != getattr(usual, name)
    }
    owners = [owner for split in spec.selection.report if (owner := splits.owner(split))]
    usual_report = Selection.model_fields["report"].default
    return Preset(
        description=f"best of study {started.name}",
        methods=(spec.method,),
        strategies=(spec.strategy.name,),
        datasets=(_entry(spec),),
        variants=(spec.variant,),
        seeds=(spec.seed,),
        data=started.data,
        refshapes=_refshapes(started, spec),
        report=tuple(":".join(owner) for owner in owners),
        recipes={spec.method: changes} if changes else {},
        strategy=started.settings | settings,
        # The reported splits of the run's own set follow from the set, so they are not named.
        selection=spec.selection.model_copy(update={"report": usual_report}),
        primary=defaults()["primary"],
        margin=defaults()["margin"],
        execution=started.execution,
        jobs=started.jobs,
    )


def _entry(spec: RunSpec) -> str:
    """Return the data set as presets name it, with its way of splitting if that is not usual."""
    known = spec.dataset in datasets.DATASETS
    is_usual = known and spec.split_by == datasets.get(spec.dataset).split_by
    return spec.dataset if is_usual else f"{spec.dataset}:{spec.split_by}"


def _refshapes(started: Started, spec: RunSpec) -> RefShapes | None:
    """Return how the study's preset writes the embedded data sets.

    It is None if the data are no embedded set, or are others than the preset's.
    """
    if spec.dataset in datasets.DATASETS and datasets.get(spec.dataset).write is not None:
        # The file of the preset may be gone, but the data that it wrote are there.
        with contextlib.suppress(UserError):
            preset = read_preset(started.preset)
            return preset.refshapes if preset.data == started.data else None
    return None


def as_yaml(results: Results) -> str:
    """Return the preset as a file that says where it is from."""
    values = best_preset(results).model_dump(mode="json", exclude_defaults=True)
    head = [
        f"Trial {results.best.number} of study {results.started.name}, the best of"
        f" {len(results.ranked)} complete trials ({looked_at(results.trials)} looked at) by"
        f" {heading(results.started, results.metric)}.",
        f"`risbench run --preset` this file is the run {key_of(results.best)}.",
    ]
    if results.run(BEST).spec.strategy.is_reference:
        head.append(
            f"The baseline won. `strategy` holds the paper's setting of {results.search.strategy},"
            " to be compared with it."
        )
    comments = "".join(f"# {line}\n" for line in head)
    return comments + yaml.safe_dump(values, sort_keys=False, width=120)


def commands(results: Results, path: Path) -> tuple[str, str]:
    """Return the command that makes the best run, and the one that tests the claim with new seeds.

    Args:
        results: the trials and runs of the search.
        path: where the preset is written.
    """
    started = results.started
    where = f" --images {shlex.quote(str(started.images))}" if started.images else ""
    preset = f"--preset {shlex.quote(str(path))}"
    compared = f"{strategies.reference().name},{results.search.strategy}"
    # The best trial is the best with the seed that was searched with.
    seeds = [str(seed) for seed in range(4) if seed not in started.bases][:3]
    return (
        f"risbench run {preset}{where}",
        f"risbench matrix {preset} --name {shlex.quote(started.name)}-claim --strategies {compared}"
        f" --seeds {','.join(seeds)}{where}",
    )
