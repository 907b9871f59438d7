"""The digest of a data set, and the cache that it is read from."""

import os
from pathlib import Path

import pytest

from benchmark.base import cache
from benchmark.base.errors import UserError
from benchmark.data import digests
from benchmark.data.refer import read_refer
from tests.data.refer_files import ref, write


def digest(root, images=None):
    return read_refer(root, "refcoco", "unc", images).digest()


def age(root):
    """Make all files a minute old: what was written just now is hashed every time."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_atime - 60, path.stat().st_mtime - 60))


def cached():
    """Return the files of the cache."""
    return [*(Path(os.environ["XDG_CACHE_HOME"]) / "risbench" / digests.KIND).iterdir()]


def test_the_digest_does_not_depend_on_where_or_under_which_name_files_lie(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b" / "c")
    (second / "images" / "train2014" / "COCO_train2014_000000000001.jpg").rename(
        tmp_path / "000000000001.jpg"
    )
    assert digest(first) == digest(second, tmp_path) == digest(first)
    assert len(digest(first)) == 64


def test_the_digest_is_the_same_from_the_cache_and_the_cache_is_used(tmp_path):
    age(write(tmp_path))
    fresh = digest(tmp_path)
    (kept,) = cached()
    assert cache.recall(digests.KIND, kept.stem) == fresh == digest(tmp_path)
    cache.keep(digests.KIND, kept.stem, "f" * 64)
    assert digest(tmp_path) == "f" * 64
    for damaged in ("{", "", kept.read_text().replace("f", "e")):
        kept.write_text(damaged)
        assert digest(tmp_path) == fresh
    assert cached() == [kept]


def test_files_that_were_written_just_now_are_not_cached(tmp_path):
    digest(write(tmp_path))
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    age(write(tmp_path / "data"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(digest(tmp_path / "data")) == 64


def test_a_changed_image_or_annotation_changes_the_digest(tmp_path):
    age(write(tmp_path, [ref(), ref(1)], image_ids=(1, 2)))
    seen = {digest(tmp_path)}
    image = tmp_path / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    content = bytearray(image.read_bytes())
    content[-5] ^= 1
    image.write_bytes(content)  # of the same size
    seen.add(digest(tmp_path))
    refs = tmp_path / "refcoco" / "refs(unc).p"
    refs.write_bytes(refs.read_bytes().replace(b"train", b"testA"))
    seen.add(digest(tmp_path))
    instances = tmp_path / "refcoco" / "instances.json"
    instances.write_text(instances.read_text() + " ")
    seen.add(digest(tmp_path))
    assert len(seen) == 4
    before = digest(tmp_path)
    unused = tmp_path / "images" / "train2014" / "COCO_train2014_000000000002.jpg"
    unused.write_bytes(b"no ref uses this image")
    assert digest(tmp_path) == before


def test_a_missing_image_has_no_digest(tmp_path):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    dataset.image_path(1).unlink()
    with pytest.raises(UserError, match="Image 1 is missing"):
        dataset.digest()
