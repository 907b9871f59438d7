"""A report replaces the one before it as a whole."""

import contextlib
import errno
import functools
import itertools
import os
import signal
import sys

import pytest

from benchmark.base.errors import WorldError
from reports.layout import files

OLD = {"report.md": "old", "figures/one.png": b"1", "page.html": "old page"}
NEW = {"report.md": "new", "figures/two.png": b"2", "page.html": "new page"}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def content_of(contents):
    return {file: its if isinstance(its, bytes) else its.encode() for file, its in contents.items()}


def test_old_files_of_owned_folders_go_and_others_stay(tmp_path):
    files.write(tmp_path, OLD)
    (tmp_path / "notes.txt").write_text("mine")
    paths = files.write(tmp_path, {"report.md": "new", "figures/two.png": b"2"}, ["figures"])
    assert paths == [tmp_path / "report.md", tmp_path / "figures" / "two.png"]
    assert content(tmp_path) == {
        "report.md": b"new",
        "figures/two.png": b"2",
        "page.html": b"old page",
        "notes.txt": b"mine",
    }


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_report_that_cannot_be_written_leaves_the_old_one_whole(tmp_path, monkeypatch, failing):
    files.write(tmp_path, OLD)
    before = content(tmp_path)
    calls = itertools.count(1)

    def full(_):
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorldError, match="No space left on device: .* MB were free then"):
        files.write(tmp_path, {name: "new" for name in OLD} | {"page.html": bytes(2 * 10**6)})
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["report.md", "figures/one.png"])
def test_a_folder_in_the_place_of_a_file_is_said_before_anything_is_replaced(tmp_path, name):
    files.write(tmp_path, OLD)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    before = content(tmp_path)
    with pytest.raises(WorldError, match=f"cannot write .*/{name} is a directory"):
        files.write(tmp_path, {file: "new" for file in OLD})
    assert content(tmp_path) == before


def in_child(act):
    """Fork a child that does something, and return its process id. It exits with 0 if it could."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            act()
            code = 0
        os._exit(code)
    return child


def killed_at(operation, folder):
    """Write the new report in a child that is killed with -9 at some operation on files.

    Return whether it lived to the end.
    """
    events = itertools.count(1)

    def kill(event, _):
        # The names of audit events are those of the functions of `os` and `shutil`.
        if event.split(".")[0] in ("open", "os", "shutil") and next(events) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    def write():
        sys.addaudithook(kill)
        files.write(folder, NEW, ["figures"])

    _, status = os.waitpid(in_child(write), 0)
    assert status in (0, signal.SIGKILL)
    return status == 0


def test_a_writer_that_is_killed_leaves_the_old_report_or_a_whole_new_one(tmp_path):
    """It is killed before each of its operations on files."""
    old, new = content_of(OLD), content_of(NEW)
    ends = []
    for operation in itertools.count(1):
        folder = tmp_path / str(operation)
        files.write(folder, OLD)
        lived = killed_at(operation, folder)
        before = content(folder)
        # The next start writes something else, and whatever the killed one left is gone then.
        files.write(folder, {"other.csv": "1"})
        found = content(folder)
        assert found.pop("other.csv") == b"1"
        assert [path.name for path in folder.glob(".*")] == [files.LOCK]
        ends.append("old" if found == old else "new")
        if ends[-1] == "old":
            assert before == old
        else:
            # A picture that the new report does not have may stay until the next whole one.
            spare = {} if lived else {"figures/one.png": b"1"}
            assert found in (new, new | spare)
        if lived:
            break
    assert ends == sorted(ends, reverse=True) and ends.count("old") > 5 and ends.count("new") > 3


def test_two_reports_at_once_leave_one_of_the_two(tmp_path):
    every = [{f"figures/{number}.png": text for number in range(20)} for text in ("one", "two")]

    def write(contents):
        for _ in range(20):
            files.write(tmp_path, contents, ["figures"])

    children = [in_child(functools.partial(write, contents)) for contents in every]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert content(tmp_path) in [content_of(contents) for contents in every]
