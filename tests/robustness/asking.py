"""How tests evaluate finished runs under conditions."""

from rich.console import Console

from benchmark.robustness.corruptions import Condition
from benchmark.robustness.occlusion import Occlusion
from benchmark.robustness.run import evaluate_conditions
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened, opened_for, places_of

CONDITIONS = [
    Condition("gaussian_noise", 3),
    Condition("fog", 5),
    Occlusion("referent", 0),
    Occlusion("image", 50),
]
QUIET = Console(quiet=True)


def opened(run):
    return Opened(places_of(run, Places(None, runs=run.path.parent)))


def ask(runs, its=CONDITIONS, **how):
    shared = opened_for(Places(None, runs=runs[0].path.parent))
    return evaluate_conditions(runs, ["val"], its, shared, QUIET, device="cpu", **how)
