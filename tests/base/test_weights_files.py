"""Files of weights that say more of themselves than they are end in a sentence, at once."""

import io
import json
import os
import pickle
import socket
import struct
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from benchmark.base import weights_files
from benchmark.base.errors import UserError, WorldError
from benchmark.base.pretrained import Source
from benchmark.evaluation import checkpoint_reading
from methods.backbones import bert, clip, swin

WEIGHTS = {"backbone.weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def archive(path, pickled, compression=zipfile.ZIP_STORED, name="data.pkl", **members):
    """Write a zip archive as torch lays it out."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"archive/{name}", pickled)
        for member, content in {"version": "3\n", **members}.items():
            file.writestr(f"archive/{member}", content)


def old(path, pickled):
    """Write a file as torch did before it wrote archives, with `pickled` as its content."""
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(pickled)


def compressed(path):
    torch.save(WEIGHTS, path)
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content + bytes(10**8 if name.endswith("data/0") else 0))


def overlapping(path):
    """Point the entries of an archive's directory at one and the same member."""
    archive(path, b"\x80\x02N.", data=bytes(50_000), more=bytes(50_000), most=bytes(50_000))
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    start = content.index(b"PK\x01\x02")
    directory = content[start:end]
    first = content.index(b"archive/data") + len(b"archive/data")
    body = content[: first + 50_000]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 5, 5, len(directory), len(body), 0)
    path.write_bytes(body + directory + tail)


def deep(opening, closing, depth=400_000):
    """Return the pickle of a dict whose one key or value is deeply nested."""
    return b"\x80\x02}(" + opening * depth + b"N" + closing * depth + b"K\x01u."


def header(text, length=None):
    content = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content


def text(value):
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def encoded(codec, times):
    """Return the pickle of bytes that are encoded again and again."""
    value = b"c_codecs\nencode\n" + text("a") + text("latin1") + b"\x86R"
    for _ in range(times):
        value = b"c_codecs\nencode\n" + value + text(codec) + b"\x86R"
    return b"\x80\x02" + value + b"."


