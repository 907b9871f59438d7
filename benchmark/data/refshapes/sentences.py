"""Referring expressions for the objects of a scene, each proven to name exactly one.

A phrase carries its meaning: for every object of the scene whether it fits, True, False, or None where a person could doubt
it (nearly the same height, hardly an overlap). A sentence names an object if it fits that one and clearly fits no other.
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
WORDS_AT_MOST = 18  # so that 20 ids hold a sentence with its special ones

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
"""How often each kind is tried; a kind that names nothing in a scene gives way to another."""


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
    """A sentence as REFER holds it: `raw` as it was written, `sent` cleaned, and its kind."""

    kind: Kind
    sent: str
    raw: str


def describe(
    draw: np.random.Generator, scene: Scene, index: int, dataset: str, count: int
) -> list[Expression] | None:
    """Return `count` different sentences that name the object `index`, or None where too few were found.

    Args:
        dataset: whose MIXES decide the kinds; `refshapesg` has long sentences.
    """
    mix = MIXES[dataset]
    kinds, shares = list(mix), np.cumsum(list(mix.values()))
    found: dict[str, Expression] = {}
    for _ in range(6 * count):
        kind = kinds[int(np.searchsorted(shares, draw.random() * shares[-1]))]
        for _ in range(5):
            phrase = _BUILDERS[kind](draw, scene, index, dataset == "refshapesg")
            if phrase is not None and phrase.names(index):
                sent = _with_article(draw, phrase.text, 1.0 if dataset == "refshapesg" else 0.4)
                if len(sent.split()) <= WORDS_AT_MOST:
                    raw = _as_typed(draw, sent)
                    found.setdefault(phrase.text, Expression(kind, clean(raw), raw))
                    break
        if len(found) == count:
            return list(found.values())
    return None


def clean(raw: str) -> str:
    """Return a raw sentence lower-cased, without punctuation, its words one space apart: REFER's `sent`."""
    return " ".join(re.sub(r"[^a-z ]", " ", raw.lower()).split())


def _with_article(draw: np.random.Generator, text: str, chance: float) -> str:
    return f"the {text}" if draw.random() < chance else text


def _as_typed(draw: np.random.Generator, sent: str) -> str:
    """Return a sentence as a hurried person types it; `clean` takes it back."""
    choice = draw.random()
    if choice < 0.55:
        return sent
    if choice < 0.75:
        return sent.capitalize()
    if choice < 0.88:
        return f"{sent.capitalize()}."
    return sent.upper() if choice < 0.92 else f"{sent} " if choice < 0.96 else f"{sent}!"


# Meanings: of every object, whether it fits.


def _and(first: Truths, second: Truths) -> Truths:
    return tuple(
        False if a is False or b is False else None if a is None or b is None else True
        for a, b in zip(first, second, strict=True)
    )


def _above(value: float, sure: float, doubtful: float) -> bool | None:
    """Return True from `sure` on, False below `doubtful`, None between."""
    return True if value >= sure else False if value < doubtful else None


def _share(things: Sequence[Thing], thing: Thing, attributes: Sequence[str]) -> Truths:
    return tuple(
        all(getattr(other, name) == getattr(thing, name) for name in attributes) for other in things
    )


def _beyond(values: Sequence[float], group: Truths, margin: float) -> Truths:
    """Which member of `group` has the largest value, by `margin` before the next."""
    truths: list[bool | None] = []
    for index, value in enumerate(values):
        others = [other for at, other in enumerate(values) if group[at] and at != index]
        truths.append(
            _above(value - max(others), margin, -margin) if group[index] and others else False
        )
    return tuple(truths)


# Noun phrases.


def _noun(draw: np.random.Generator, scene: Scene, index: int, attributes: Sequence[str]) -> Phrase:
    """Return words, without article, for the given attributes of an object, in one of several forms."""
    thing = scene.things[index]
    has = dict.fromkeys(attributes)
    words = {
        name: pick(draw, WORDS.get(getattr(thing, name), (getattr(thing, name),))) for name in has
    }
    noun = words.pop("shape", None) or pick(draw, GENERIC)
    tail = ""
    if "fill" in words and thing.fill in WITH and draw.random() < 0.3:
        del words["fill"]
        tail = f" {WITH[thing.fill]}"
    front = [words[name] for name in ("size", "fill", "colour") if name in words]
    if "fill" in words and draw.random() < 0.3:
        front = [words[name] for name in ("size", "colour", "fill") if name in words]
    return Phrase(" ".join([*front, noun]) + tail, _share(scene.things, thing, attributes))


def _attributes(draw: np.random.Generator, long: bool) -> list[str]:
    """Draw what a noun phrase says: shape, colour or both for short ones, two to four attributes for long ones."""
    if long:
        extra = draw.permutation(["size", "fill", "colour"])[: int(draw.integers(1, 3))].tolist()
        return [name for name in ATTRIBUTES if name in extra or name == "shape"]
    return pick(draw, (["shape"], ["shape"], ["colour"], ["colour", "shape"], ["colour", "shape"]))


