"""Paints toy faces: flat layers from back to front, with edges anti-aliased by the coverage of each pixel.

Coverage comes from the signed distance to a shape's outline.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from genzoo.data.embedded import faceshapes as shapes
from genzoo.data.embedded.facerig import (
    BLACK,
    BLUSH,
    EYE_Y,
    FRAME,
    HEAD_Y,
    MIDDLE_Y,
    PIVOT_Y,
    SHORT_SIDE,
    SOOT,
    THROAT,
    TONGUE,
    WHITE,
    Rig,
    mix,
)
from genzoo.data.embedded.toyfactors import CLASSES

Array = np.ndarray


def _is(g: Rig, factor: str, *names: str) -> Array:
    """bool [n,1,1]: the faces whose categorical `factor` is one of `names`."""
    return np.isin(getattr(g, factor), [CLASSES[factor].index(name) for name in names])[:, None, None]


@dataclass
class Patch:
    """A window on a batch of canvases."""

    pixels: Array  # float32 [n,3,h,w], RGB in 0..255, painted in place
    px: float  # width of a pixel

    def cover(self, distance: Array) -> Array:
        """Share of each pixel inside a shape, from the signed distance to its outline: a ramp one pixel wide."""
        return np.clip(0.5 - distance / self.px, 0, 1)

    def line(self, distance: Array, radius: Array | float) -> Array:
        """Share of each pixel under a line of half-width `radius`, from the distance to its middle.

        Right for lines thinner than a pixel, too.
        """
        return self.cover(distance - radius) - self.cover(distance + radius)

    def paint(self, share: Array, rgb: Array) -> None:
        """Blends the color `rgb` [n,3,1,1] over the pixels by `share` [n,h,w] in 0..1."""
        delta = rgb - self.pixels
        delta *= share[:, None]
        self.pixels += delta


def _backdrop(p: Patch, x: Array, y: Array, g: Rig) -> None:
    disc = np.sqrt(x * x + y * y) - 0.9
    slope = (0.35 - y - 0.5 * x) / 1.118
    distance = np.where(_is(g, "backdrop", "disc"), disc, slope)
    p.paint(p.cover(distance), mix(g.background, WHITE, 0.35))


def _hair_behind(p: Patch, x: Array, y: Array, g: Rig) -> None:
    low, high = g.fall, -g.head_height - g.top
    distance = shapes.squircle(x, y - (low + high) / 2, g.head_width + g.back, (low - high) / 2, 0.3)
    p.paint(p.cover(distance + shapes.curls(x, y, g)), g.hair_colour * 0.82)


def _ties(p: Patch, x: Array, y: Array, g: Rig) -> None:
    """The bun on top, or the two pigtails."""
    pig = _is(g, "hair_style", "pigtails")
    u = np.where(pig, np.abs(x) - g.head_width - 0.14, x)
    v = np.where(pig, y + 0.16, y + g.head_height + 0.16)
    distance = shapes.ellipse(u, np.where(pig, v / 1.35, v), 0.19, 0.185)
    p.paint(p.cover(distance), g.hair_colour * 0.9)


def _body(p: Patch, x: Array, y: Array, g: Rig) -> None:
    shoulders = shapes.squircle(x, np.minimum(y - 1.28, 0), 0.84, 0.6, 0.15)
    inside = p.cover(shoulders)
    p.paint(inside, g.shirt_colour)
    stripes = np.abs(y / 0.16 - np.floor(y / 0.16) - 0.5) - 0.25
    p.paint(inside * p.cover(stripes * 0.16) * _is(g, "shirt", "striped"), mix(g.shirt_colour, WHITE, 0.45) * 0.92)
    neckline = shapes.ellipse(x, y - 0.7, 0.25, 0.15)
    p.paint(inside * p.cover(neckline - 0.035), g.shirt_colour * 0.8)
    p.paint(inside * p.cover(neckline), g.skin)


def _neck(p: Patch, x: Array, y: Array, g: Rig) -> None:
    neck = p.cover(shapes.segment(y - 0.4, x, 0.22) - 0.17)
    p.paint(neck, g.skin)
    p.paint(neck * p.cover(shapes.head(x, y - 0.1, g)), g.shade)


def _skull(p: Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x + g.turn / 2) - g.head_width
    p.paint(p.cover(shapes.ellipse(u, y - 0.06, 0.085, 0.125)), g.skin)
    p.paint(p.cover(shapes.ellipse(u - 0.02, y - 0.06, 0.04, 0.075)), g.shade)
    head = p.cover(shapes.head(x, y, g))
    p.paint(head, g.skin)
    lit = p.cover(shapes.head(x + 0.045, y + 0.035, g))
    p.paint(head * (1 - lit) * 0.5, g.shade)


def _cheeks(p: Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x - g.turn) - g.head_width * 0.56
    r2 = (u * u + (y - 0.2) * (y - 0.2)) / 0.0144
    p.paint(np.maximum(1 - r2, 0) * 0.3, mix(g.skin, BLUSH, 0.7))


def _beard(p: Patch, x: Array, y: Array, g: Rig) -> None:
    goatee = _is(g, "beard", "goatee")
    jaw = shapes.head(x, y, g, 0.012, 0.035)
    u = x - g.turn * 0.9
    bare = shapes.squircle(u, y + 0.2, g.head_width * 0.86, g.mouth_y + 0.105, 0.35)
    chin = shapes.squircle(u, y - g.mouth_y - 0.13, g.mouth_w * 0.75, 0.2, 0.3)
    full = np.maximum(jaw, np.maximum(-bare, -y))
    p.paint(p.cover(np.where(goatee, np.maximum(jaw, chin), full)), mix(g.hair_colour, SOOT, 0.15))


def _eyes(p: Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn, y - EYE_Y
    side = np.where(x > 0, np.float32(1), np.float32(-1))
    u = np.abs(x) - g.eye_x
    lid = 0.022
    p.paint(p.cover(shapes.ellipse(u, y + lid, g.eye_w + lid * 0.6, g.eye_h + lid)), BLACK)
    white = p.cover(shapes.ellipse(u, y, g.eye_w, g.eye_h))
    p.paint(white, WHITE)
    iris = g.eye_w * 0.66
    x = x - side * g.eye_x - g.gaze_x * g.eye_w * 0.34
    y = y - g.gaze_y * g.eye_h * 0.22
    r = np.sqrt(x * x + y * y)
    p.paint(white * p.cover(r - iris), g.eye_colour)
    p.paint(white * p.line(r, iris * 0.55), BLACK)
    x, y = x + iris * 0.36, y + iris * 0.4
    p.paint(white * p.line(np.sqrt(x * x + y * y), iris * 0.28), WHITE)


def _brows(p: Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x - g.turn) - g.eye_x
    v = y - EYE_Y + g.eye_h + 0.06 + 0.05 * g.brow_height + u * g.brow_angle * 0.4
    v = v + u * u * 1.6
    p.paint(p.line(shapes.segment(u, v, g.eye_w * 0.85), 0.024), g.brow_colour)


def _nose(p: Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn * 1.7, y - g.head_height * 0.27 - 0.03 * g.nose_size
    a, b = 0.05 + 0.035 * g.nose_size, 0.04 + 0.03 * g.nose_size
    tip = p.cover(shapes.ellipse(x, y, a, b))
    p.paint(tip, g.shade)
    p.paint(tip * p.cover(shapes.ellipse(x + 0.006, y + 0.022, a, b)), mix(g.skin, WHITE, 0.15))


def _moustache(p: Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x - g.turn * 1.1) - g.mouth_w * 0.42
    v = y - g.mouth_y + 0.075 - u * 0.25 - u * u * 1.5
    p.paint(p.cover(shapes.ellipse(u, v, g.mouth_w * 0.56, 0.045)), mix(g.hair_colour, SOOT, 0.15))


def _mouth(p: Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn * 1.1, y - g.mouth_y
    u = np.clip(x / g.mouth_w, -1, 1)
    bow, bend = 1 - u * u, g.smile * 0.13
    opening = 0.008 + g.mouth_open * g.mouth_open * 0.13
    upper = y - bend * (bow - 0.6)
    lower = upper - opening * bow
    steep = np.sqrt(1 + (2 * u * bend / g.mouth_w) ** 2)
    ends = p.cover(np.abs(x) - g.mouth_w)

    def between(grow: Array | float) -> Array:
        return ends * np.maximum(p.cover(-upper / steep - grow) + p.cover(lower / steep - grow) - 1, 0)

    p.paint(between(0.008 + 0.014 * bow), g.lips)
    inside = between(0)
    p.paint(inside, THROAT)
    p.paint(inside * p.cover(upper - opening * 0.32), WHITE)
    tongue = shapes.ellipse(x, lower + 0.005, g.mouth_w * 0.5, opening * 0.4)
    p.paint(inside * p.cover(tongue), TONGUE)


def _glasses(p: Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn * 1.15, y - EYE_Y
    square = _is(g, "glasses", "square")
    u = np.abs(x) - g.eye_x
    a = g.eye_x - 0.03
    b = np.where(square, 0.15, a)
    lens = np.where(square, shapes.squircle(u, y, a, b, 0.85), np.sqrt(u * u + y * y) - a)
    r = 0.018  # half-width of the frame
    p.paint(p.cover(lens) * 0.16, WHITE)
    p.paint(p.line(lens, r), FRAME)
    p.paint(p.line(shapes.segment(x, y + 0.02, 0.03), r), FRAME)
    reach = (g.head_width - g.eye_x - a) / 2
    p.paint(p.line(shapes.segment(u - a - reach, y + 0.03, np.maximum(reach, 0)), r), FRAME)


def _hair_in_front(p: Patch, x: Array, y: Array, g: Rig) -> None:
    spikes = g.spikes * (0.5 + 0.5 * shapes.wave(x * 5))
    cap = shapes.head(x, y, g, g.side, g.top + spikes) + shapes.curls(x, y, g)
    u = np.abs(x - g.turn * 0.8 - g.parting * 0.05) + g.arch
    v = y - 0.3 + g.slant * g.parting * x
    face = shapes.squircle(u, v, g.win_w * g.head_width + g.arch, 0.3 - g.line, g.square)
    burn = y - g.burn - 0.6 * (np.abs(x) - g.head_width)
    hair = p.cover(np.maximum(np.maximum(cap, -face), burn))
    p.paint(hair, g.hair_colour)
    shine = p.line(cap + 0.075, 0.016) * np.clip(-2.2 - 5 * x - 7 * y, 0, 1) * ~_is(g, "hair_style", "spiky")
    p.paint(hair * shine * 0.35, mix(g.hair_colour, WHITE, 0.6))


@dataclass(frozen=True)
class Part:
    """A layer of the picture."""

    paint: Callable[[Patch, Array, Array, Rig], None]  # paints it on a patch with pixels at x, y [n,h,w], y down
    window: tuple[float, float, float, float]  # left, right, top, bottom of all that it can touch, in the picture
    only: tuple[str, ...] = ()  # a factor and the categories that have this layer; all faces if empty
    on_head: bool = True  # x, y count from the head's center and tilt with it; else from the origin of the picture


_ALL = (-np.inf, np.inf, -np.inf, np.inf)
PARTS: dict[str, Part] = {  # from back to front
    "backdrop": Part(_backdrop, _ALL, only=("backdrop", "disc", "slope"), on_head=False),
    "hair_behind": Part(_hair_behind, (-0.9, 0.9, -1.0, 1.2), only=("hair_style", "curly", "bob", "long")),
    "ties": Part(_ties, (-1.0, 1.0, -1.0, 0.4), only=("hair_style", "bun", "pigtails")),
    "body": Part(_body, (-1.0, 1.0, 0.5, np.inf), on_head=False),
    "neck": Part(_neck, (-0.3, 0.3, 0.1, 0.9), on_head=False),
    "skull": Part(_skull, (-0.75, 0.75, -0.8, 0.75)),
    "cheeks": Part(_cheeks, (-0.6, 0.6, -0.1, 0.5)),
    "beard": Part(_beard, (-0.7, 0.7, -0.2, 0.8), only=("beard", "goatee", "full")),
    "eyes": Part(_eyes, (-0.6, 0.6, -0.4, 0.4)),
    "nose": Part(_nose, (-0.3, 0.3, -0.1, 0.4)),
    "mouth": Part(_mouth, (-0.5, 0.5, 0.0, 0.7)),
    "moustache": Part(_moustache, (-0.5, 0.5, 0.0, 0.6), only=("beard", "moustache")),
    "glasses": Part(_glasses, (-0.7, 0.7, -0.4, 0.4), only=("glasses", "round", "square")),
    "hair_in_front": Part(_hair_in_front, (-0.8, 0.8, -1.0, 0.7), only=("hair_style", *CLASSES["hair_style"][1:])),
    "brows": Part(_brows, (-0.6, 0.6, -0.5, 0.2)),
}


def _span(low: float, high: float, centers: Array) -> slice:
    """Pixels along one axis that something between `low` and `high` can touch."""
    margin = centers[1] - centers[0]
    start, stop = np.searchsorted(centers, (low - margin, high + margin))
    return slice(start, stop)


def paint_chunk(rig: Rig, h: int, w: int, parts: Iterable[Part] = tuple(PARTS.values())) -> Array:
    """Paints the faces of `rig` [n], layer by layer; uint8 [n,3,h,w]."""
    short = min(h, w)
    pixel = SHORT_SIDE / short
    xs, ys = (
        ((np.arange(side) + 0.5 - side / 2) * pixel + middle).astype(np.float32)
        for side, middle in ((w, 0.0), (h, MIDDLE_Y))
    )
    canvas = np.broadcast_to(rig.background, (len(rig.background), 3, h, w)).copy()
    for part in parts:
        rows = np.flatnonzero(_is(rig, *part.only)) if part.only else np.arange(len(canvas))
        if not len(rows):
            continue
        g = Rig(**{k: v[rows] for k, v in vars(rig).items()})
        across, down = _span(*part.window[:2], xs), _span(*part.window[2:], ys)
        x, y = xs[None, None, across], ys[None, down, None]
        if part.on_head:
            y = y - PIVOT_Y
            x, y = g.cos * x + g.sin * y, g.cos * y - g.sin * x + (PIVOT_Y - HEAD_Y)
        patch = Patch(canvas[rows, :, down, across], pixel)
        part.paint(patch, x, y, g)
        canvas[rows, :, down, across] = patch.pixels
    return (canvas + 0.5).astype(np.uint8)
