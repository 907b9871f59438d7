"""Referring expressions for the objects of a scene, each proven to name exactly one.

A phrase carries its meaning. For every object of the scene it knows whether it fits: True, False,
or None where a person could doubt it, for example at nearly the same height. A sentence names an
object if it fits that one and clearly fits no other.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from benchmark.data.refshapes.scenes import Scene, Thing, pick

Kind = Literal["attribute", "size", "position", "ordering", "relation", "occlusion"]
Truths = tuple[bool | None, ...]  # one per object of the scene

ATTRIBUTES = ("size", "fill", "colour", "shape")
WORDS = {
    "big": ("big", "large"),
    "small": ("small", "little"),
    "solid": ("solid", "plain"),
    "checked": ("checked", "checkered"),
}
WITH = {"striped": "with stripes", "dotted": "with dots", "checked": "with checks"}
GENERIC = ("object", "shape", "thing")
ORDINALS = ("first", "second", "third")
WORDS_AT_MOST = 18  # so that 20 ids hold a sentence with its start and its end

MIXES: dict[str, dict[Kind, float]] = {
    "refshapes": {
        "attribute": 0.7,
        "position": 0.09,
        "relation": 0.07,
        "ordering": 0.06,
        "occlusion": 0.08,
    },
    "refshapes+": {"attribute": 0.6, "size": 0.4},
    "refshapesg": {"relation": 0.7, "occlusion": 0.3},
}
"""How often each kind is tried. A kind that names nothing in a scene gives way to another."""


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Words and what they mean in one scene."""

    text: str
    truths: Truths

    def names(self, index: int) -> bool:
        """Return whether the phrase fits the object `index` and clearly no other."""
        return self.truths[index] is True and self.truths.count(False) == len(self.truths) - 1


@dataclasses.dataclass(frozen=True)
class Expression:
    """A sentence as REFER holds it.

    Attributes:
        kind: what it says of the object.
        sent: the sentence, cleaned.
        raw: the sentence as it was written.
    """

    kind: Kind
    sent: str
    raw: str


def describe(
    rng: np.random.Generator, scene: Scene, index: int, dataset: str, count: int
) -> list[Expression] | None:
    """Return `count` different sentences that name an object, or None if too few were found.

    Args:
        rng: decides everything.
        scene: the scene that holds the object.
        index: number of the object.
        dataset: its MIXES decide the kinds. `refshapesg` has long sentences.
        count: number of sentences.
    """
    mix = MIXES[dataset]
    kinds = list(mix)
    cumulative = np.cumsum(list(mix.values()))
    long = dataset == "refshapesg"
    article_probability = 1.0 if long else 0.4
    expressions: dict[str, Expression] = {}
    for _ in range(6 * count):
        kind = kinds[int(np.searchsorted(cumulative, rng.random() * cumulative[-1]))]
        for _ in range(5):
            phrase = _BUILDERS[kind](rng, scene, index, long)
            if phrase is None or not phrase.names(index):
                continue
            sent = f"the {phrase.text}" if rng.random() < article_probability else phrase.text
            if len(sent.split()) <= WORDS_AT_MOST:
                raw = _as_typed(rng, sent)
                expressions.setdefault(phrase.text, Expression(kind, clean(raw), raw))
                break
        if len(expressions) == count:
            return list(expressions.values())
    return None


def clean(raw: str) -> str:
    """Return a raw sentence as REFER's `sent`: in lower case, single-spaced, no punctuation."""
    return " ".join(re.sub(r"[^a-z ]", " ", raw.lower()).split())


def _as_typed(rng: np.random.Generator, sent: str) -> str:
    """Return a sentence as a hurried person types it. `clean` takes this back."""
    choice = rng.random()
    if choice < 0.55:
        return sent
    if choice < 0.75:
        return sent.capitalize()
    if choice < 0.88:
        return f"{sent.capitalize()}."
    if choice < 0.92:
        return sent.upper()
    return f"{sent} " if choice < 0.96 else f"{sent}!"


# The next functions make and join meanings, which say of every object whether it fits.


def _and(first: Truths, second: Truths) -> Truths:
    return tuple(
        False if a is False or b is False else None if a is None or b is None else True
        for a, b in zip(first, second, strict=True)
    )


def _above(value: float, sure: float, doubtful: float) -> bool | None:
    """Return True from `sure` on, False below `doubtful`, and None between them."""
    return True if value >= sure else False if value < doubtful else None


def _share(things: Sequence[Thing], thing: Thing, attributes: Sequence[str]) -> Truths:
    return tuple(
        all(getattr(other, name) == getattr(thing, name) for name in attributes) for other in things
    )


