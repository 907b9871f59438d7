"""The cache of texts saves time alone: it never gives a wrong text, and never fails."""

import os

import pytest

from benchmark.base import cache


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "risbench" / "things"


def test_a_text_comes_back_under_its_own_key_alone(folder):
    key = cache.key_of("a", 1, {"b": [2]})
    assert cache.recall("things", key) is None and cache.age("things", key) is None
    cache.keep("things", key, "é\nline\n")
    assert cache.recall("things", key) == "é\nline\n"
    assert 0 <= cache.age("things", key) < 60
    assert cache.recall("others", key) is None
    assert cache.recall("things", cache.key_of("a", 1, {"b": [3]})) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content.replace(b"good", b"evil"),
        lambda content: b"",
        lambda content: b"\xff" + content,
    ],
)
def test_a_damaged_text_counts_as_missing(folder, damage):
    cache.keep("things", "key", "a good text")
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.recall("things", "key") is None
    cache.keep("things", "key", "a good text")
    assert cache.recall("things", "key") == "a good text"


def test_a_folder_that_cannot_be_made_is_no_error(folder):
    folder.parent.write_text("a file in its place")
    cache.keep("things", "key", "text")
    assert cache.recall("things", "key") is None


def test_the_oldest_texts_go(folder, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 2)
    for age, key in enumerate("abc"):
        cache.keep("things", key, key)
        os.utime(folder / f"{key}.txt", (0, age))
    cache.keep("things", "d", "d")
    assert [cache.recall("things", key) for key in "abcd"] == [None, None, "c", "d"]
