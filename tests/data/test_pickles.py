"""Pickles: plain data is read, everything else is refused and not run."""

import io
import os
import pickle
import resource
import struct

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data import plain_pickle
from benchmark.data.pickles import read_pickle
from benchmark.data.refer import read_refer
from tests.data.refer_files import ref, write


def python_2_refs():
    """Return a refs file as Python 2 writes it in protocol 0.

    It holds byte strings, unicode, longs and references to the memo.
    """
    return (
        b"(lp1\n(dp2\nS'sent_ids'\np3\n(lp4\nI5\nasS'ann_id'\np5\nL10L\nsS'ref_id'\np6\nI0\nsS'image_id'\np7\nI1\n"
        b"sS'split'\np8\nS'train'\np9\nsS'category_id'\np10\nI3\nsS'file_name'\np11\nS'x.jpg'\np12\nsS'sentences'\np13\n"
        b"(lp14\n(dp15\nS'tokens'\np16\n(lp17\nS'caf\\xe9'\np18\nasS'raw'\np19\nS'Caf\\xe9'\np20\n"
        b"sS'sent'\np21\nVcaf\xe9\np22\nsS'sent_id'\np23\nI5\nsasa."
    )


def test_python_2_files_are_read(tmp_path):
    (write(tmp_path) / "refcoco" / "refs(unc).p").write_bytes(python_2_refs())
    (found,) = read_refer(tmp_path, "refcoco", "unc").refs
    assert (found.ref_id, found.ann_id, found.image_id, found.split) == (0, 10, 1, "train")
    assert (found.sentences[0].raw, found.sentences[0].sent, found.sentences[0].sent_id) == (
        "Café",
        "café",
        5,
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read_in_every_protocol(tmp_path, protocol):
    path, data = tmp_path / "plain.p", [{"a": (1, -2, 2**70), "b": [True, None, 1.5]}, "é", ()]
    path.write_bytes(pickle.dumps(data, protocol))
    assert read_pickle(path) == [{"a": [1, -2, 2**70], "b": [True, None, 1.5]}, "é", []]


def test_sets_are_read_from_protocol_4_on(tmp_path):
    (tmp_path / "set.p").write_bytes(pickle.dumps({"000000000001", "2"}, 4))
    assert sorted(read_pickle(tmp_path / "set.p")) == ["000000000001", "2"]


class Touch:
    """Pickles as a call that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "somewhere" if value == "stored" else None


def hostile(kind, witness):
    """A pickle that would make the folder `witness` if it were run."""
    call = os.mkdir.__module__.encode()
    path = str(witness).encode()
    if isinstance(
        kind, int
    ):  # REDUCE on GLOBAL (up to protocol 3) or STACK_GLOBAL, hidden in a list of refs
        return pickle.dumps([ref(), {"ref_id": Touch(witness)}], kind)
    if kind == "persistent id":
        buffer = io.BytesIO()
        Persistent(buffer).dump(["stored"])
        return buffer.getvalue()
    return {
        "GLOBAL": b"c" + call + b"\nmkdir\n(S'" + path + b"'\ntR.",
        "eval": b'cbuiltins\neval\n(S\'__import__("os").mkdir("' + path + b"\")'\ntR.",
        "python 2 eval": b'c__builtin__\neval\n(S\'__import__("os").mkdir("' + path + b"\")'\ntR.",
        "INST": b"(S'" + path + b"'\ni" + call + b"\nmkdir\n.",
        "OBJ": b"(c" + call + b"\nmkdir\nS'" + path + b"'\no.",
        "NEWOBJ": b"\x80\x02cpathlib\nPath\n(S'" + path + b"'\nt\x81.",
        "only a class": b"ccollections\nOrderedDict\n.",
        "EXT": b"\x80\x02\x82\x01(S'" + path + b"'\ntR.",
        "persistent id in text": b"Psomewhere\n.",
        "BUILD": b"\x80\x02]}S'append'\nc" + call + b"\nmkdir\nsb.",
        "a set of protocol 2": pickle.dumps({1, 2}, 2),
    }[kind]


KINDS = [
    *range(pickle.HIGHEST_PROTOCOL + 1),
    "persistent id",
    "GLOBAL",
    "eval",
    "python 2 eval",
    "INST",
    "OBJ",
    "NEWOBJ",
]
KINDS += ["only a class", "EXT", "persistent id in text", "BUILD", "a set of protocol 2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_that_could_run_code_is_refused_and_not_run(tmp_path, kind):
    witness = tmp_path / "ran"
    (write(tmp_path) / "refcoco" / "refs(unc).p").write_bytes(hostile(kind, witness))
    refused = "damaged" if kind == "EXT" else "could run code"
    with pytest.raises(UserError, match=rf"refs\(unc\).p .*{refused}"):
        read_refer(tmp_path, "refcoco", "unc")
    assert not witness.exists()


@pytest.mark.parametrize("kind", [0, 2, 4, "GLOBAL", "eval", "INST", "OBJ"])
def test_the_hostile_pickles_of_this_file_do_run_when_loaded_plainly(tmp_path, kind):
    witness = tmp_path / "ran"
    pickle.loads(hostile(kind, witness))
    assert witness.is_dir()


def test_every_truncation_of_a_pickle_is_refused(tmp_path):
    for whole in (pickle.dumps([ref()], 2), pickle.dumps([ref()], 4), python_2_refs()):
        for end in range(len(whole)):
            with pytest.raises(plain_pickle.DAMAGE):
                plain_pickle.as_json(whole[:end])
        (tmp_path / "cut.p").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="damaged or not a pickle"):
            read_pickle(tmp_path / "cut.p")


def test_random_bytes_are_refused_or_plain(tmp_path):
    draw = np.random.Generator(np.random.Philox(1))
    whole = pickle.dumps([ref()], 2)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] = draw.integers(256)
        (tmp_path / "noise.p").write_bytes(damaged)
        try:
            read_pickle(tmp_path / "noise.p")
        except UserError as error:
            assert "noise.p" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"refs": []}, "holds a dict and not a list of refs"),
        ([1, 2], "a list of other things"),
        ([], "an empty list"),
        ("text", "holds a str"),
        ([ref(), {**ref(), "split": 3}], "ref number 1 is damaged .3 is not a string"),
        ([{"ref_id": 1}], "ref number 0 is damaged .no 'sentences'"),
        ([{**ref(), "ann_id": "10"}], "ref number 0 is damaged"),
        ([{**ref(), "sentences": [{"sent_id": 0, "sent": "x"}]}], "no 'raw'"),
        ([ref(sentences=())], "no ref with a sentence"),
    ],
)
def test_a_pickle_of_something_else_is_named(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(UserError, match=message):
        read_refer(tmp_path, "refcoco", "unc")


# --- bombs ----------------------------------------------------------------------------


def shared(levels):
    """A pickle of a few hundred bytes whose lists hold 2 to the power of `levels` others."""
    value = []
    for _ in range(levels):
        value = [value, value]
    return pickle.dumps(value, 2)


def cyclic():
    value = []
    value.append(value)
    return pickle.dumps(value, 2)


BOMBS = {
    "shared lists": shared(60),
    "shared lists that fit into the memory": shared(22),
    "a list in itself": cyclic(),
    "deep tuples": b"(" * 10**6 + b"t" * 10**6 + b".",
    "deep lists": b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
    "a key that is deep": b"})" + b"\x85" * 10**6 + b"Ns.",
    "a key that is shared": b"})" + b"2\x86" * 60 + b"Ns.",
    "a number in the memo of 32 GiB": b"Nr\xff\xff\xff\xff.",
    "an array of 8 GiB": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"x.",
    "a number of a million bytes": b"\x80\x02\x8b"
    + struct.pack("<i", 10**6)
    + b"\x01" * 10**6
    + b".",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_ends_soon_in_one_sentence(kind, tmp_path):
    path = write(tmp_path) / "refcoco" / "refs(unc).p"
    path.write_bytes(BOMBS[kind])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The largest child so far may be one of another test.
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(UserError, match=r"^[^\n]*refs\(unc\).p is damaged[^\n]*$"):
        read_refer(tmp_path, "refcoco", "unc")
    # The child has a limit of its own, and this process reads nothing large.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**19
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert spent.ru_maxrss < 2**20 or spent.ru_maxrss == largest
