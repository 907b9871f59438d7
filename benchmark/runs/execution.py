"""Where things lie on this machine, and how runs are executed there: made once by the commands and handed down.

Nothing below the commands reads a flag, an environment variable or a preset for them again. No field is part of a run key.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from benchmark.base.errors import UserError, choose
from benchmark.base.pretrained import Source


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes:
        data: folder that holds refcoco/, refcoco+/ ...; None where a run is to find its data where it did last.
        images: folder of the photographs [data/images/train2014].
        runs: folder of the run directories. reports: folder that reports are written to.
        tracking: address of the tracking store [runs/mlflow.db].
        weights: where published starting weights are looked for.
    """

    data: Path | None
    images: Path | None = None
    runs: Path = Path("runs")
    reports: Path = Path("reports/out")
    tracking: str | None = None
    weights: Source = Source()


@dataclasses.dataclass(frozen=True)
class How:
    """What changes no digit of a run.

    Attributes:
        workers: loader processes of a run. checkpoint_seconds: wall time between resume points within an epoch.
        log_every: optimizer steps per line of metrics.
    """

    workers: int = 0
    checkpoint_seconds: float = 60.0
    log_every: int = 10


@dataclasses.dataclass(frozen=True)
class Numerics:
    """What can change the last digits of a run: recorded in `environment.json`, and compared where runs are.

    Attributes:
        device: `auto`, `cpu` or `cuda`. threads: torch's threads, which decide the order of float sums on a CPU.
        processes: among which a batch is dealt (DDP).
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    processes: int = 1


_LEAST = {"workers": 0, "checkpoint_seconds": 0, "log_every": 1, "threads": 1, "processes": 1}
DEVICES = ("auto", "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How runs are executed."""

    how: How = How()
    numerics: Numerics = Numerics()

    @classmethod
    def of(cls, **settings: Any) -> "Execution":
        """Return the execution of flat settings, as presets write them.

        Raises:
            UserError: a setting is not known (the nearest are listed), or its value does not fit.
        """
        for name, value in settings.items():
            choose(name, fields(), "execution setting")
            if name == "device":
                choose(str(value), DEVICES, "device")
            elif (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or value < _LEAST[name]
            ):
                raise UserError(
                    f"execution: {name} is {value!r} and must be a number of at least {_LEAST[name]}."
                )
        halves = {
            half: {name: value for name, value in settings.items() if name in names}
            for half, names in _HALVES.items()
        }
        return cls(How(**halves["how"]), Numerics(**halves["numerics"]))

    def settings(self) -> dict[str, Any]:
        """Return all settings, flat."""
        return dataclasses.asdict(self.how) | dataclasses.asdict(self.numerics)

    def changed(self, **settings: Any) -> "Execution":
        """Return this execution with the settings that are given and not None."""
        return Execution.of(
            **self.settings()
            | {name: value for name, value in settings.items() if value is not None}
        )


_HALVES = {
    "how": {field.name for field in dataclasses.fields(How)},
    "numerics": {field.name for field in dataclasses.fields(Numerics)},
}


def fields() -> list[str]:
    """Return the names of all execution settings."""
    return sorted(_HALVES["how"] | _HALVES["numerics"])


def read_execution(settings: Mapping[str, Any]) -> Execution:
    """Return the execution that a preset's `execution:` describes. Raises as `Execution.of`."""
    return Execution.of(**settings)
