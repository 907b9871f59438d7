"""RefShapes against its own scene descriptions, read back by other means than those that wrote it."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmark.base.errors import UserError
from benchmark.data.refer import find_datasets, read_refer
from benchmark.data.refshapes.writer import (
    RefShapesSize,
    segmentation,
    sentence_kinds,
    shutil,
    write_refshapes,
)

NAMES = ("refshapes", "refshapes+", "refshapesg")
SIZE = {"train": 30, "val": 6, "testA": 8, "testB": 8}
TINY = {"train": 2, "val": 1, "testA": 1, "testB": 0}
ROUND = {"circle", "ring", "heart", "moon"}
MEANING = {
    **{word: ("shape", word) for word in (*ROUND, "square", "triangle", "star", "cross")},
    **{
        word: ("colour", word)
        for word in ("red", "orange", "yellow", "green", "cyan", "blue", "purple")
    },
    **{
        "big": ("size", "big"),
        "large": ("size", "big"),
        "small": ("size", "small"),
        "little": ("size", "small"),
    },
    **{"solid": ("fill", "solid"), "plain": ("fill", "solid"), "striped": ("fill", "striped")},
    **{"stripes": ("fill", "striped"), "dotted": ("fill", "dotted"), "dots": ("fill", "dotted")},
    **{
        "checked": ("fill", "checked"),
        "checkered": ("fill", "checked"),
        "checks": ("fill", "checked"),
    },
}
EMPTY = {"object", "shape", "thing", "the", "with"}
PLACE = set(
    """left right top bottom above below under over behind front on in at of to near next by middle centre corner side beside
    leftmost rightmost topmost bottommost highest lowest higher lower further farthest first second third from that which
    covers covered covering hidden""".split()
)
RGB = {
    "red": (215, 40, 40),
    "orange": (245, 140, 25),
    "yellow": (240, 220, 50),
    "green": (45, 155, 65),
    "cyan": (60, 205, 215),
    "blue": (45, 75, 210),
    "purple": (145, 55, 175),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("refshapes")
    for name in NAMES:
        write_refshapes(root, name, SIZE)
    return root


@pytest.fixture(scope="module")
def scenes(root):
    return {name: json.loads((root / name / "scenes.json").read_text()) for name in NAMES}


def digest(root):
    content = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return content.hexdigest()


def expressions(root, scenes, name):
    """Yield (kind, sentence, scene, index of the referent)."""
    for ref in read_refer(root, name, "unc").refs:
        scene = scenes[name]["images"][str(ref.image_id)]
        index = [thing["ann_id"] for thing in scene["things"]].index(ref.ann_id)
        for sentence in ref.sentences:
            yield (
                scenes[name]["sentences"][str(sentence.sent_id)]["kind"],
                sentence.sent,
                scene,
                index,
            )


def matching(text, scene):
    """Return the objects that have every attribute that `text` says; any other word is an error."""
    words = [word for word in text.split() if word not in EMPTY]
    wanted = dict(MEANING[word] for word in words)
    assert len(wanted) == len(words)
    return [
        index
        for index, thing in enumerate(scene["things"])
        if all(thing[attribute] == value for attribute, value in wanted.items())
    ]


def the_one(text, scene):
    (index,) = matching(text, scene)
    return index


def test_layout_is_refers_and_counts_are_as_asked(root):
    assert find_datasets(root) == {name: ["unc"] for name in NAMES}
    all_ids = []
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        assert dataset.splits == ("train", "val", "testA", "testB")
        for split, count in (("train", 30), ("val", 6), ("testA", 8), ("testB", 8)):
            refs = dataset.refs_of(split)
            per_image = np.unique([ref.image_id for ref in refs], return_counts=True)[1]
            assert len(per_image) == count and per_image.min() >= 2 and per_image.max() <= 4
            assert {len(ref.sentences) for ref in refs} <= {2, 3}
        assert [ref.ref_id for ref in dataset.refs] == list(range(len(dataset.refs)))
        sent_ids = [sentence.sent_id for ref in dataset.refs for sentence in ref.sentences]
        assert sent_ids == list(range(len(sent_ids)))
        assert all(dataset.image(image_id).shape[2] == 3 for image_id in dataset.images)
        all_ids += dataset.images
    assert len(set(all_ids)) == len(all_ids) and min(all_ids) > 600_000


def test_test_splits_hold_round_and_angular_referents(root):
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        shapes = {
            split: {dataset.categories[ref.category_id] for ref in dataset.refs_of(split)}
            for split in dataset.splits
        }
        assert shapes["testA"] <= ROUND and not shapes["testB"] & ROUND
        assert shapes["train"] & ROUND and shapes["train"] - ROUND


def test_same_bytes_for_a_seed_alone(tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_refshapes(tmp_path / folder, "refshapes", TINY, seed)
    for folder in "abc":
        (tmp_path / folder / "refshapes" / "refshapes.json").unlink()  # names the seed
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_a_scene_does_not_depend_on_how_many_there_are(root, scenes, tmp_path):
    write_refshapes(tmp_path, "refshapes", TINY)
    few = json.loads((tmp_path / "refshapes" / "scenes.json").read_text())["images"]
    assert few == {image_id: scenes["refshapes"]["images"][image_id] for image_id in few}
    for path in (tmp_path / "images" / "train2014").iterdir():
        assert path.read_bytes() == (root / "images" / "train2014" / path.name).read_bytes()


def test_an_existing_set_is_left_alone_and_another_refused(tmp_path):
    write_refshapes(tmp_path, "refshapes+", TINY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_refshapes(tmp_path, "refshapes+", TINY)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for size, seed in ((TINY, 1), (SIZE, 0)):
        with pytest.raises(UserError, match="remove that folder or choose another root"):
            write_refshapes(tmp_path, "refshapes+", size, seed)


@pytest.mark.parametrize(
    "lost", ["refshapes.json", "refs(unc).p", "instances.json", "scenes.json", "an image"]
)
def test_a_set_with_a_missing_file_is_refused(tmp_path, lost):
    write_refshapes(tmp_path, "refshapes", TINY)
    images = sorted((tmp_path / "images" / "train2014").iterdir())
    (images[1] if lost == "an image" else tmp_path / "refshapes" / lost).unlink()
    with pytest.raises(UserError, match="is not whole"):
        write_refshapes(tmp_path, "refshapes", TINY)


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_write_leaves_no_data_set_and_is_done_again(tmp_path, monkeypatch, killed):
    write_refshapes(tmp_path / "whole", "refshapes", TINY)
    root, rename = tmp_path / "cut", Path.rename

    def interrupt(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        if killed:  # nothing is cleared away
            patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(KeyboardInterrupt):
            write_refshapes(root, "refshapes", TINY)
    assert Path.rename is rename and (root / ".refshapes.partial").exists() == killed
    with pytest.raises(UserError, match="holds no data set"):
        find_datasets(root)
    write_refshapes(root, "refshapes", TINY)
    assert digest(root) == digest(tmp_path / "whole")


def test_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"did you mean refshapes"):
        write_refshapes(tmp_path, "refshape", TINY)
    for counts in ((-1, 0, 0, 1), (0, 0, 0, 0), (10**6, 1, 1, 1)):
        with pytest.raises(UserError, match="for each split"):
            RefShapesSize(*counts)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file"):
        write_refshapes(tmp_path / "file", "refshapes", TINY)


def test_masks_are_apart_visible_and_where_the_scene_says(root, scenes):
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        for image_id, scene in scenes[name]["images"].items():
            masks = np.stack([dataset.mask(thing["ann_id"]) for thing in scene["things"]])
            assert masks.sum(0).max() == 1
            for thing, mask in zip(scene["things"], masks, strict=True):
                hidden = sum(
                    other["covers"][scene["things"].index(thing)] for other in scene["things"]
                )
                assert mask.sum() > 1.2 * hidden and mask.sum() > 120
                y, x = np.nonzero(mask)
                assert thing["x"] == pytest.approx(x.mean(), abs=0.06) and thing[
                    "y"
                ] == pytest.approx(y.mean(), abs=0.06)
                if thing["fill"] == "solid":
                    pixel = np.median(dataset.image(int(image_id))[mask > 0], 0)
                    assert (
                        min(RGB, key=lambda colour: np.abs(pixel - RGB[colour]).sum())
                        == thing["colour"]
                    )


def test_covers_tell_who_lies_in_front(root, scenes):
    """An object's pixels, without those of others, are its whole shape less what the others are said to hide."""
    areas = {"circle": np.pi / 4, "square": 0.7225}
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        for scene in scenes[name]["images"].values():
            for index, thing in enumerate(scene["things"]):
                assert thing["covers"][index:] == [0] * (
                    len(scene["things"]) - index
                )  # those behind come first
                if thing["shape"] in areas:
                    whole = areas[thing["shape"]] * thing["diameter"] ** 2
                    hidden = sum(other["covers"][index] for other in scene["things"])
                    assert dataset.mask(thing["ann_id"]).sum() + hidden == pytest.approx(
                        whole, rel=0.06
                    )


