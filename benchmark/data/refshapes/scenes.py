"""Scenes of the embedded data sets: coloured, textured, overlapping shapes on a textured ground.

A scene is drawn three times as large as it is written, so that edges are smooth. An object owns a
pixel of the written image if it owns most of it, that is, at least 5 of the 9 drawn pixels.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

SCALE = 3
ROUND = ("circle", "ring", "heart", "moon")
ANGULAR = ("square", "triangle", "star", "cross")
SHAPES = ROUND + ANGULAR
COLOURS = {
    "red": (215, 40, 40),
    "orange": (245, 140, 25),
    "yellow": (240, 220, 50),
    "green": (45, 155, 65),
    "cyan": (60, 205, 215),
    "blue": (45, 75, 210),
    "purple": (145, 55, 175),
}
FILLS = ("solid", "striped", "dotted", "checked")
DIAMETERS = {"small": (36.0, 44.0), "big": (56.0, 68.0)}
IMAGE_SIZES = ((128, 128), (144, 112), (112, 144), (136, 120), (120, 136))  # width, height
GROUNDS = (
    (128, 124, 118),
    (176, 168, 152),
    (98, 104, 112),
    (150, 138, 120),
    (186, 186, 182),
    (112, 116, 100),
)
VISIBLE = 0.6  # least share of an object that nothing covers
_LIGHT = (246, 242, 236)
_DARK = (38, 36, 42)
_BRIGHT = ("orange", "yellow", "cyan")  # their patterns are dark, those of the other colours light
_TURNS = {
    "square": 12.0,
    "triangle": 20.0,
    "star": 36.0,
    "cross": 14.0,
    "heart": 20.0,
    "moon": 180.0,
}  # degrees


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        shape: one of SHAPES.
        colour: one of COLOURS.
        fill: one of FILLS.
        size: one of DIAMETERS.
        diameter: of the whole object, in pixels of the written image.
        x: centroid of its visible pixels, in pixels from the left.
        y: centroid of its visible pixels, in pixels from the top.
        covers: for every object of the scene, the number of its pixels that this object hides.
    """

    shape: str
    colour: str
    fill: str
    size: str
    diameter: float
    x: float
    y: float
    covers: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Scene:
    """One image.

    Attributes:
        image: RGB, uint8 (height, width, 3).
        masks: visible pixels of each object, uint8 (height, width) in {0, 1}. No pixel belongs to
            two objects.
        things: the objects, from the back to the front.
    """

    image: np.ndarray
    masks: tuple[np.ndarray, ...]
    things: tuple[Thing, ...]

    @property
    def width(self) -> int:
        return self.image.shape[1]

    @property
    def height(self) -> int:
        return self.image.shape[0]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What an object shall look like and where it shall lie.

    The centre is in pixels of the written image, and the turn is in degrees.
    """

    shape: str
    colour: str
    fill: str
    size: str
    diameter: float
    x: float
    y: float
    turn: float


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """Return one of `options`, drawn uniformly."""
    # This is several times as fast as `rng.integers`.
    return options[int(rng.random() * len(options))]


def compose(rng: np.random.Generator, shapes: Sequence[str]) -> Scene | None:
    """Return a scene of 3 or 4 objects, or None if too much of one of them came to be hidden.

    At least two objects share their shape, and some share their colour. So a referent has
    distractors, and the text is needed to tell it from them.

    Args:
        rng: decides everything.
        shapes: at least two objects have a shape of these. The others have any shape.
    """
    width, height = pick(rng, IMAGE_SIZES)
    common = pick(rng, shapes)
    pool_shapes = (common, pick(rng, SHAPES), pick(rng, SHAPES))
    pool_colours = rng.permutation(list(COLOURS))[:6].tolist()
    plans: list[_Plan] = []
    for index in range(3 + int(rng.random() < 1 / 3)):
        shape = common if index < 2 else pick(rng, pool_shapes)
        size = pick(rng, tuple(DIAMETERS))
        diameter = float(rng.uniform(*DIAMETERS[size]))
        place = _place(rng, plans, diameter, width, height)
        if place is None:
            return None
        fill = "solid" if rng.random() < 0.7 else pick(rng, FILLS)
        turn = float(rng.uniform(-1, 1)) * _TURNS.get(shape, 0.0)
        plans.append(_Plan(shape, pick(rng, pool_colours), fill, size, diameter, *place, turn))
    return _render(rng, [plans[index] for index in rng.permutation(len(plans))], width, height)


def _place(
    rng: np.random.Generator, plans: list[_Plan], diameter: float, width: int, height: int
) -> tuple[float, float] | None:
    """Return a centre (x, y) far enough from those of the others, or None if none was found.

    Half of the objects are put so close to another one that they touch it.
    """
    inset = 0.52 * diameter
    neighbour = pick(rng, plans) if plans and rng.random() < 0.5 else None
    for _ in range(20):
        x = float(rng.uniform(inset, width - inset))
        y = float(rng.uniform(inset, height - inset))
        if neighbour:
            angle = float(rng.uniform(0, 2 * np.pi))
            distance = float(rng.uniform(0.32, 0.4)) * (diameter + neighbour.diameter)
            beside_x = neighbour.x + distance * np.cos(angle)
            beside_y = neighbour.y + distance * np.sin(angle)
            x = float(np.clip(beside_x, inset, width - inset))
            y = float(np.clip(beside_y, inset, height - inset))
        if all(
            np.hypot(x - plan.x, y - plan.y) > 0.3 * (diameter + plan.diameter) for plan in plans
        ):
            return x, y
    return None


def _render(rng: np.random.Generator, plans: list[_Plan], width: int, height: int) -> Scene | None:
    """Return the scene of these plans, or None if less than VISIBLE of an object is seen."""
    canvas = cv2.resize(
        _ground(rng, width, height), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST
    )
    owner = np.zeros(canvas.shape[:2], np.uint8)  # 1 + number of the object in front, or 0
    whole = np.zeros((len(plans), *owner.shape), np.uint8)  # masks without what hides them
    boxes = []  # of the objects, in written pixels
    for index, plan in enumerate(plans):
        contours = [_to_canvas(contour, plan) for contour in _outline(plan.shape)]
        cv2.fillPoly(whole[index], contours, 1)
        x, y, w, h = cv2.boundingRect(contours[0])
        left = max(x, 0) // SCALE
        top = max(y, 0) // SCALE
        boxes.append(np.s_[top : (y + h) // SCALE + 1, left : (x + w) // SCALE + 1])
        region = _drawn(boxes[-1])
        inside = whole[index][region]
        paint = _paint(rng, plan, inside.shape)
        cv2.polylines(
            paint,
            [contour - (left * SCALE, top * SCALE) for contour in contours],
            True,
            tuple(value * 11 // 20 for value in COLOURS[plan.colour]),  # a darker edge
            SCALE + 2,
        )
        canvas[region] = cv2.copyTo(paint, inside, canvas[region])
        owner[region][inside > 0] = index + 1
    size = (width, height)
    masks = tuple(np.zeros((height, width), np.uint8) for _ in plans)
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        owns = (owner[_drawn(box)] == index + 1).view(np.uint8) * 255
        mask[box] = cv2.resize(owns, mask[box].shape[::-1], interpolation=cv2.INTER_AREA) > 127
    # What hides what is counted on one drawn pixel for each written one.
    middle = np.s_[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    owned = owner[middle]
    # shows[a, b] is how much of b is seen where a lies.
    shows = np.array(
        [np.bincount(owned[shape[middle] > 0], minlength=len(plans) + 1)[1:] for shape in whole]
    )
    if (shows.diagonal() < VISIBLE * shows.sum(1)).any():
        return None
    covers = (shows - np.diag(shows.diagonal())).T
    things = []
    for plan, mask, covered in zip(plans, masks, covers, strict=True):
        moments = cv2.moments(mask, binaryImage=True)
        things.append(
            Thing(
                shape=plan.shape,
                colour=plan.colour,
                fill=plan.fill,
                size=plan.size,
                diameter=round(plan.diameter, 1),
                x=round(moments["m10"] / moments["m00"], 1),
                y=round(moments["m01"] / moments["m00"], 1),
                covers=tuple(covered.tolist()),
            )
        )
    return Scene(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), masks, tuple(things))


def _drawn(box: tuple[slice, slice]) -> tuple[slice, ...]:
    return tuple(slice(side.start * SCALE, side.stop * SCALE) for side in box)


def _to_canvas(contour: np.ndarray, plan: _Plan) -> np.ndarray:
    angle = np.deg2rad(plan.turn)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = contour @ rotation * (plan.diameter / 2) + (plan.x, plan.y)
    return np.rint(points * SCALE).astype(np.int32)


@functools.cache
def _outline(shape: str) -> tuple[np.ndarray, ...]:
    """Return the contours of a shape of radius about 1, each (N, 2). A second one is a hole."""
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.sin(turn), -np.cos(turn)], 1)
    match shape:
        case "circle":
            return (circle,)
        case "ring":
            return circle, 0.5 * circle
        case "heart":
            x = 16 * np.sin(turn) ** 3
            y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
            return (np.stack([x / 16, -(y + 2.5) / 15], 1),)
        case "moon":  # a disc without the disc of radius 0.8 around (0.62, 0)
            outer = np.linspace(0.927, 2 * np.pi - 0.927, 40)
            inner = np.linspace(2 * np.pi - 1.595, 1.595, 30)
            horns = (
                np.stack([np.cos(outer), np.sin(outer)], 1),
                np.stack([0.62 + 0.8 * np.cos(inner), 0.8 * np.sin(inner)], 1),
            )
            return (np.concatenate(horns) + (0.2, 0),)
        case "square":
            return (0.85 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float),)
        case "triangle":
            return (np.array([[0, -1.0], [1.0, 0.8], [-1.0, 0.8]]),)
        case "star":
            radii = np.where(np.arange(10) % 2, 0.5, 1.1)
            return (circle[::6] * radii[:, None],)
        case _:  # cross
            a = 0.36
            b = 1.0
            corners = [
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            ]
            return (np.array(corners),)


def _paint(rng: np.random.Generator, plan: _Plan, shape: tuple[int, int]) -> np.ndarray:
    """Return the filling of an object's bounding box, uint8 (*shape, 3)."""
    light = np.linspace(1.06, 0.9, shape[0])[:, None]
    jittered = np.array(COLOURS[plan.colour]) + rng.integers(-12, 13, 3)
    first, second = (
        np.clip(light * tone, 0, 255).astype(np.uint8)[:, None]
        for tone in (jittered, _DARK if plan.colour in _BRIGHT else _LIGHT)
    )
    period = float(rng.uniform(8, 10)) * SCALE
    angle = float(rng.uniform(0, np.pi))
    y, x = (axis.astype(np.float32) / period for axis in np.ogrid[: shape[0], : shape[1]])
    cos = float(np.cos(angle))
    sin = float(np.sin(angle))
    # u and v are the place in one period of the turned pattern, each in [0, 1).
    u = x * cos + y * sin
    v = y * cos - x * sin
    u = u - np.floor(u)
    v = v - np.floor(v)
    match plan.fill:
        case "solid":
            inked = np.zeros(shape, bool)
        case "striped":
            inked = u < 0.42
        case "dotted":
            inked = (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.27**2
        case _:  # checked
            inked = (u < 0.5) ^ (v < 0.5)
    return cv2.merge([np.where(inked, second[..., band], first[..., band]) for band in range(3)])


def _ground(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a muted ground with grain, uint8 (height, width, 3): clouds, planks or tiles."""
    base = np.array(pick(rng, GROUNDS)) + rng.integers(-15, 16)
    clouds = cv2.resize(
        14 * rng.standard_normal((6, 6), np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    texture = pick(rng, ("clouds", "planks", "tiles"))
    if texture != "clouds":
        step = int(rng.integers(14, 26))
        rows = np.arange(height) // step
        columns = np.arange(width) // step * (texture == "tiles")
        joints = (np.diff(rows, prepend=0) > 0)[:, None] | (np.diff(columns, prepend=0) > 0)
        shades = 9 * rng.standard_normal((rows[-1] + 1, columns[-1] + 1), np.float32)
        clouds = clouds / 2 + shades[rows][:, columns] - np.float32(22) * joints
    grain = 5 * rng.standard_normal((height, width), np.float32)
    return cv2.merge(
        [np.clip(clouds + grain + float(tone), 0, 255).astype(np.uint8) for tone in base]
    )
