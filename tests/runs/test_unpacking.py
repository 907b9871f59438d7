"""Archives that anybody may have made, and what may enter the folder of runs."""

import gzip
import io
import os
import random
import shutil
import tarfile
import zlib
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.robustness.conditions import parse_condition
from benchmark.robustness.results import write_results
from benchmark.runs import integrity
from benchmark.runs.archive import pack
from benchmark.runs.groups import write_plan
from benchmark.runs.unpacking import ASIDE, unpack
from tests.reports.fakes import make_run, make_spec, plan


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Return a folder of runs and the archive of all of it."""
    runs = tmp_path_factory.mktemp("packed") / "runs"
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in (0, 1)]
    for spec in specs:
        make_run(runs, spec)
    write_plan(runs, plan(specs))
    (archive,) = pack(runs, runs.parent / "out", 2**24)
    return runs, archive


def tree(folder: Path) -> dict[str, bytes]:
    """Return path -> content of all files but hidden ones, such as locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def crafted(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    """Write an archive of these members, which have a content if they are pairs."""
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
            else:
                archive.addfile(member)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_what_was_packed_comes_back(packed, tmp_path):
    runs, archive = packed
    there = tmp_path / "there"
    assert unpack([archive], there).new == 4
    assert tree(there) == tree(runs)
    again = unpack([archive], there)
    assert (again.new, again.same, again.kept) == (0, 4, [])
    assert not (there / ASIDE).exists()


# A chain of links whose resolved name is too long to be looked at (CVE-2025-4517), and the file
# that goes out through it.
STEP = "d" * 200
CHAIN = [
    *(special("/".join([STEP] * (n + 1)), tarfile.DIRTYPE) for n in range(3)),
    special("a", tarfile.SYMTYPE, "/".join([STEP] * 3)),
    special("b", tarfile.SYMTYPE, "a/../../../.."),
    ("b/outside", b"out"),
]


@pytest.mark.parametrize(
    "members",
    [
        CHAIN,
        [special("link", tarfile.SYMTYPE, "/etc/passwd")],
        [special("hard", tarfile.LNKTYPE, "../../outside")],
        [special("device", tarfile.CHRTYPE)],
        [special("pipe", tarfile.FIFOTYPE)],
        [("../outside", b"out")],
        [("/tmp/outside", b"out")],
        [("key/../../outside", b"out")],
        [(".hidden/x", b"")],
        [("a\nb", b"")],
        [("\x1b[2Jx", b"")],
        [("x" * 300, b"")],
        [("", b"")],
    ],
    ids=lambda members: repr(members[0] if isinstance(members[0], tuple) else members[0].type)[:24],
)
def test_only_files_and_folders_of_plain_names_are_taken(members, packed, tmp_path):
    runs = tmp_path / "folder" / "runs"
    hostile = crafted(tmp_path / "hostile.tar.gz", *members)
    with pytest.raises(UserError, match="nothing of it is unpacked") as caught:
        unpack([packed[1], hostile], runs)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert tree(tmp_path / "folder") == {}


def test_a_bomb_is_refused_before_it_is_opened(tmp_path):
    info = tarfile.TarInfo("key/records/val.parquet")
    info.size = 2**40
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf() + bytes(2**20))
    with pytest.raises(UserError, match="far more room than archives of its size"):
        unpack([path], tmp_path / "runs")
    # A description of a file that would fill the memory.
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "c" * 2**23}
    bomb = crafted(tmp_path / "described.tar.gz", info)
    with pytest.raises(UserError, match="description of a file is far too large"):
        unpack([bomb], tmp_path / "runs")
    assert tree(tmp_path / "runs") == {}


def unchanged(content: bytes, whole: bytes) -> bool:
    """Return whether bytes hold the same as an archive. Some bits of a stream mean nothing."""
    try:
        return gzip.decompress(content) == gzip.decompress(whole)
    except (EOFError, OSError, zlib.error):
        return False


