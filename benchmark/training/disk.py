"""The disk that a run takes, which is known before its first step.

A run keeps the weights of its best epoch, its records and its masks. While it is trained, it also
has a resume point, and a second one beside it while that is written.
"""

import dataclasses

from torch import nn

from benchmark.base.errors import WorldError
from benchmark.base.files import free_bytes
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec

# Records and masks took 50 to 120 bytes an expression on the embedded data sets. Masks of larger
# photographs have longer outlines.
BYTES_PER_EXPRESSION = 500


@dataclasses.dataclass(frozen=True)
class Disk:
    """What a run takes, in bytes.

    Attributes:
        kept: for good.
        under_way: while it is trained, beyond what it keeps.
    """

    kept: int
    under_way: int


def disk(network: nn.Module, spec: RunSpec, opened: Opened) -> Disk:
    """Return what a run takes.

    Args:
        network: the network of the run, which may be one on the device `meta`.
        spec: the spec of the run.
        opened: reads the data sets of the run.
    """
    reported = [opened.split(spec, name) for name in spec.selection.report]
    expressions = sum(
        len(ref.sentences) for dataset, split in reported for ref in dataset.refs_of(split)
    )
    weights = sum(value.nbytes for value in network.state_dict().values())
    trained = sum(value.nbytes for value in network.parameters() if value.requires_grad)
    resume_point = weights + 2 * trained  # Adam has two moments of each trained weight.
    return Disk(weights + BYTES_PER_EXPRESSION * expressions, 2 * resume_point)


def check_room(run: RunDir, needed: Disk) -> None:
    """Check that a run fits on its disk, of which it may have taken a part already.

    Raises:
        WorldError: it does not fit.
    """
    taken = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    missing = needed.kept + needed.under_way - taken
    if (free := free_bytes(run.path)) < missing:
        raise WorldError(
            f"run {run.key} takes {missing / 1e9:.2f} GB more of the disk of {run.path}, where"
            f" {free / 1e9:.2f} GB are free: make room (`risbench clean` lists what can go) or"
            " choose another --runs folder, and start the same command again."
        )