def _beyond(values: Sequence[float], group: Truths, margin: float) -> Truths:
    """Return which member of `group` has the largest value, by `margin` before the next."""
    truths: list[bool | None] = []
    for index, value in enumerate(values):
        others = [other for at, other in enumerate(values) if group[at] and at != index]
        truths.append(
            _above(value - max(others), margin, -margin) if group[index] and others else False
        )
    return tuple(truths)


# The next functions make noun phrases.


def _noun(rng: np.random.Generator, scene: Scene, index: int, attributes: Sequence[str]) -> Phrase:
    """Return a phrase without article for some attributes of an object, in one of several forms."""
    thing = scene.things[index]
    words = {
        name: pick(rng, WORDS.get(getattr(thing, name), (getattr(thing, name),)))
        for name in dict.fromkeys(attributes)
    }
    noun = words.pop("shape", None) or pick(rng, GENERIC)
    tail = ""
    if "fill" in words and thing.fill in WITH and rng.random() < 0.3:
        del words["fill"]
        tail = f" {WITH[thing.fill]}"
    front = [words[name] for name in ("size", "fill", "colour") if name in words]
    if "fill" in words and rng.random() < 0.3:
        front = [words[name] for name in ("size", "colour", "fill") if name in words]
    return Phrase(" ".join([*front, noun]) + tail, _share(scene.things, thing, attributes))


def _attributes(rng: np.random.Generator, long: bool) -> list[str]:
    """Return the attributes that a noun phrase shall tell.

    A short one tells shape, colour or both. A long one tells two or three attributes with the shape
    among them.
    """
    if long:
        extra = rng.permutation(["size", "fill", "colour"])[: int(rng.integers(1, 3))].tolist()
        return [name for name in ATTRIBUTES if name in extra or name == "shape"]
    return pick(rng, (["shape"], ["shape"], ["colour"], ["colour", "shape"], ["colour", "shape"]))


