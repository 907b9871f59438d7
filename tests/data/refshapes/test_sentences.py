"""Sentences of RefShapes: each names its referent alone."""

import re

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data.refer import read_refer
from benchmark.data.refshapes.writer import (
    sentence_kinds,
)
from tests.data.refshapes.reading import NAMES, PLACE, expressions, matching, the_one


def test_sent_is_the_cleaned_raw(root):
    typed = set()
    for name in NAMES:
        for ref in read_refer(root, name, "unc").refs:
            for sentence in ref.sentences:
                assert sentence.sent == " ".join(re.findall("[a-z]+", sentence.raw.lower()))
                assert len(sentence.sent.split()) <= 18
                typed.add(sentence.raw == sentence.sent)
            assert len({sentence.sent.removeprefix("the ") for sentence in ref.sentences}) == len(
                ref.sentences
            )
    assert typed == {True, False}


def test_kinds(root):
    kinds = {name: list(sentence_kinds(root, name).values()) for name in NAMES}
    assert set(kinds["refshapes"]) == {"attribute", "position", "relation", "ordering", "occlusion"}
    assert 0.6 < kinds["refshapes"].count("attribute") / len(kinds["refshapes"]) < 0.8
    assert set(kinds["refshapes+"]) == {"attribute", "size"}
    assert set(kinds["refshapesg"]) == {"relation", "occlusion"}
    with pytest.raises(UserError, match="cannot be read"):
        sentence_kinds(root, "refcoco")


def test_refshapes_plus_has_no_word_of_place(root, scenes):
    for _, sent, _, _ in expressions(root, scenes, "refshapes+"):
        assert not PLACE & set(sent.split())


def test_refshapesg_is_long(root, scenes):
    lengths = [len(sent.split()) for _, sent, _, _ in expressions(root, scenes, "refshapesg")]
    assert np.mean(lengths) > 9


def check_attribute(sent, scene, index):
    assert matching(sent, scene) == [index]


def check_size(sent, scene, index):
    word, noun = sent.removeprefix("the ").split(maxsplit=1)
    sign = 1 if word in ("biggest", "largest", "bigger", "larger") else -1
    assert sign == 1 or word in ("smallest", "smaller")
    group = matching(noun, scene)
    assert len(group) > 1 and (len(group) == 2 or word.endswith("est"))
    ranked = sorted(group, key=lambda at: -sign * scene["things"][at]["diameter"])
    assert ranked[0] == index
    assert abs(
        np.log(scene["things"][index]["diameter"] / scene["things"][ranked[1]]["diameter"])
    ) > np.log(1.2)


def check_ordering(sent, scene, index):
    rank, noun, side = re.fullmatch(
        r"(?:the )?(first|second|third) (.*) from the (left|right|top|bottom)", sent
    ).groups()
    axis, sign = {"left": ("x", 1), "right": ("x", -1), "top": ("y", 1), "bottom": ("y", -1)}[side]
    group = sorted(matching(noun, scene), key=lambda at: sign * scene["things"][at][axis])
    assert group[["first", "second", "third"].index(rank)] == index
    assert len(group) >= 3 and min(np.diff(sorted(scene["things"][at][axis] for at in group))) > 7.5


def check_position(sent, scene, index):
    things, ways = (
        scene["things"],
        {"left": ("x", -1), "right": ("x", 1), "top": ("y", -1), "bottom": ("y", 1)},
    )
    found = re.fullmatch(
        r"(?:the )?(?:(highest|lowest|leftmost|rightmost|topmost|bottommost) (.*)"
        r"|(.*) farthest to the (left|right))",
        sent,
    )
    if found:
        side = (
            found[4]
            or {"highest": "top", "lowest": "bottom"}.get(found[1])
            or found[1].removesuffix("most")
        )
        axis, sign = ways[side]
        group = sorted(
            matching(found[2] or found[3], scene), key=lambda at: -sign * things[at][axis]
        )
        assert (
            group[0] == index
            and len(group) > 1
            and abs(things[index][axis] - things[group[1]][axis]) > 9.5
        )
        return
    words = re.sub(r"\b(in the|at the|on the|near the|side|corner)\b", "", sent).split()
    noun = " ".join(word for word in words if word not in (*ways, "middle", "centre"))
    fits = []
    for at in matching(noun, scene):
        place = {
            "x": things[at]["x"] / scene["width"] - 0.5,
            "y": things[at]["y"] / scene["height"] - 0.5,
        }
        if "middle" in words or "centre" in words:
            fits.append((at, -max(map(abs, place.values())) + 0.165))
        else:
            sides = [ways[word] for word in words if word in ways]
            assert sides
            fits.append((at, min(sign * place[axis] for axis, sign in sides) - 0.035))
    # Nothing lies near the borderline.
    assert [at for at, how_far in fits if how_far > 0] == [index]
    assert min(abs(how_far) for _, how_far in fits) > 0.05


LINKS = {
    "to the left of": ("x", -1),
    "left of": ("x", -1),
    "further left than": ("x", -1),
    "to the right of": ("x", 1),
    "right of": ("x", 1),
    "further right than": ("x", 1),
    "above": ("y", -1),
    "higher than": ("y", -1),
    "below": ("y", 1),
    "lower than": ("y", 1),
    "in front of": "covers",
    "covering": "covers",
    "covers part of": "covers",
    "behind": "covered",
    "covered by": "covered",
    "partly hidden by": "covered",
}


def check_links(sent, scene, index):
    things = scene["things"]
    pattern = rf"(?:(?:that|which) is |which |and )?({'|'.join(LINKS)}) the "
    head, *rest = re.split(f" {pattern}", sent)
    candidates = set(matching(head, scene))
    assert index in candidates and rest
    for link, anchor_text in zip(rest[::2], rest[1::2], strict=True):
        anchor = the_one(anchor_text, scene)
        for at in sorted(candidates):
            match LINKS[link]:
                case "covers":
                    value, sure = things[at]["covers"][anchor], 40
                case "covered":
                    value, sure = things[anchor]["covers"][at], 40
                case axis, sign:
                    value, sure = sign * (things[at][axis] - things[anchor][axis]), 18
            if at == index:
                assert value >= sure
            elif at == anchor or value < (1 if sure == 40 else 4):
                candidates.discard(at)
    assert candidates == {index}


CHECKS = {
    "attribute": check_attribute,
    "size": check_size,
    "position": check_position,
    "ordering": check_ordering,
    "relation": check_links,
    "occlusion": check_links,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_sentence_names_its_referent_alone(root, scenes, name):
    checked = 0
    for kind, sent, scene, index in expressions(root, scenes, name):
        CHECKS[kind](sent, scene, index)
        checked += 1
    assert checked > 200