def test_segmentation_gives_exactly_the_mask_back():
    draw = np.random.default_rng(0)
    masks = [
        (draw.random((7, 9)) < share).astype(np.uint8)
        for share in (0.2, 0.5, 0.8)
        for _ in range(40)
    ]
    ring = np.ones((5, 6), np.uint8)
    ring[2, 2:4] = 0
    for mask in [*masks, ring, np.ones((3, 4), np.uint8)]:
        found = segmentation(mask)
        if isinstance(found, dict):
            rle = coco_mask.frPyObjects(found, *mask.shape)
        else:
            rle = coco_mask.merge(coco_mask.frPyObjects(found, *mask.shape))
        assert np.array_equal(coco_mask.decode(rle), mask)
    assert isinstance(segmentation(ring), dict) and isinstance(
        segmentation(np.ones((3, 4), np.uint8)), list
    )


def test_annotations_agree_with_their_masks(root):
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        kinds = set()
        for entry in json.loads((root / name / "instances.json").read_text())["annotations"]:
            mask = dataset.mask(entry["id"])
            assert entry["area"] == mask.sum()
            assert (
                entry["bbox"]
                == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))).tolist()
            )
            kinds.add(type(entry["segmentation"]))
        assert kinds == {list, dict}


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


# Every sentence names its referent alone: read again from its words, kind by kind.


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
        r"(?:the )?(?:(highest|lowest|leftmost|rightmost|topmost|bottommost) (.*)|(.*) farthest to the (left|right))",
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