def test_a_damaged_archive_is_named_and_leaves_nothing(packed, tmp_path):
    whole = packed[1].read_bytes()
    chosen = random.Random(3)
    damaged = tmp_path / "damaged.tar.gz"
    for _ in range(40):
        place = chosen.randrange(64, len(whole))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chosen.randrange(8)
        for content in (whole[:place], bytes(flipped)):
            if unchanged(content, whole):
                continue
            damaged.write_bytes(content)
            with pytest.raises(UserError, match=r"damaged\.tar\.gz"):
                unpack([damaged], tmp_path / "runs")
            assert tree(tmp_path / "runs") == {}
    for content in (b"", b"no archive", gzip.compress(b"no archive")):
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged\.tar\.gz is no archive"):
            unpack([damaged], tmp_path / "runs")
    with pytest.raises(UserError, match="there is no archive"):
        unpack([tmp_path / "none.tar.gz"], tmp_path / "runs")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="there is no archive"):
        unpack([tmp_path / "pipe"], tmp_path / "runs")


def test_a_run_is_the_one_that_its_key_says_and_whole(packed, tmp_path):
    runs, _ = packed
    content = tree(runs)
    key, other = sorted({name.split("/")[0] for name in content if "/spec.yaml" in name})[:2]
    own = {name: its for name, its in content.items() if name.startswith(key)}
    for change, said in (
        ({f"{key}/spec.yaml": content[f"{other}/spec.yaml"]}, f"whose spec is that of {other}"),
        ({f"{key}/records/val.parquet": None}, "without records/val.parquet"),
        ({f"{key}/result.json": None}, "without result.json"),
        ({f"{key}/spec.yaml": b"method: [1"}, "spec.yaml is damaged"),
        ({f"{key}/spec.yaml": None}, f"'{key}', which is no run"),
    ):
        members = [(name, its) for name, its in (own | change).items() if its is not None]
        archive = crafted(tmp_path / "changed.tar.gz", *members)
        with pytest.raises(UserError, match=said):
            unpack([archive], tmp_path / "runs")
        assert tree(tmp_path / "runs") == {}


def test_what_is_there_already_is_compared_and_kept(packed, tmp_path):
    runs, archive = packed
    there = tmp_path / "there"
    unpack([archive], there)
    one, two, *_ = sorted(path.parent for path in there.glob("*/spec.yaml"))
    (one / "result.json").write_text("{}")
    (one / "timing.json").unlink(missing_ok=True)
    (two / "metrics.jsonl").unlink(missing_ok=True)
    before = tree(one)
    (two / "records" / "val.parquet").unlink()
    unpacked = unpack([archive], there)
    assert (unpacked.new, unpacked.same, unpacked.kept) == (0, 3, [one.name])
    assert tree(one) == before and tree(two) == tree(runs / two.name)


def test_results_of_two_archives_are_joined_and_so_are_their_digests(tmp_path):
    runs, there = tmp_path / "runs", tmp_path / "there"
    run = make_run(runs, make_spec("baseline", 0))
    integrity.seal(run.path)
    names, archives = [], []
    for condition in ("fog-1", "snow-2"):
        write_results(run, "val", parse_condition(condition), run.records("val"))
        names.append(f"robustness/val/{condition}.parquet")
        archives += pack(runs, tmp_path / condition, 2**24)
    # The second one holds both results, and its list names both. The first one's list does not.
    for order in (archives, archives[::-1]):
        for archive in order:
            assert not unpack([archive], there).kept
        assert {*names} <= integrity.listed(there / run.key).keys()
        assert tree(there) == tree(runs)
        shutil.rmtree(there)


def test_an_unpacking_that_was_interrupted_is_completed_by_the_next(packed, tmp_path, monkeypatch):
    runs, archive = packed
    there = tmp_path / "there"
    rename, left = Path.rename, [2]

    def killed(path: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            unpack([archive], there)
    # A kill -9 would also leave what was laid out.
    (there / ASIDE / "half").mkdir(parents=True)
    for path in there.glob("*/spec.yaml"):
        assert tree(path.parent) == tree(runs / path.parent.name)
    unpack([archive], there)
    assert tree(there) == tree(runs)
