"""What a run is evaluated on while it is trained, the weights that are kept, and its report."""

import shutil
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import save_file

from benchmark.base.files import atomic_write
from benchmark.evaluation import metrics, overlays
from benchmark.evaluation.inference import load_best
from benchmark.evaluation.predict import evaluate
from benchmark.evaluation.records import canonical, frame
from benchmark.runs.resolve import Opened
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from methods.contract import Method

OVERLAY_IMAGES = 6


class Report:
    """Evaluates the network of a run, keeps its best weights, and reports it in the end.

    Several processes evaluate together, and the main one writes.

    Attributes:
        seconds: spent on evaluation so far.

    Args:
        spec: of the run.
        run: its directory.
        opened: its data.
        method: the network, as it is trained.
        accelerator: which processes there are.
        workers: loader processes.
        on_image: is called with the name of the split after every image.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunDir,
        opened: Opened,
        method: Method,
        accelerator: Accelerator,
        workers: int,
        on_image: Callable[[str], None],
    ) -> None:
        self.spec, self.run, self.opened, self.method = spec, run, opened, method
        self.accelerator, self.workers, self.on_image = accelerator, workers, on_image
        self.dataset, self.tokenizer = opened.run(spec)
        self.seconds = 0.0

    def evaluate(self, split: str) -> pd.DataFrame:
        """Return the records of a split, made by all processes together."""
        started = time.monotonic()
        dataset, own_name = self.opened.split(self.spec, split)
        processes = self.accelerator.num_processes
        records = evaluate(
            self.method,
            dataset,
            own_name,
            self.tokenizer,
            self.accelerator.device,
            workers=self.workers,
            share=(self.accelerator.process_index, processes),
            on_image=lambda _: self.on_image(split),
        )
        if processes > 1:
            records = frame(gather_object(records.to_dict("records")))
        self.seconds += time.monotonic() - started
        return records

    def keep(self, records: pd.DataFrame) -> None:
        """Keep the weights as they are now, with their records of the selection split."""
        if not self.accelerator.is_main_process:
            return
        # A run may be trained again, its status deleted. Its results under conditions are then
        # those of other weights.
        shutil.rmtree(self.run.path / "robustness", ignore_errors=True)
        state = self.method.state_dict()
        weights = {name: value.contiguous().cpu() for name, value in state.items()}
        best = self.run.path / "best.safetensors"
        atomic_write(best, lambda aside: save_file(weights, aside))
        self.run.write_records(self.spec.selection.split, records)

    def write(self, best: dict[str, float], tell: Callable[[str], None]) -> None:
        """Evaluate the reported splits with the kept weights; write records, numbers and overlays.

        Args:
            best: the chosen epoch and its value of the selection metric.
            tell: is called with what is being done.
        """
        # The main process may still be writing the best weights.
        self.accelerator.wait_for_everyone()
        load_best(self.run, self.method)
        is_main, selection = self.accelerator.is_main_process, self.spec.selection
        selected = {**best, "split": selection.split, "metric": selection.metric}
        result: dict[str, Any] = {"selected": selected}
        for split in selection.report:
            tell(f"evaluating {split}")
            if split != selection.split:
                records = self.evaluate(split)
                if is_main:
                    self.run.write_records(split, records)
            if is_main:
                result[split] = canonical(metrics.compute(self.run.records(split)))
        if is_main:
            overlays.write(
                self.run,
                self.method,
                self.dataset,
                selection.split,
                self.tokenizer,
                self.accelerator.device,
                OVERLAY_IMAGES,
            )
            self.run.write_json("result.json", result)
