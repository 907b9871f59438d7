"""Where things lie on this machine, and how runs are executed there.

The commands make both once and hand them down. Nothing below the commands reads a flag, an
environment variable or a preset for them again. No field is part of a run key.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from benchmark.base.errors import UserError, choose
from benchmark.base.pretrained import Source


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes:
        data: the folder that holds refcoco/, refcoco+/ and so on. With None, a run looks for its
            data where it found them last.
        images: the folder of the photographs. None stands for `data`/images/train2014.
        runs: the folder of the run directories.
        reports: the folder that reports are written to.
        tracking: the address of the tracking store. None stands for `runs`/mlflow.db.
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
    """Settings that change no digit of a run.

    Attributes:
        workers: the number of loader processes of a run. With 0, the run loads by itself.
        checkpoint_seconds: wall time between two resume points within an epoch, in seconds.
        log_every: optimizer steps per line of metrics, at least 1.
        stall_seconds: seconds after which a run that makes no step is started anew. Where a step
            takes long, it has `training.stall.FACTOR` times as long.
    """

    workers: int = 0
    checkpoint_seconds: float = 60.0
    log_every: int = 10
    stall_seconds: float = 600.0


@dataclasses.dataclass(frozen=True)
class Numerics:
    """Settings that can change the last digits of a run.

    They are recorded in `environment.json`, and tables warn where two compared runs differ in them.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        threads: torch's threads, which decide the order of float sums on a CPU. At least 1.
        processes: the number of processes that share a batch (DDP), at least 1.
        compile: whether torch compiles the passes of a training step. It fuses operations, so
            their sums come in another order, and dropout has other numbers.
        checkpointing: whether blocks of the network are computed again in the backward pass, which
            takes less memory and more time. A CPU computes the same digits both times.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    processes: int = 1
    compile: bool = False
    checkpointing: bool = False


_LEAST = {
    "workers": 0,
    "checkpoint_seconds": 0,
    "log_every": 1,
    "stall_seconds": 1,
    "threads": 1,
    "processes": 1,
}
_FRACTIONAL = ("checkpoint_seconds", "stall_seconds")
_SWITCHES = ("compile", "checkpointing")
DEVICES = ("auto", "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How runs are executed.

    Attributes:
        how: settings that change no digit of a run.
        numerics: settings that can change the last ones.
    """

    how: How = How()
    numerics: Numerics = Numerics()

    @classmethod
    def of(cls, **settings: Any) -> "Execution":
        """Return the execution that flat settings describe, as presets write them.

        Raises:
            UserError: a setting is not known (the message lists the nearest ones), or its value
                does not fit.
        """
        for name, value in settings.items():
            choose(name, fields(), "execution setting")
            if name == "device":
                choose(str(value), DEVICES, "device")
            elif name in _SWITCHES:
                if not isinstance(value, bool):
                    raise UserError(f"execution: {name} is {value!r} and must be true or false.")
            elif not _fits(name, value):
                kind = "number" if name in _FRACTIONAL else "whole number"
                raise UserError(
                    f"execution: {name} is {value!r} and must be a {kind} of at least"
                    f" {_LEAST[name]}."
                )
        if settings.get("compile") and settings.get("checkpointing"):
            raise UserError(
                "execution: torch does not compile blocks that are computed again here: set compile"
                " or checkpointing to false."
            )
        halves = {
            half: {name: value for name, value in settings.items() if name in names}
            for half, names in _HALVES.items()
        }
        return cls(How(**halves["how"]), Numerics(**halves["numerics"]))

    def settings(self) -> dict[str, Any]:
        """Return all settings in one flat mapping, as `of` takes them."""
        return dataclasses.asdict(self.how) | dataclasses.asdict(self.numerics)

    def changed(self, **settings: Any) -> "Execution":
        """Return this execution with other settings, of which those that are None are ignored.

        Raises:
            UserError: a setting is not known, or its value does not fit.
        """
        changes = {name: value for name, value in settings.items() if value is not None}
        return Execution.of(**self.settings() | changes)


_HALVES = {
    "how": {field.name for field in dataclasses.fields(How)},
    "numerics": {field.name for field in dataclasses.fields(Numerics)},
}


def _fits(name: str, value: object) -> bool:
    """Return whether a setting may have a value."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    is_fraction = name in _FRACTIONAL and isinstance(value, float) and math.isfinite(value)
    return (is_whole or is_fraction) and value >= _LEAST[name]


def fields() -> list[str]:
    """Return the names of all execution settings."""
    return sorted(_HALVES["how"] | _HALVES["numerics"])


def read_execution(settings: Mapping[str, Any]) -> Execution:
    """Return the execution that the `execution:` of a preset describes.

    Raises:
        UserError: a setting is not known, or its value does not fit.
    """
    return Execution.of(**settings)
