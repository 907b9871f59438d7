"""Files are written whole or not at all, whoever writes them and however the disk fails."""

import errno
import os
import socket
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from benchmark.base.errors import UserError, WorldError
from benchmark.base.files import (
    MOST_JSON,
    atomic_write,
    open_regular,
    read_bytes,
    read_json,
    read_model,
    read_yaml,
)
from tests.helpers import PROJECT

# A limit on the size of files stands for a disk that is full: torch and safetensors find out in
# the middle of writing, as they would there.
LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from benchmark.base.errors import WorldError
from benchmark.base.files import atomic_write

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
many = {"w": torch.zeros(2**16)}
writers = {
    "torch": lambda path: torch.save(many, path),
    "safetensors": lambda path: save_file(many, path),
    "bytes": lambda path: path.write_bytes(bytes(2**18)),
}
path = Path(sys.argv[1])
try:
    atomic_write(path, writers[sys.argv[2]])
except WorldError as error:
    print(error)
"""


@pytest.mark.parametrize("writer", ["torch", "safetensors", "bytes"])
def test_a_disk_that_fills_leaves_the_old_file_and_says_so(writer, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"before")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), writer],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {path} (") and done.stdout.count("\n") == 1
    assert path.read_bytes() == b"before" and [*tmp_path.iterdir()] == [path]


def test_how_much_room_there_was_is_said(tmp_path):
    def full(path):
        path.write_bytes(bytes(3_000_000))
        raise OSError(errno.ENOSPC, "No space left on device")

    said = r"No space left on device: 3\.0 MB were written, and [\d.]+ MB were free then"
    with pytest.raises(WorldError, match=said):
        atomic_write(tmp_path / "file", full)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), UserError("said")])
def test_other_errors_stay_what_they_are_and_nothing_is_left(error, tmp_path):
    def broken(path):
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        atomic_write(tmp_path / "file", broken)
    assert caught.value is error and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_of_the_umask(mask, tmp_path):
    weights = {"w": torch.zeros(3)}
    before = os.umask(mask)
    try:
        atomic_write(tmp_path / "safetensors", lambda path: save_file(weights, path))
        atomic_write(tmp_path / "torch", lambda path: torch.save(weights, path))
        atomic_write(tmp_path / "text", lambda path: path.write_text("text"))
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~mask}


def test_what_killed_writers_left_is_deleted(tmp_path):
    kept = [".file.12345", ".file.tmp", ".other.77", ".file.txt.5"]
    for name in (*kept, ".file.777"):
        (tmp_path / name).write_text("half")
        if name != ".file.12345":  # Its writer may still be at work.
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    atomic_write(tmp_path / "file", lambda path: path.write_text("whole"))
    assert {path.name for path in tmp_path.iterdir()} == {"file", *kept}


# --- reading --------------------------------------------------------------------------


@pytest.fixture(params=["folder", "pipe", "socket", "device", "link to a device"])
def no_file(request, tmp_path, monkeypatch):
    """A path at which something else than a file lies."""
    path = tmp_path / "there"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        monkeypatch.chdir(tmp_path)  # The path of a socket has 108 characters at most.
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("there")
    elif request.param == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    return path


def test_what_is_no_regular_file_is_neither_read_nor_waited_for(no_file):
    with pytest.raises(OSError):
        open_regular(no_file)
    with pytest.raises(UserError, match=f"^{no_file} cannot be read"):
        read_bytes(no_file)
    with pytest.raises(UserError, match=f"^preset {no_file} cannot be read|^{no_file} cannot"):
        read_yaml(no_file, "preset", ())


LAUGHS = "\n".join(
    f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}" if level else "ha"] * 10) + "]"
    for level in range(30)
)
MERGES = "\n".join(
    f"a{level}: &a{level} {{k: 1, <<: ["
    + ", ".join([f"*a{level - 1}"] * 10 if level else [])
    + "]}"
    for level in range(30)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        MERGES,
        "&a [*a]",
        "[" * 500_000,
        "- " * 300_000 + "x",
        "[" * 400_000 + "]" * 400_000,
        "{a: " * 200_000,
        "[" + "x," * 400_000 + "]",
        "x" * 2**21,
    ],
)
def test_a_bomb_of_yaml_ends_soon_in_one_sentence(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(UserError, match=f"^preset {path} is no valid YAML [^\n]*$"):
        read_yaml(path, "preset", ())
    assert time.process_time() - started < 5


def test_anchors_and_merges_of_a_usual_size_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n")
    assert read_yaml(path, "preset", ()) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**6, "9" * 10**6, "[" * 900 + "]" * 900])
def test_a_bomb_of_json_is_a_value_or_one_sentence(text, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(text)
    try:
        read_json(path)
    except UserError as error:
        assert str(error).startswith(f"{path} is damaged") and "\n" not in str(error)
    else:
        assert len(text) == 1800


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"its content")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"its content"


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="sparse cannot be read .it has more than 1,074 MB"):
        read_bytes(tmp_path / "sparse")


class Inner(BaseModel, extra="forbid"):
    metric: str = "iou"


class Outer(BaseModel, extra="forbid"):
    selection: Inner | None = None
    epochs: int = 1


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epoch": 3}, "it: field 'epoch' is not known: did you mean epochs"),
        (
            {"selection": {"metrc": "iou"}},
            "it: selection: field 'metrc' is not known: did you mean metric",
        ),
    ],
)
def test_a_misspelt_field_is_answered_with_the_nearest_of_its_own_model(values, message):
    with pytest.raises(UserError, match=message):
        read_model(Outer, values, "it")


@pytest.mark.parametrize("part", ["[],", '{"a":[]},', "[" * 10])
def test_a_json_file_of_nothing_but_brackets_is_refused_before_it_is_made(tmp_path, part):
    """Forty megabytes of them would become eight hundred."""
    path = tmp_path / "instances.json"
    path.write_text("[" + part * (MOST_JSON // part.count("[") + 1))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="more than 6,000,000 lists and objects"):
            read_json(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * path.stat().st_size
    finally:
        tracemalloc.stop()