# Zeros of this many bytes, which are copied.
ZEROS = b"cbuiltins\nbytearray\ncbuiltins\nbytearray\nJ\x00\x00\x00\x70\x85R\x85R"
TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MANY = b"{" + b",".join(b'"a%d":{"dtype":"U8","shape":[0]}' % i for i in range(400_000)) + b"}"
BOMBS = {
    "a compressed member": ("x.pth", compressed, "is compressed, which torch never does"),
    "overlapping members": ("x.pth", overlapping, "is damaged or no checkpoint"),
    "a deep tuple as a key": (
        "x.pth",
        lambda path: archive(path, deep(b"", b"\x85")),
        "lie too deep inside each other",
    ),
    "the same in the old format": (
        "x.pth",
        lambda path: old(path, deep(b"", b"\x85")),
        "lie too deep inside each other",
    ),
    "deep lists": (
        "x.pth",
        lambda path: archive(path, deep(b"](", b"e", 100_000)),
        "lie too deep inside each other",
    ),
    "the same under another name's case": (
        "x.pth",
        lambda path: archive(path, deep(b"](", b"e", 100_000), name="DATA.PKL"),
        "lie too deep inside each other",
    ),
    "millions of dicts": (
        "x.pth",
        lambda path: archive(path, b"\x80\x02](" + b"}" * 5_000_000 + b"e."),
        "makes more objects than weights need",
    ),
    "bytes that double": (
        "x.pth",
        lambda path: archive(path, encoded("hex", 30)),
        "encodes with hex_codec",
    ),
    "the same under another name": (
        "x.pth",
        lambda path: archive(path, encoded("HEX-Codec", 30)),
        "encodes with hex_codec",
    ),
    "the same under a long name": (
        "x.pth",
        lambda path: archive(path, encoded(f"hex{'-' * 300}\u00e9", 30)),
        "encodes with hex_codec",
    ),
    "many zeros": (
        "x.pth",
        lambda path: archive(path, b"\x80\x02" + ZEROS + b"."),
        r"refers to builtins\.bytearray",
    ),
    "a pickle after many": (
        "x.pth",
        lambda path: archive(path, b"N.", **{f"{n}.pkl": b"N." for n in range(50)}),
        "is damaged or no checkpoint",
    ),
    "a header longer than its file": (
        "x.safetensors",
        lambda path: path.write_bytes(header({"a": TENSOR}, 2**62) + bytes(8)),
        "is damaged or no checkpoint",
    ),
    "a header of many tensors": (
        "x.safetensors",
        lambda path: path.write_bytes(header(MANY)),
        "describes more than weights need",
    ),
    "a deep header": (
        "x.safetensors",
        lambda path: path.write_bytes(header(b"[" * 1_000_000)),
        "is damaged or no checkpoint",
    ),
    "a tensor beyond the file": (
        "x.safetensors",
        lambda path: path.write_bytes(
            header({"a": TENSOR | {"shape": [2**40], "data_offsets": [0, 2**42]}}) + bytes(8)
        ),
        "is damaged or no checkpoint",
    ),
    "a tensor larger than its bytes": (
        "x.safetensors",
        lambda path: path.write_bytes(header({"a": TENSOR | {"shape": [2**61, 8]}}) + bytes(8)),
        "is damaged or no checkpoint",
    ),
    "nothing": ("x.pth", lambda path: path.touch(), "is damaged or no checkpoint"),
    "an empty header": ("x.safetensors", lambda path: path.touch(), "is damaged or no checkpoint"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_lies_is_refused_at_once(bomb, tmp_path):
    name, write, message = BOMBS[bomb]
    write(tmp_path / name)
    started = time.monotonic()
    with pytest.raises(WorldError, match=message):
        checkpoint_reading.read(tmp_path / name)
    assert time.monotonic() - started < 5


def test_a_string_as_long_as_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x02\x8d" + struct.pack("<Q", 2**36))
    os.truncate(path, 2**36 + 100)  # It has no blocks on the disk.
    with pytest.raises(WorldError, match="holds more than 256 MiB beside its weights"):
        checkpoint_reading.read(path)


def pipe(path):
    os.mkfifo(path)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    "make", [pipe, unix_socket, lambda path: path.symlink_to("/dev/zero"), os.mkdir]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_regular_file_is_not_opened(make, suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    path = type(tmp_path)(f"x{suffix}")
    make(path)
    with pytest.raises(UserError, match=r"cannot be opened \(.*\): name a regular file of weights"):
        checkpoint_reading.read(path)


SWIN = "swin_tiny_patch4_window7_224.ms_in22k"


@pytest.mark.parametrize(
    "name, read",
    [
        (f"{SWIN}.safetensors", lambda source: swin.starting_weights(SWIN, source)),
        ("RN50.pt", lambda source: clip.starting_weights("openai-RN50", source)),
        ("some-bert/model.safetensors", lambda source: bert.starting_weights("some-bert", source)),
        ("some-bert/vocab.txt", lambda source: bert.starting_weights("some-bert", source)),
    ],
)
def test_starting_weights_are_looked_at_as_well(name, read, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"cannot be opened \(it is no regular file\)"):
        read(Source(tmp_path, offline=True))
    if path.suffix == ".pt":
        path.unlink()
        compressed(path)
        with pytest.raises(WorldError, match="is compressed"):
            read(Source(tmp_path, offline=True))


def test_a_link_to_nothing_stops_nobody(tmp_path):
    (tmp_path / "some-bert").mkdir()
    (tmp_path / "some-bert" / "old.bin").symlink_to(tmp_path / "gone")
    assert Source(tmp_path).local("some-bert") == tmp_path / "some-bert"


def test_honest_files_pass(tmp_path):
    optimizer = {"state": {n: {"exp_avg": torch.zeros(2)} for n in range(900)}, "lrs": [0.1] * 9000}
    content = {"model": WEIGHTS, "optimizer": optimizer, "epochs": {n: n for n in range(5000)}}
    torch.save(content, tmp_path / "new.pth")
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    for name in ("new.pth", "old.pth", "x.safetensors"):
        weights_files.check(tmp_path / name)
        assert checkpoint_reading.read(tmp_path / name).weights.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_what_python_pickles_is_gone_through_to_its_end(protocol):
    value = {"a": [1, (2.5, None)], "b": {"c": {1, 2}}, ("d", 1): b"xyz" * 99, "e": range(3)}
    value["again"] = value["a"]
    file = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
    weights_files.check_pickle(file)
    assert file.read() == b"rest"
