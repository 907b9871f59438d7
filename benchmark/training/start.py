"""The start and the stop of a training: processes, optimizer, published weights and signals."""

import contextlib
import datetime
import signal
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from benchmark.base import pretrained
from benchmark.base.errors import UserError
from benchmark.evaluation.devices import pick_device
from benchmark.runs.spec import RunSpec
from benchmark.training import auxiliary
from methods.config import Definition
from methods.contract import Method
from methods.precision import set_float32

PREPARATION = datetime.timedelta(days=1)  # that processes wait for each other


def join_processes(device: str, precision: str) -> Accelerator:
    """Return what the processes of a run share, which is a single one where torchrun started none.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: the one of the recipe.

    Raises:
        UserError: the device cannot be used.
    """
    wanted = pick_device(device)
    # Precision is the method's own affair (`methods.precision`), in evaluation, too.
    set_float32(precision)
    accelerator = Accelerator(
        mixed_precision="no",
        cpu=wanted.type == "cpu",
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            # The preparation may take hours, and what hangs is noticed by the stall watch.
            InitProcessGroupKwargs(timeout=PREPARATION),
        ],
    )
    if accelerator.device.type != wanted.type:
        raise UserError(
            f"accelerate takes the device {accelerator.device} where {wanted} was asked for: unset"
            " ACCELERATE_TORCH_DEVICE and ACCELERATE_USE_CPU."
        )
    return accelerator


def build_optimizer(method: Method, spec: RunSpec) -> torch.optim.Optimizer:
    """Return the recipe's optimizer (Adam or AdamW) over the method's published groups."""
    recipe = spec.recipe
    groups = [
        {"weight_decay": recipe.weight_decay, **group} for group in method.parameter_groups(recipe)
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate, fused=True)


def start_from_published(method: Method, spec: RunSpec, source: pretrained.Source) -> None:
    """Start the encoders from the published weights that the spec names.

    Args:
        method: the method whose network gets the weights.
        spec: the spec of the run.
        source: where published weights are looked for.

    Raises:
        UserError: the weights cannot be found, or are not those that the run's key names.
    """
    weights = method.weights.starting_weights(spec.network, source)
    if pretrained.digest(weights) != spec.weights:
        raise UserError(
            f"the weights '{spec.network.pretrained}' on this machine are not those of the run"
            f" (digest {spec.weights}): restore them, or plan the matrix again for these."
        )
    # The weights of the auxiliary come with them and are no part of the network.
    own = {name: value for name, value in weights.items() if not name.startswith(auxiliary.PREFIX)}
    pretrained.start(method.network, own, spec.network.pretrained)


def check_dealing(definition: Definition, smallest: int, world: int, device: torch.device) -> None:
    """Check that several processes compute the loss that one process computes.

    Args:
        definition: the method.
        smallest: number of samples of the smallest micro-batch.
        world: number of processes, at least 2.
        device: of the processes.

    Raises:
        UserError: they would not. The message says why.
    """
    alone = "start it with --processes 1."
    if definition.couples_batch:
        raise UserError(
            f"the loss of {definition.name} depends on the samples of a batch together, so it is"
            f" not dealt to several processes: {alone}"
        )
    if definition.batch_norm and device.type == "cpu":
        raise UserError(
            f"{definition.name} has BatchNorm, which processes share on GPUs alone: {alone}"
        )
    if definition.batch_norm and smallest < world:
        raise UserError(
            f"{definition.name} has BatchNorm, and a micro-batch of {smallest} leaves some of"
            f" {world} processes without a sample: start fewer, or raise recipe.micro_batch."
        )


class Stop:
    """Heeds Ctrl-C and SIGTERM.

    Attributes:
        asked: whether one of these signals has come.
        at_once: whether a signal raises KeyboardInterrupt where it comes, beside being remembered.
    """

    def __init__(self) -> None:
        self.asked = False
        self.at_once = False
        self._group: torch.distributed.ProcessGroup | None = None

    @contextlib.contextmanager
    def heeded(self, at_once: bool) -> Iterator[None]:
        """Heed the signals while a block runs.

        Args:
            at_once: what `at_once` is inside of the block.
        """
        before = self.at_once
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.at_once = at_once
        for number in previous:
            signal.signal(number, self._ask)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.at_once = before

    def _ask(self, *_: object) -> None:
        self.asked = True
        if self.at_once:
            raise KeyboardInterrupt

    def agreed(self, accelerator: Accelerator) -> bool:
        """Return whether any process was asked to stop.

        All processes call it at the same point, and get the same answer. A process that went on
        alone would wait for the others without end. They agree on their CPUs, since an answer from
        a GPU would have to wait for all steps that it was given.
        """
        if accelerator.num_processes == 1:
            return self.asked
        if self._group is None:
            self._group = torch.distributed.new_group(timeout=PREPARATION, backend="gloo")
        asked = torch.tensor(float(self.asked))
        torch.distributed.all_reduce(asked, group=self._group)
        return asked.item() > 0
