"""Puts files into MLflow's artifacts."""

import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.file_utils import local_file_uri_to_path
from PIL import Image

from benchmark.tracking.projection import digest

# Such files grow in place. All others are replaced as a whole, so a link keeps what was sent.
GROWING = (".jsonl", ".txt")


def part_digest(paths: Iterable[Path]) -> str:
    """Return a digest of names and contents of files."""
    contents = [(path.name, digest(path.read_bytes())) for path in paths]
    return digest(json.dumps(contents).encode())


def put(client: MlflowClient, run: Run, paths: Iterable[Path], folder: str) -> None:
    """Put files into a folder of a run's artifacts. "" is the topmost one.

    A store on the same disk gets links, so that weights are not there twice.
    """
    uri = run.info.artifact_uri
    if not uri.startswith("file:"):
        for path in paths:
            client.log_artifact(run.info.run_id, str(path), folder or None)
        return
    target = Path(local_file_uri_to_path(uri)) / folder
    target.mkdir(parents=True, exist_ok=True)
    for path in paths:
        temporary = target / f".{path.name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            if path.suffix in GROWING:
                raise OSError
            os.link(path.resolve(), temporary)
        except OSError:
            # It lies on another disk, or is one of those that grow.
            shutil.copyfile(path, temporary)
        temporary.replace(target / path.name)


def put_contents(
    client: MlflowClient, run: Run, contents: Mapping[str, bytes], folder: str
) -> None:
    """Put contents into a folder of a run's artifacts, each under its name."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in contents.items():
            (Path(temporary) / name).write_bytes(content)
        put(client, run, [Path(temporary) / name for name in contents], folder)


def drop_others(client: MlflowClient, run: Run, part: str, kept: Collection[str] = ()) -> None:
    """Delete the artifacts of a part of a run that its directory does not have any more.

    Args:
        client: of the store.
        run: whose artifacts they are.
        part: path of a file, or of a folder. Folders within it are parts of their own.
        kept: names of files in the folder that stay.
    """
    items = client.list_artifacts(run.info.run_id, part)
    gone = [its.path for its in items if not its.is_dir and Path(its.path).name not in kept]
    repository = get_artifact_repository(run.info.artifact_uri, client.tracking_uri)
    # Nothing of it is left, or it is a file itself.
    for path in gone if len(gone) < len(items) else [part]:
        repository.delete_artifacts(path)


def image_contents(paths: Iterable[Path], epoch: int) -> dict[str, bytes]:
    """Return name -> content of pictures as MLflow's image charts look for them, by epoch.

    `MlflowClient.log_image` does the same under names that are random. These are functions of the
    pictures, so that none is there twice after an interrupted pass.
    """
    contents = {}
    for path in paths:
        content = path.read_bytes()
        written = int(1000 * path.stat().st_mtime)
        number = uuid.UUID(bytes=bytes.fromhex(digest(content)).ljust(16, b"\0"))
        name = f"{path.stem}+step+{epoch}+timestamp+{written}+{number}"
        small = io.BytesIO()
        with Image.open(io.BytesIO(content)) as image:
            compress_image_size(image).save(small, format="WEBP")
        contents |= {f"{name}.png": content, f"{name}+compressed.webp": small.getvalue()}
    return contents
