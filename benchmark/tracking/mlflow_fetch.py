"""Lays out what MLflow holds as a folder of runs, from which reports can be written."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import FileInfo
from mlflow.tracking import MlflowClient

from benchmark.base.addresses import masked
from benchmark.base.errors import UserError
from benchmark.runs import groups
from benchmark.tracking.mlflow_client import client_of, database_file, readable_errors
from benchmark.tracking.mlflow_experiment import NAME
from benchmark.tracking.mlflow_models import WEIGHTS

# No report reads these.
LEFT = {WEIGHTS, "images", "report"}


@contextlib.contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """Give a folder that holds what a store shows, laid out like a folder of runs.

    Args:
        uri: tracking address.

    Raises:
        UserError: the store cannot be used, or it holds no run of the suite.
    """
    file = database_file(uri)
    if file and not file.exists():
        raise UserError(f"there is no database {file}: give the address that was synced to.")
    with tempfile.TemporaryDirectory(prefix="risbench-") as temporary:
        folder = Path(temporary)
        with readable_errors(uri):
            _fetch(client_of(uri), folder)
        if not any(folder.iterdir()):
            raise UserError(
                f"{masked(uri)} holds no runs of the suite: `risbench sync` brings them there."
            )
        yield folder


def _fetch(client: MlflowClient, folder: Path) -> None:
    """Copy the artifacts of all runs, and of their plans, into a folder."""
    for experiment in client.search_experiments():
        token = None
        while True:
            found = client.search_runs(
                [experiment.experiment_id], f"tags.`{NAME}` != ''", page_token=token
            )
            for run in found:
                key = run.data.tags.get("ris.key", "")
                if key and not groups.NAME.fullmatch(key):
                    raise UserError(f"the store holds a run with the key '{key}', which is no key.")
                for item in client.list_artifacts(run.info.run_id):
                    if item.path == "plan":
                        # It lies beside the runs, so its parts take the place of the plan.
                        for part in client.list_artifacts(run.info.run_id, item.path):
                            _copy(client, run.info.run_id, part, folder)
                    elif key and item.path not in LEFT:
                        _copy(client, run.info.run_id, item, folder / key)
            token = found.token
            if not token:
                break


def _copy(client: MlflowClient, run_id: str, item: FileInfo, folder: Path) -> None:
    """Copy a file or a folder of artifacts. The topmost folder `plan` does not enter its path."""
    if item.is_dir:
        for inner in client.list_artifacts(run_id, item.path):
            _copy(client, run_id, inner, folder)
        return
    target = (folder / item.path.removeprefix("plan/")).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise UserError(f"the store holds an artifact '{item.path}', which lies outside its run.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        Path(client.download_artifacts(run_id, item.path, temporary)).replace(target)
