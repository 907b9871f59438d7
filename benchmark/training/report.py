"""The evaluation of a run while it is trained, its best weights, and its report in the end."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import save, save_file
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.evaluation import masks, metrics, overlays
from benchmark.evaluation.inference import load_best
from benchmark.evaluation.predict import evaluate
from benchmark.evaluation.records import Prediction, canonical, frame
from benchmark.evaluation.text_blind import TextBlindBaseline
from benchmark.evaluation.text_blind_scores import write_scores
from benchmark.evaluation.timing import Meter
from benchmark.runs import integrity
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from methods.contract import Method

OVERLAY_IMAGES = 6


class Report:
    """Evaluates the network of a run, keeps its best weights, and reports it in the end.

    Several processes evaluate together, and the main one writes.

    Args:
        spec: the spec of the run.
        run: the directory of the run.
        opened: the data sets and tokenizers that were read.
        method: the method whose network is trained.
        accelerator: knows the processes that work together.
        workers: the number of loader processes.
        on_image: called with the name of the split after each image.

    Attributes:
        meter: has the seconds of evaluation so far, and the number of expressions.
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
        self.spec = spec
        self.run = run
        self.opened = opened
        self.method = method
        self.accelerator = accelerator
        self.workers = workers
        self.on_image = on_image
        self.dataset, self.tokenizer = opened.run(spec)
        self.meter = Meter()

    def evaluate(
        self, split: str, collect: Callable[[Prediction], None] = lambda prediction: None
    ) -> pd.DataFrame:
        """Return the records of a split, which all processes make together.

        Args:
            split: name of the split.
            collect: called with every prediction that this process makes.
        """
        started = time.monotonic()
        dataset, own_name = self.opened.split(self.spec, split)
        processes = self.accelerator.num_processes

        def on_image(prediction: Prediction) -> None:
            self.on_image(split)
            collect(prediction)

        records = evaluate(
            self.method,
            dataset,
            own_name,
            self.tokenizer,
            self.accelerator.device,
            workers=self.workers,
            share=(self.accelerator.process_index, processes),
            on_image=on_image,
        )
        if processes > 1:
            records = frame(gather_object(records.to_dict("records")))
        self.meter.add("evaluation", time.monotonic() - started, len(records))
        return records

    def keep(self) -> None:
        """Keep the present weights as the best."""
        if self.accelerator.is_main_process:
            weights = self._weights()
            path = self.run.path / "best.safetensors"
            atomic_write(path, lambda temporary: save_file(weights, temporary))

    def digest(self) -> str:
        """Return the SHA-256 of the file in which `keep` would keep the present weights."""
        return hashlib.sha256(save(self._weights())).hexdigest()

    def _weights(self) -> dict[str, Tensor]:
        state = self.method.state_dict()
        return {name: value.contiguous().cpu() for name, value in state.items()}

    def check_kept(self, sha256: str) -> None:
        """Check that the kept weights are those that were chosen.

        Args:
            sha256: what `digest` returned when they were.

        Raises:
            UserError: they are of another epoch, or of another attempt at it.
        """
        path = self.run.path / "best.safetensors"
        with path.open("rb") as file:
            kept = hashlib.file_digest(file, "sha256").hexdigest()
        if kept != sha256:
            raise UserError(
                f"{path} does not have the weights that the run chose: delete the folder"
                f" {self.run.path / 'state'} and start the same command again, which trains anew."
            )

    def write(self, best: dict[str, float], tell: Callable[[str], None]) -> None:
        """Evaluate the reported splits with the kept weights, and write the results.

        These are the records and masks of every split, its metrics, and a few overlays. The split
        that chose the epoch is evaluated again, too, so that all of it is of the kept weights.

        A weakly supervised run that one process evaluates also keeps its text-blind numbers.
        Several processes do not share their images, so `risbench evaluate` measures them then.

        Args:
            best: the chosen epoch and its value of the selection metric.
            tell: called with what is being done.
        """
        # The main process may still be writing the best weights.
        self.accelerator.wait_for_everyone()
        load_best(self.run, self.method)
        is_main = self.accelerator.is_main_process
        if is_main:
            integrity.unseal(self.run.path)
        selection = self.spec.selection
        selected = {**best, "split": selection.split, "metric": selection.metric}
        result: dict[str, Any] = {"selected": selected}
        for split in selection.report:
            tell(f"evaluating {split}")
            baseline = self._text_blind_baseline()
            records, predicted = self._with_masks(split, baseline)
            if is_main:
                self.run.write_masks(split, predicted)
                self.run.write_records(split, records)
                written = self.run.records(split)
                result[split] = canonical(metrics.compute(written))
                if baseline:
                    write_scores(self.run, split, baseline.numbers(), written)
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

    def _text_blind_baseline(self) -> TextBlindBaseline | None:
        """Return what collects the text-blind numbers of a split, or None where nobody does."""
        is_weak = self.method.definition.weakly_supervised
        is_alone = self.accelerator.num_processes == 1
        return TextBlindBaseline(self.method) if is_weak and is_alone else None

    def _with_masks(
        self, split: str, baseline: TextBlindBaseline | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the records and the masks of a split, which all processes make together."""
        rows: list[dict[str, Any]] = []

        def collect(prediction: Prediction) -> None:
            rows.extend(masks.rows_of(prediction))
            if baseline:
                baseline.add(prediction)

        records = self.evaluate(split, collect)
        if self.accelerator.num_processes > 1:
            rows = gather_object(rows)
        return records, masks.frame(rows)
