"""What RefShapes' sentences mean, read by other means than those that wrote them."""

from benchmark.data.refer import read_refer

NAMES = ("refshapes", "refshapes+", "refshapesg")
SIZE = {"train": 30, "val": 6, "testA": 8, "testB": 8}
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
    """left right top bottom above below under over behind front on in at of to near next by middle
    centre corner side beside leftmost rightmost topmost bottommost highest lowest higher lower
    further farthest first second third from that which covers covered covering hidden""".split()
)


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
    """Return the objects that have every attribute that `text` says. Any other word is an error."""
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
