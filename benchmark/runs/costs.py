"""What a run costs: its network's size, its speed, its memory and its time.

    runs/<key>/costs.json

Costs are no part of a run's key, and none of its numbers depends on them. Reading needs no torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.base.errors import UserError
from benchmark.runs.rundir import RunDir

FILE = "costs.json"
# Runs of earlier versions have their times alone, in this file. Its rate of images counts the first
# steps, too, and has another name, so that it is not read as the rate of today.
EARLIER = "timing.json"
NOT_MEASURED = "delete it, and the costs of the run count as not measured"


class Device(BaseModel):
    """What a run was executed on.

    Attributes:
        type: `cpu` or `cuda`.
        name: of the processor or of the GPU.
        processes: number of processes that shared a batch.
        threads: threads of each process.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    name: str
    processes: int = Field(ge=1)
    threads: int = Field(ge=1)


class Costs(BaseModel):
    """The costs of a run. What was not measured is None.

    Times are sums over all sessions of a run that was interrupted. Work that was lost, since no
    resume point held it, is not counted.

    Attributes:
        parameters: number of all parameters of the network.
        trained_parameters: number of those that the optimizer changes.
        gflops: 10^9 floating-point operations of the forward pass of one image-sentence pair at the
            size of evaluation. A multiplication with its addition counts as two. Matrix products,
            convolutions and attention are counted, and nothing else.
        training_images_per_second: image-sentence pairs that all processes together took in a
            second of training, without evaluation and without the first steps of each session.
        evaluation_expressions_per_second: expressions that all processes together evaluated in a
            second, with the decoding of images and the decision of masks.
        peak_bytes: most memory that the first process held. On a GPU it is what torch allocated
            there, and on a CPU it is the resident set, with the code of the libraries.
        training_seconds: time of training steps.
        evaluation_seconds: time of all evaluations.
        auxiliary_seconds: time of training the auxiliary, which runs of a method share.
        device: what the run was executed on last.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    parameters: int | None = Field(None, gt=0)
    trained_parameters: int | None = Field(None, ge=0)
    gflops: float | None = Field(None, ge=0)
    training_images_per_second: float | None = Field(None, gt=0)
    evaluation_expressions_per_second: float | None = Field(None, gt=0)
    peak_bytes: int | None = Field(None, gt=0)
    training_seconds: float | None = Field(None, ge=0)
    evaluation_seconds: float | None = Field(None, ge=0)
    auxiliary_seconds: float | None = Field(None, ge=0)
    device: Device | None = None

    @property
    def hours(self) -> float | None:
        """Hours of training and evaluation, without an auxiliary that other runs share."""
        if self.training_seconds is None or self.evaluation_seconds is None:
            return None
        return (self.training_seconds + self.evaluation_seconds) / 3600


def read_costs(run: RunDir) -> Costs | None:
    """Return the costs of a run, or None where none were measured.

    Raises:
        UserError: the file is damaged.
    """
    for name in (FILE, EARLIER):
        if (run.path / name).exists():
            try:
                return Costs.model_validate(run.read_json(name, NOT_MEASURED))
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "the whole"
                raise UserError(
                    f"{run.path / name} is damaged ({field}: {first['msg'].lower()}):"
                    f" {NOT_MEASURED}."
                ) from None
    return None


def write_costs(run: RunDir, costs: Costs) -> None:
    """Write the costs of a run, whole or not at all.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    run.write_json(FILE, costs.model_dump(mode="json"))