def _unique_noun(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    for _ in range(3):
        phrase = _noun(rng, scene, index, _attributes(rng, long))
        if phrase.names(index):
            return phrase
    return None


# The next functions make sentences. There is one for each kind.


def _attribute(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """Return a phrase of attributes that no other object shares all of, like "red star".

    It mostly tells few of them, and colour and shape before the others.
    """
    chance = {"colour": 0.65, "shape": 0.75, "fill": 0.25, "size": 0.2}
    chosen = [name for name in ATTRIBUTES if rng.random() < chance[name]]
    return _noun(rng, scene, index, chosen) if chosen else None


def _size(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """Return a phrase for the size among those of a kind, like "biggest star"."""
    noun = _noun(rng, scene, index, _attributes(rng, long))
    group = noun.truths.count(True)
    if group < 2:
        return None
    biggest = rng.random() < 0.5
    words = ("biggest", "largest") if biggest else ("smallest",)
    if group == 2:
        words += ("bigger", "larger") if biggest else ("smaller",)
    sign = 1 if biggest else -1
    values = [sign * np.log(thing.diameter) for thing in scene.things]
    return Phrase(f"{pick(rng, words)} {noun.text}", _beyond(values, noun.truths, np.log(1.25)))


def _position(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """Return a phrase for a place in the picture, like "leftmost square" or "top right circle"."""
    noun = _noun(rng, scene, index, _attributes(rng, long))
    places = [(thing.x / scene.width - 0.5, thing.y / scene.height - 0.5) for thing in scene.things]
    x, y = places[index]
    across = "right" if x > 0 else "left"
    along = "bottom" if y > 0 else "top"
    right = 1 if x > 0 else -1
    down = 1 if y > 0 else -1
    beside = tuple(_above(right * px, 0.11, -0.04) for px, _ in places)
    upright = tuple(_above(down * py, 0.11, -0.04) for _, py in places)
    middle = tuple(_above(-max(abs(px), abs(py)), -0.11, -0.22) for px, py in places)
    form = int(rng.integers(5))
    match form:
        case 0:
            words = ("%s on the {0}", "{0} %s", "%s on the {0} side")
            template = pick(rng, words).format(across)
            where = beside
        case 1:
            words = ("%s at the {0}", "{0} %s", "%s near the {0}")
            template = pick(rng, words).format(along)
            where = upright
        case 2:
            words = ("{0} {1} %s", "%s in the {0} {1} corner", "%s at the {0} {1}")
            template = pick(rng, words).format(along, across)
            where = _and(beside, upright)
        case 3:
            template = pick(rng, ("%s in the middle", "%s in the centre", "middle %s"))
            where = middle
        case _:
            if noun.truths.count(True) < 2:
                return None
            if rng.random() < 0.5:
                template = pick(rng, (f"{across}most %s", f"%s farthest to the {across}"))
                where = _beyond([right * thing.x for thing in scene.things], noun.truths, 10)
            else:
                extreme = "lowest" if down > 0 else "highest"
                template = pick(rng, (f"{along}most %s", f"{extreme} %s"))
                where = _beyond([down * thing.y for thing in scene.things], noun.truths, 10)
    return Phrase(template % noun.text, _and(noun.truths, where))


def _ordering(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """Return a phrase for a rank, like "second star from the left".

    There must be at least three of the kind, all clearly apart.
    """
    attributes = pick(rng, ([], ["shape"], ["shape"], ["colour"], ["colour", "shape"]))
    noun = _noun(rng, scene, index, attributes)
    side, values = pick(
        rng,
        (
            ("left", [thing.x for thing in scene.things]),
            ("right", [-thing.x for thing in scene.things]),
            ("top", [thing.y for thing in scene.things]),
            ("bottom", [-thing.y for thing in scene.things]),
        ),
    )
    members = sorted(at for at, fits in enumerate(noun.truths) if fits)
    ranked = sorted(members, key=lambda at: values[at])
    apart = all(values[b] - values[a] >= 8 for a, b in itertools.pairwise(ranked))
    rank = ranked.index(index)
    # Nobody counts to the last of them, because it is the first from the other side.
    if len(ranked) < 3 or not apart or rank >= min(len(ORDINALS), len(ranked) - 1):
        return None
    return Phrase(
        f"{ORDINALS[rank]} {noun.text} from the {side}",
        tuple(at == index for at in range(len(values))),
    )


def _relation(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """Return a phrase for where an object lies from another, like "circle above the red square"."""
    return _related(rng, scene, index, long, _BESIDE)


def _occlusion(rng: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """Return a phrase for which of two hides part of the other, like "circle behind the square"."""
    return _related(rng, scene, index, long, _COVERING)


def _beside(dx: int, dy: int) -> Callable[[Scene, int, int], bool | None]:
    """Return whether an object lies in the direction (dx, dy) from an anchor, as a function."""

    def truth(scene: Scene, index: int, anchor: int) -> bool | None:
        a = scene.things[index]
        b = scene.things[anchor]
        ahead = (a.x - b.x) * dx + (a.y - b.y) * dy
        aside = abs((a.x - b.x) * dy) + abs((a.y - b.y) * dx)
        # What lies diagonally is neither clearly so nor clearly not.
        return True if ahead >= max(18, aside) else False if ahead < 4 else None

    return truth


def _in_front(scene: Scene, index: int, anchor: int) -> bool | None:
    return _above(scene.things[index].covers[anchor], 40, 1)


def _behind(scene: Scene, index: int, anchor: int) -> bool | None:
    return _in_front(scene, anchor, index)


Relations = tuple[tuple[tuple[str, ...], str, Callable[[Scene, int, int], bool | None]], ...]
"""For each relation its words, its words in a long sentence, and whether it holds.

The last is a function of the scene, the number of the object and the number of the anchor.
"""

_BESIDE: Relations = (
    (("left of", "to the left of"), "which is further left than", _beside(-1, 0)),
    (("right of", "to the right of"), "which is further right than", _beside(1, 0)),
    (("above",), "which is higher than", _beside(0, -1)),
    (("below",), "which is lower than", _beside(0, 1)),
)
_COVERING: Relations = (
    (("in front of", "covering"), "which covers part of", _in_front),
    (("behind", "covered by"), "which is partly hidden by", _behind),
)


def _related(
    rng: np.random.Generator, scene: Scene, index: int, long: bool, relations: Relations
) -> Phrase | None:
    """Return a phrase that relates an object to another, or to two others in a long sentence."""
    noun = _noun(rng, scene, index, _attributes(rng, long))
    text = noun.text
    truths = noun.truths
    links = [
        (relation, anchor)
        for relation in relations
        for anchor in range(len(scene.things))
        if anchor != index and relation[-1](scene, index, anchor)
    ]
    if not links:
        return None
    twice = long and len(links) > 1 and rng.random() < 0.3
    for number, choice in enumerate(rng.permutation(len(links))[: 2 if twice else 1].tolist()):
        (words, clause, truth), anchor = links[choice]
        other = _unique_noun(rng, scene, anchor, long and not twice)
        if other is None:
            return None
        if twice:
            link = f"{'and' if number else 'that is'} {words[-1]}"
        elif long:
            link = pick(rng, (f"that is {words[-1]}", clause))
        else:
            link = pick(rng, words)
        text = f"{text} {link} the {other.text}"
        truths = _and(
            truths,
            tuple(at != anchor and truth(scene, at, anchor) for at in range(len(scene.things))),
        )
    return Phrase(text, truths)


_BUILDERS: dict[Kind, Callable[[np.random.Generator, Scene, int, bool], Phrase | None]] = {
    "attribute": _attribute,
    "size": _size,
    "position": _position,
    "ordering": _ordering,
    "relation": _relation,
    "occlusion": _occlusion,
}
