"""The files of a run: its JSON files, its metrics, and the records and masks of each split.

Each is validated when it is read. A file that is written again is written under another name and
then renamed, so a reader never sees half of it. Reading needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.base.errors import UserError, WorldError
from benchmark.base.files import atomic_write
from benchmark.runs import integrity

if TYPE_CHECKING:
    import pandas as pd

ANEW = "delete the folder and start the run again"


class RunFiles:
    """The files in the directory of a run.

    Attributes:
        path: the folder, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def key(self) -> str:
        """The run key, which is the folder's name."""
        return self.path.name

    def damaged(self, name: str, what: str = "", remedy: str = "") -> WorldError:
        """Return the error that says that a file is damaged.

        Args:
            name: the file, relative to the run directory.
            what: what is wrong with it, if that is known.
            remedy: what to do. By default the run is started again, which makes the file anew.
        """
        if not remedy:
            remedy = f"make it again with `risbench resume {self.key} --runs {self.path.parent}`"
            # Without a list of digests, that command does not see what is damaged.
            if not integrity.listed(self.path):
                remedy = f"delete status.json beside it, and {remedy}"
        return WorldError(f"{self.path / name} is damaged{f' ({what})' if what else ''}: {remedy}.")

    # --- JSON files -------------------------------------------------------------------

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file, whole or not at all.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        text = json.dumps(content, indent=1) + "\n"
        atomic_write(self.path / name, lambda temporary: temporary.write_text(text))
        integrity.renew(self.path, name)

    def read_json(self, name: str, remedy: str = "") -> dict[str, Any]:
        """Return the content of a JSON file, which is empty where there is no such file.

        Args:
            name: the file, relative to the run directory.
            remedy: what to do where it is damaged, as `damaged` takes it.

        Raises:
            WorldError: the file is damaged.
        """
        try:
            content = json.loads(integrity.read(self.path, name))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self.damaged(name, remedy=remedy)
        return content

    # --- metrics ----------------------------------------------------------------------

    def log(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Append one line of metrics.

        Args:
            step: the number of optimizer steps that are done.
            epoch: the epoch that was begun last or, for metrics of val, that was completed last.
            values: metric -> value.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        except OSError as error:
            raise WorldError(
                f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror}): make room."
            ) from None

    def metrics(self) -> list[dict[str, float]]:
        """Return the logged lines, without a last one that a kill cut short.

        Raises:
            WorldError: the file is damaged.
        """
        try:
            text = integrity.read(self.path, "metrics.jsonl").decode()
            # A whole line ends with a line break, so the last part is empty or cut short.
            lines = [json.loads(line) for line in text.split("\n")[:-1]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError):
            lines = [None]
        if not all(isinstance(line, dict) and {"step", "epoch"} <= line.keys() for line in lines):
            raise self.damaged("metrics.jsonl", remedy=ANEW)
        return lines

    def epoch_values(self, split: str, metric: str) -> dict[int, float]:
        """Return evaluated epoch -> the logged value of a metric of `split`."""
        name = f"{split}/{metric}"
        return {line["epoch"]: line[name] for line in self.metrics() if name in line}

    def keep_metrics(self, lines: int) -> None:
        """Keep the first `lines` lines, which the resume point knows.

        The run is about to make the other lines again.
        """
        text = "".join(json.dumps(line) + "\n" for line in self.metrics()[:lines])
        atomic_write(self.path / "metrics.jsonl", lambda temporary: temporary.write_text(text))

    # --- records ----------------------------------------------------------------------

    def write_records(self, split: str, records: pd.DataFrame) -> None:
        """Write the records of one split, one row for each expression.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        path = self.path / "records" / f"{split}.parquet"
        atomic_write(path, lambda temporary: records.to_parquet(temporary, index=False))
        integrity.renew(self.path, f"records/{split}.parquet")

    def records(self, split: str) -> pd.DataFrame:
        """Return the records of one split, one row for each expression.

        Raises:
            UserError: there are none, or the file is damaged.
        """
        # The import takes a second, for which `status` need not wait.
        from pyarrow import BufferReader
        from pyarrow.parquet import ParquetFile

        path = self.path / "records" / f"{split}.parquet"
        try:
            content = integrity.read(self.path, f"records/{split}.parquet")
            # Tables of this size are read fastest by one thread and without pandas' detours.
            return (
                ParquetFile(BufferReader(content))
                .read(use_threads=False)
                .to_pandas(use_threads=False)
            )
        except FileNotFoundError:
            raise UserError(f"run {self.key} has no records of split '{split}' ({path}).") from None
        except (OSError, ValueError):
            raise self.damaged(f"records/{split}.parquet") from None

    # --- masks ------------------------------------------------------------------------

    def masks_path(self, split: str) -> Path:
        """Return where the predicted masks of a split lie. Old runs have none."""
        return self.path / "masks" / f"{split}.parquet"

    def write_masks(self, split: str, masks: pd.DataFrame) -> None:
        """Write the predicted masks of one split, one row for each expression.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        atomic_write(
            self.masks_path(split),
            lambda temporary: masks.to_parquet(temporary, index=False, compression="zstd"),
        )
        integrity.renew(self.path, f"masks/{split}.parquet")

    def masks(self, split: str, sent_ids: Iterable[int] | None = None) -> pd.DataFrame:
        """Return the predicted masks of one split, one row for each expression.

        Args:
            split: name of a reported split.
            sent_ids: the expressions whose masks are read. By default they are all.

        Raises:
            UserError: there are none, or the file is damaged.
        """
        import pandas as pd

        chosen = None if sent_ids is None else [("sent_id", "in", [*sent_ids])]
        path = self.masks_path(split)
        try:
            if integrity.changed(self.path, [f"masks/{split}.parquet"]):
                raise ValueError
            return pd.read_parquet(path, filters=chosen)
        except FileNotFoundError:
            raise UserError(
                f"run {self.key} has no masks of split '{split}', as it was made before masks were"
                f" stored: make them with `risbench predict {self.key} --split {split}`."
            ) from None
        except (OSError, ValueError):
            raise UserError(
                f"{path} is damaged: delete it, and make it again with `risbench predict"
                f" {self.key} --split {split}`."
            ) from None
