"""A report replaces the one before it as a whole."""

import os
import time

import pytest

from benchmark.base.errors import WorldError
from benchmark.base.files import LEFT_SECONDS
from reports.layout import files

OLD = {"report.md": "old", "figures/one.png": b"1", "page.html": "old page"}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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


def test_a_report_that_cannot_be_written_leaves_the_old_one_whole(tmp_path, monkeypatch):
    files.write(tmp_path, OLD)
    before = content(tmp_path)
    write = files.atomic_write

    def full(path, *arguments):
        if path.name == "page.html":
            raise WorldError("cannot write: make room.")
        write(path, *arguments)

    monkeypatch.setattr(files, "atomic_write", full)
    with pytest.raises(WorldError, match="make room"):
        files.write(tmp_path, {name: "new" for name in OLD}, ["figures"])
    assert content(tmp_path) == before


def test_what_a_killed_writer_left_is_swept(tmp_path):
    left, recent = tmp_path / f"{files.ASIDE}1", tmp_path / f"{files.ASIDE}2"
    for folder in (left, recent):
        folder.mkdir()
    old = time.time() - LEFT_SECONDS - 1
    os.utime(left, (old, old))
    files.write(tmp_path, OLD)
    assert not left.exists() and recent.exists()


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path):
    (tmp_path / "report.md").mkdir()
    with pytest.raises(WorldError, match="cannot write .* directory"):
        files.write(tmp_path, OLD)
    assert not [*tmp_path.glob(f"{files.ASIDE}*")]
