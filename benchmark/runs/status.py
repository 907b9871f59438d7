"""How far a run is, which its `status.json` says."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

HEARTBEAT_SECONDS = 10

State = Literal["planned", "running", "done", "failed", "pruned", "damaged"]


class RunStatus(BaseModel):
    """How far a run is.

    Attributes:
        state: how far the run is. An interrupted run is `planned`, too, and goes on from its
            resume point. A `damaged` one counts nowhere, and is made again by whatever runs it.
        heartbeat: when the status was written, in seconds since 1970.
        host: the machine that wrote it. Statuses of earlier versions do not say.
        step: the number of optimizer steps that are done.
        steps: the number of all optimizer steps, or 0 where it is not known yet.
        epoch: the epoch that was begun last.
        best: the selection metric at the best epoch so far, as a fraction. It is None before the
            first evaluation.
        message: what the run is doing.
        reason: why the run failed, or what of it is damaged.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: State = "planned"
    heartbeat: float = 0.0
    host: str = ""
    step: int = 0
    steps: int = 0
    epoch: int = 0
    best: float | None = None
    message: str = ""
    reason: str = ""

    @property
    def progress(self) -> dict[str, Any]:
        """The fields that outlive a change of state: the steps and the best value."""
        return {name: value for name in ("step", "steps", "best") if (value := getattr(self, name))}