def _unique_noun(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    for _ in range(3):
        phrase = _noun(draw, scene, index, _attributes(draw, long))
        if phrase.names(index):
            return phrase
    return None


# Sentences, one builder for each kind.


def _attribute(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """ "red star": attributes that no other object shares all of; mostly few, and colour and shape first."""
    chance = {"colour": 0.65, "shape": 0.75, "fill": 0.25, "size": 0.2}
    chosen = [name for name in ATTRIBUTES if draw.random() < chance[name]]
    return _noun(draw, scene, index, chosen) if chosen else None


def _size(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """ "biggest star", "smaller red square": the size among those of a kind."""
    noun = _noun(draw, scene, index, _attributes(draw, long))
    group = noun.truths.count(True)
    if group < 2:
        return None
    biggest = draw.random() < 0.5
    words = ("biggest", "largest") if biggest else ("smallest",)
    if group == 2:
        words += ("bigger", "larger") if biggest else ("smaller",)
    values = [
        np.log(thing.diameter) if biggest else -np.log(thing.diameter) for thing in scene.things
    ]
    return Phrase(f"{pick(draw, words)} {noun.text}", _beyond(values, noun.truths, np.log(1.25)))


def _position(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """ "leftmost square", "star on the left", "top right circle", "ring in the middle": a place in the picture."""
    noun = _noun(draw, scene, index, _attributes(draw, long))
    places = [(thing.x / scene.width - 0.5, thing.y / scene.height - 0.5) for thing in scene.things]
    x, y = places[index]
    across, along = "right" if x > 0 else "left", "bottom" if y > 0 else "top"
    right, down = (1 if x > 0 else -1), (1 if y > 0 else -1)
    beside = tuple(_above(right * px, 0.11, -0.04) for px, _ in places)
    upright = tuple(_above(down * py, 0.11, -0.04) for _, py in places)
    middle = tuple(_above(-max(abs(px), abs(py)), -0.11, -0.22) for px, py in places)
    form = int(draw.integers(5))
    match form:
        case 0:
            words = ("%s on the {0}", "{0} %s", "%s on the {0} side")
            template, where = pick(draw, words).format(across), beside
        case 1:
            words = ("%s at the {0}", "{0} %s", "%s near the {0}")
            template, where = pick(draw, words).format(along), upright
        case 2:
            words = ("{0} {1} %s", "%s in the {0} {1} corner", "%s at the {0} {1}")
            template, where = pick(draw, words).format(along, across), _and(beside, upright)
        case 3:
            template, where = (
                pick(draw, ("%s in the middle", "%s in the centre", "middle %s")),
                middle,
            )
        case _:
            if noun.truths.count(True) < 2:
                return None
            if draw.random() < 0.5:
                template = pick(draw, (f"{across}most %s", f"%s farthest to the {across}"))
                where = _beyond([right * thing.x for thing in scene.things], noun.truths, 10)
            else:
                template = pick(
                    draw, (f"{along}most %s", f"{'lowest' if down > 0 else 'highest'} %s")
                )
                where = _beyond([down * thing.y for thing in scene.things], noun.truths, 10)
    return Phrase(template % noun.text, _and(noun.truths, where))


def _ordering(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """ "second star from the left": a rank among at least three of a kind, all clearly apart."""
    noun = _noun(
        draw, scene, index, pick(draw, ([], ["shape"], ["shape"], ["colour"], ["colour", "shape"]))
    )
    side, values = pick(
        draw,
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
    # The last of them is the first from the other side: nobody counts to it.
    if len(ranked) < 3 or not apart or rank >= min(len(ORDINALS), len(ranked) - 1):
        return None
    return Phrase(
        f"{ORDINALS[rank]} {noun.text} from the {side}",
        tuple(at == index for at in range(len(values))),
    )


def _relation(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """ "circle above the red square": where it lies as seen from another object; long sentences may take two."""
    return _related(draw, scene, index, long, _BESIDE)


def _occlusion(draw: np.random.Generator, scene: Scene, index: int, long: bool) -> Phrase | None:
    """ "circle behind the square": which of two hides part of the other."""
    return _related(draw, scene, index, long, _COVERING)


def _beside(dx: int, dy: int) -> Callable[[Scene, int, int], bool | None]:
    def truth(scene: Scene, index: int, anchor: int) -> bool | None:
        a, b = scene.things[index], scene.things[anchor]
        ahead, aside = (
            (a.x - b.x) * dx + (a.y - b.y) * dy,
            abs((a.x - b.x) * dy) + abs((a.y - b.y) * dx),
        )
        # Diagonal is neither clearly so nor clearly not.
        return True if ahead >= max(18, aside) else False if ahead < 4 else None

    return truth


def _in_front(scene: Scene, index: int, anchor: int) -> bool | None:
    return _above(scene.things[index].covers[anchor], 40, 1)


def _behind(scene: Scene, index: int, anchor: int) -> bool | None:
    return _in_front(scene, anchor, index)


Relations = tuple[tuple[tuple[str, ...], str, Callable[[Scene, int, int], bool | None]], ...]
"""Words, another way to say it in a long sentence, and the truth of "the object is so to the anchor"."""

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
    draw: np.random.Generator, scene: Scene, index: int, long: bool, relations: Relations
) -> Phrase | None:
    noun = _noun(draw, scene, index, _attributes(draw, long))
    text, truths = noun.text, noun.truths
    links = [
        (relation, anchor)
        for relation in relations
        for anchor in range(len(scene.things))
        if anchor != index and relation[-1](scene, index, anchor)
    ]
    if not links:
        return None
    twice = long and len(links) > 1 and draw.random() < 0.3
    for number, choice in enumerate(draw.permutation(len(links))[: 2 if twice else 1].tolist()):
        (words, clause, truth), anchor = links[choice]
        other = _unique_noun(draw, scene, anchor, long and not twice)
        if other is None:
            return None
        if twice:
            link = f"{'and' if number else 'that is'} {words[-1]}"
        elif long:
            link = pick(draw, (f"that is {words[-1]}", clause))
        else:
            link = pick(draw, words)
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
