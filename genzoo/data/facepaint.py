"""How a toy face is painted: flat layers from back to front, their edges anti-aliased by the coverage that signed distances give."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from genzoo.data.toyfactors import FACTORS, PALETTES, SKIN_TONES

Array = np.ndarray
Rig = SimpleNamespace

# Hair by style. The cap is the head grown by `side` and `top`, cut off below `burn`, less a window for the face: a squircle, `win_w` head
# half-widths wide, from `line` down, of squareness `square`, pointed by `arch` where the hair parts, slanted by `slant` with the parting.
# Behind the head of three styles hangs a squircle, `back` wider, down to `fall`. `lumps` and `spikes` are the heights of curls and spikes.
_HAIR_COLUMNS = ("top", "side", "burn", "win_w", "line", "square", "arch", "slant", "back", "fall", "lumps", "spikes")
_HAIR = {
    #           top   side  burn   win_w line   square arch  slant back  fall  lumps spikes
    "bald":     (0.00, 0.000, 0.00, 0.00, 0.00, 0.0, 0.00, 0.00, 0.00, 0.00, 0.000, 0.00),
    "buzz":     (0.03, 0.012, 0.02, 0.93, -0.36, 0.5, 0.00, 0.00, 0.00, 0.00, 0.000, 0.00),
    "short":    (0.13, 0.040, 0.04, 0.95, -0.32, 0.3, 0.00, 0.28, 0.00, 0.00, 0.000, 0.00),
    "spiky":    (0.07, 0.030, 0.04, 0.93, -0.33, 0.4, 0.00, 0.00, 0.00, 0.00, 0.000, 0.17),
    "curly":    (0.15, 0.100, 0.14, 0.92, -0.31, 0.2, 0.00, 0.00, 0.20, 0.20, 0.045, 0.00),
    "bun":      (0.07, 0.025, 0.03, 0.95, -0.37, 0.0, 0.08, 0.00, 0.00, 0.00, 0.000, 0.00),
    "bob":      (0.10, 0.090, 0.45, 0.91, -0.25, 0.7, 0.00, 0.05, 0.13, 0.50, 0.000, 0.00),
    "pigtails": (0.07, 0.025, 0.03, 0.95, -0.29, 0.5, -0.10, 0.00, 0.00, 0.00, 0.000, 0.00),
    "long":     (0.09, 0.060, 0.60, 0.91, -0.39, 0.3, 0.14, 0.00, 0.12, 1.00, 0.000, 0.00),
}  # fmt: skip


# --------------------------------------------------------------------------- geometry and colours of a face


_SHORT_SIDE = 1.84  # of the picture, in the unit of all lengths here
_MIDDLE_Y = -0.04  # height of the picture's centre; y points down
_HEAD_Y, _EYE_Y = -0.02, 0.03  # height of the head's centre in the picture, and of the eyes from there
_PIVOT_Y = 0.45  # height of the point about which the head tilts, at x = 0


def _rgb(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)[:, None, None]


_WHITE, _BLACK, _SOOT = _rgb(252, 252, 252), _rgb(30, 28, 32), _rgb(40, 28, 28)
_LIPSTICK, _THROAT, _TONGUE, _BLUSH, _FRAME = _rgb(196, 62, 76), _rgb(112, 34, 44), _rgb(222, 100, 104), _rgb(238, 92, 92), _rgb(52, 46, 56)


def _mix(colour: Array, other: Array, share: float) -> Array:
    return colour + share * (other - colour)


def rig(truth: dict[str, Array]) -> Rig:
    """Turns factors [n] into what the parts draw with: lengths [n,1,1], categories [n], colours [n,3,1,1]; float32."""
    g = Rig(**{k: v.astype(np.float32)[:, None, None] if v.dtype.kind == "f" else v for k, v in truth.items()})
    for name, palette in PALETTES.items():
        setattr(g, name, np.array(list(palette.values()), np.float32)[truth[name]][:, :, None, None])
    hair = np.array([_HAIR[style] for style in FACTORS["hair_style"]], np.float32)[truth["hair_style"]]
    for column, values in zip(_HAIR_COLUMNS, hair.T, strict=True):
        setattr(g, column, values[:, None, None])
    tones = np.array(SKIN_TONES)
    position = truth["skin"] * (len(tones) - 1)
    below = np.minimum(position.astype(int), len(tones) - 2)
    skin = tones[below] + (position - below)[:, None] * (tones[below + 1] - tones[below])
    skin = skin + truth["undertone"][:, None] * np.array([2.0, 3.0, -6.0])
    g.skin = np.clip(skin, 0, 255).astype(np.float32)[:, :, None, None]
    g.shade = g.skin * _rgb(0.86, 0.78, 0.74)
    g.lips = _mix(g.skin * 0.9, _LIPSTICK, 0.5)
    g.brow_colour = _mix(g.hair_colour, _SOOT, 0.35)
    half = g.roll * (np.pi / 360)  # half the angle in radians, as tan(x) = x + x^3/3: exact to 1e-6 within 7 degrees
    t = half + half * half * half / 3
    g.cos, g.sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    g.turn = g.yaw * g.head_width * 0.12  # sideways shift of eyes and mouth
    g.eye_x = g.eye_spacing * g.head_width
    g.eye_w = g.eye_size * g.head_width
    g.eye_h = g.eye_w * g.eye_openness
    g.mouth_y = g.head_height * 0.58
    g.mouth_w = g.mouth_width * g.head_width
    return g


# --------------------------------------------------------------------------- distances, negative inside


def _ellipse(x: Array, y: Array, a: Array | float, b: Array | float) -> Array:
    """Signed distance to the ellipse of half-axes (a, b), to first order around its outline."""
    u, v = x / a, y / b
    q = np.sqrt(u * u + v * v + 1e-12)
    u, v = u / a, v / b
    return q * (q - 1) / np.sqrt(u * u + v * v + 1e-12)


def _squircle(x: Array, y: Array, a: Array | float, b: Array | float, s: Array | float) -> Array:
    """Signed distance, to first order, to (1 - s) (u^2 + v^2) + s (u^4 + v^4) = 1 with u = x/a, v = y/b: from ellipse to rounded box."""
    u, v = x / a, y / b
    u2, v2 = u * u, v * v
    f = (1 - s) * (u2 + v2) + s * (u2 * u2 + v2 * v2) - 1
    du, dv = u * (1 - s + 2 * s * u2) / a, v * (1 - s + 2 * s * v2) / b
    return f / (2 * np.sqrt(du * du + dv * dv + 1e-12))


def _segment(x: Array, y: Array, half: Array | float) -> Array:
    """Distance to the segment from (-half, 0) to (half, 0)."""
    u = np.maximum(np.abs(x) - half, 0)
    return np.sqrt(u * u + y * y)


def _wave(t: Array) -> Array:
    """Triangle wave of period 1, from -1 at whole t to 1 between them."""
    return 1 - np.abs(4 * (t - np.floor(t)) - 2)


def _curls(x: Array, y: Array, g: Rig) -> Array:
    """Lumps of height `lumps`, to add to the distance to hair: the product of two rounded triangle waves."""
    u, v = _wave(x * 3.6), _wave(y * 3.6)
    return g.lumps * (1.5 - 0.5 * u * u) * u * (1.5 - 0.5 * v * v) * v


def _head(x: Array, y: Array, g: Rig, side: Array | float = 0.0, top: Array | float = 0.0) -> Array:
    """Signed distance to the head, grown by `side` sideways and by `top` up and down: a squircle that narrows towards the chin."""
    v = np.maximum(y / g.head_height, 0)
    narrow = 1 - 0.22 * (1 - g.jaw) * np.minimum(v * v, 1)
    return _squircle(x / narrow, y, g.head_width + side, g.head_height + top, 0.1 + 0.3 * g.jaw)


# --------------------------------------------------------------------------- painting


def _is(g: Rig, factor: str, *names: str) -> Array:
    """bool [n,1,1]: the faces whose categorical `factor` is one of `names`."""
    return np.isin(getattr(g, factor), [FACTORS[factor].index(name) for name in names])[:, None, None]


@dataclass
class _Patch:
    """A window on a batch of canvases."""

    pixels: Array  # float32 [n,3,h,w], RGB in 0..255, painted in place
    px: float  # width of a pixel

    def cover(self, distance: Array) -> Array:
        """Share of each pixel inside a shape, from the signed distance to its outline: a ramp one pixel wide."""
        return np.clip(0.5 - distance / self.px, 0, 1)

    def line(self, distance: Array, radius: Array | float) -> Array:
        """Share of each pixel under a line of half-width `radius`, from the distance to its middle; holds below a pixel."""
        return self.cover(distance - radius) - self.cover(distance + radius)

    def paint(self, share: Array, rgb: Array) -> None:
        """Blends the colour `rgb` [n,3,1,1] over the pixels by `share` [n,h,w] in 0..1."""
        delta = rgb - self.pixels
        delta *= share[:, None]
        self.pixels += delta


def _backdrop(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    disc = np.sqrt(x * x + y * y) - 0.9
    slope = (0.35 - y - 0.5 * x) / 1.118
    distance = np.where(_is(g, "backdrop", "disc"), disc, slope)
    p.paint(p.cover(distance), _mix(g.background, _WHITE, 0.35))


def _hair_behind(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    low, high = g.fall, -g.head_height - g.top
    distance = _squircle(x, y - (low + high) / 2, g.head_width + g.back, (low - high) / 2, 0.3)
    p.paint(p.cover(distance + _curls(x, y, g)), g.hair_colour * 0.82)


def _ties(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    """The bun on top, or the two pigtails."""
    pig = _is(g, "hair_style", "pigtails")
    u = np.where(pig, np.abs(x) - g.head_width - 0.14, x)
    v = np.where(pig, y + 0.16, y + g.head_height + 0.16)
    distance = _ellipse(u, np.where(pig, v / 1.35, v), 0.19, 0.185)
    p.paint(p.cover(distance), g.hair_colour * 0.9)


def _body(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    shoulders = _squircle(x, np.minimum(y - 1.28, 0), 0.84, 0.6, 0.15)
    inside = p.cover(shoulders)
    p.paint(inside, g.shirt_colour)
    stripes = np.abs(y / 0.16 - np.floor(y / 0.16) - 0.5) - 0.25
    p.paint(inside * p.cover(stripes * 0.16) * _is(g, "shirt", "striped"), _mix(g.shirt_colour, _WHITE, 0.45) * 0.92)
    neckline = _ellipse(x, y - 0.7, 0.25, 0.15)
    p.paint(inside * p.cover(neckline - 0.035), g.shirt_colour * 0.8)
    p.paint(inside * p.cover(neckline), g.skin)


def _neck(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    neck = p.cover(_segment(y - 0.4, x, 0.22) - 0.17)
    p.paint(neck, g.skin)
    p.paint(neck * p.cover(_head(x, y - 0.1, g)), g.shade)


def _skull(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x + g.turn / 2) - g.head_width
    p.paint(p.cover(_ellipse(u, y - 0.06, 0.085, 0.125)), g.skin)
    p.paint(p.cover(_ellipse(u - 0.02, y - 0.06, 0.04, 0.075)), g.shade)
    head = p.cover(_head(x, y, g))
    p.paint(head, g.skin)
    lit = p.cover(_head(x + 0.045, y + 0.035, g))
    p.paint(head * (1 - lit) * 0.5, g.shade)


def _cheeks(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x - g.turn) - g.head_width * 0.56
    r2 = (u * u + (y - 0.2) * (y - 0.2)) / 0.0144
    p.paint(np.maximum(1 - r2, 0) * 0.3, _mix(g.skin, _BLUSH, 0.7))


def _beard(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    goatee = _is(g, "beard", "goatee")
    jaw = _head(x, y, g, 0.012, 0.035)
    u = x - g.turn * 0.9
    bare = _squircle(u, y + 0.2, g.head_width * 0.86, g.mouth_y + 0.105, 0.35)
    chin = _squircle(u, y - g.mouth_y - 0.13, g.mouth_w * 0.75, 0.2, 0.3)
    full = np.maximum(jaw, np.maximum(-bare, -y))
    p.paint(p.cover(np.where(goatee, np.maximum(jaw, chin), full)), _mix(g.hair_colour, _SOOT, 0.15))


def _eyes(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn, y - _EYE_Y
    side = np.where(x > 0, np.float32(1), np.float32(-1))
    u = np.abs(x) - g.eye_x
    lid = 0.022
    p.paint(p.cover(_ellipse(u, y + lid, g.eye_w + lid * 0.6, g.eye_h + lid)), _BLACK)
    white = p.cover(_ellipse(u, y, g.eye_w, g.eye_h))
    p.paint(white, _WHITE)
    iris = g.eye_w * 0.66
    x = x - side * g.eye_x - g.gaze_x * g.eye_w * 0.34
    y = y - g.gaze_y * g.eye_h * 0.22
    r = np.sqrt(x * x + y * y)
    p.paint(white * p.cover(r - iris), g.eye_colour)
    p.paint(white * p.line(r, iris * 0.55), _BLACK)
    x, y = x + iris * 0.36, y + iris * 0.4
    p.paint(white * p.line(np.sqrt(x * x + y * y), iris * 0.28), _WHITE)


def _brows(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x - g.turn) - g.eye_x
    v = y - _EYE_Y + g.eye_h + 0.06 + 0.05 * g.brow_height + u * g.brow_angle * 0.4
    v = v + u * u * 1.6
    p.paint(p.line(_segment(u, v, g.eye_w * 0.85), 0.024), g.brow_colour)


def _nose(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn * 1.7, y - g.head_height * 0.27 - 0.03 * g.nose_size
    a, b = 0.05 + 0.035 * g.nose_size, 0.04 + 0.03 * g.nose_size
    tip = p.cover(_ellipse(x, y, a, b))
    p.paint(tip, g.shade)
    p.paint(tip * p.cover(_ellipse(x + 0.006, y + 0.022, a, b)), _mix(g.skin, _WHITE, 0.15))


def _moustache(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    u = np.abs(x - g.turn * 1.1) - g.mouth_w * 0.42
    v = y - g.mouth_y + 0.075 - u * 0.25 - u * u * 1.5
    p.paint(p.cover(_ellipse(u, v, g.mouth_w * 0.56, 0.045)), _mix(g.hair_colour, _SOOT, 0.15))


def _mouth(p: _Patch, x: Array, y: Array, g: Rig) -> None:
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
    p.paint(inside, _THROAT)
    p.paint(inside * p.cover(upper - opening * 0.32), _WHITE)
    tongue = _ellipse(x, lower + 0.005, g.mouth_w * 0.5, opening * 0.4)
    p.paint(inside * p.cover(tongue), _TONGUE)


def _glasses(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    x, y = x - g.turn * 1.15, y - _EYE_Y
    square = _is(g, "glasses", "square")
    u = np.abs(x) - g.eye_x
    a = g.eye_x - 0.03
    b = np.where(square, 0.15, a)
    lens = np.where(square, _squircle(u, y, a, b, 0.85), np.sqrt(u * u + y * y) - a)
    r = 0.018  # half-width of the frame
    p.paint(p.cover(lens) * 0.16, _WHITE)
    p.paint(p.line(lens, r), _FRAME)
    p.paint(p.line(_segment(x, y + 0.02, 0.03), r), _FRAME)
    reach = (g.head_width - g.eye_x - a) / 2
    p.paint(p.line(_segment(u - a - reach, y + 0.03, np.maximum(reach, 0)), r), _FRAME)


def _hair_in_front(p: _Patch, x: Array, y: Array, g: Rig) -> None:
    spikes = g.spikes * (0.5 + 0.5 * _wave(x * 5))
    cap = _head(x, y, g, g.side, g.top + spikes) + _curls(x, y, g)
    u = np.abs(x - g.turn * 0.8 - g.parting * 0.05) + g.arch
    v = y - 0.3 + g.slant * g.parting * x
    face = _squircle(u, v, g.win_w * g.head_width + g.arch, 0.3 - g.line, g.square)
    burn = y - g.burn - 0.6 * (np.abs(x) - g.head_width)
    hair = p.cover(np.maximum(np.maximum(cap, -face), burn))
    p.paint(hair, g.hair_colour)
    shine = p.line(cap + 0.075, 0.016) * np.clip(-2.2 - 5 * x - 7 * y, 0, 1) * ~_is(g, "hair_style", "spiky")
    p.paint(hair * shine * 0.35, _mix(g.hair_colour, _WHITE, 0.6))


# --------------------------------------------------------------------------- the layers


@dataclass(frozen=True)
class _Part:
    """A layer of the picture."""

    paint: Callable[[_Patch, Array, Array, Rig], None]  # paints it on a patch whose pixels lie at x, y [n,h,w], y down
    window: tuple[float, float, float, float]  # left, right, top, bottom of all that it can touch, in the picture
    only: tuple[str, ...] = ()  # a factor and the categories that have this layer; all faces if empty
    on_head: bool = True  # x, y count from the head's centre and tilt with it; else from the origin of the picture


_ALL = (-np.inf, np.inf, -np.inf, np.inf)
_PARTS = (  # from back to front
    _Part(_backdrop, _ALL, only=("backdrop", "disc", "slope"), on_head=False),
    _Part(_hair_behind, (-0.9, 0.9, -1.0, 1.2), only=("hair_style", "curly", "bob", "long")),
    _Part(_ties, (-1.0, 1.0, -1.0, 0.4), only=("hair_style", "bun", "pigtails")),
    _Part(_body, (-1.0, 1.0, 0.5, np.inf), on_head=False),
    _Part(_neck, (-0.3, 0.3, 0.1, 0.9), on_head=False),
    _Part(_skull, (-0.75, 0.75, -0.8, 0.75)),
    _Part(_cheeks, (-0.6, 0.6, -0.1, 0.5)),
    _Part(_beard, (-0.7, 0.7, -0.2, 0.8), only=("beard", "goatee", "full")),
    _Part(_eyes, (-0.6, 0.6, -0.4, 0.4)),
    _Part(_nose, (-0.3, 0.3, -0.1, 0.4)),
    _Part(_mouth, (-0.5, 0.5, 0.0, 0.7)),
    _Part(_moustache, (-0.5, 0.5, 0.0, 0.6), only=("beard", "moustache")),
    _Part(_glasses, (-0.7, 0.7, -0.4, 0.4), only=("glasses", "round", "square")),
    _Part(_hair_in_front, (-0.8, 0.8, -1.0, 0.7), only=("hair_style", *FACTORS["hair_style"][1:])),
    _Part(_brows, (-0.6, 0.6, -0.5, 0.2)),
)


def _span(low: float, high: float, centres: Array) -> slice:
    """Pixels along one axis that something between `low` and `high` can touch."""
    margin = centres[1] - centres[0]
    start, stop = np.searchsorted(centres, (low - margin, high + margin))
    return slice(start, stop)


def paint_chunk(rig: Rig, h: int, w: int) -> Array:
    """Paints the faces of `rig` [n], layer by layer; uint8 [n,3,h,w]."""
    short = min(h, w)
    pixel = _SHORT_SIDE / short
    xs, ys = (((np.arange(side) + 0.5 - side / 2) * pixel + middle).astype(np.float32) for side, middle in ((w, 0.0), (h, _MIDDLE_Y)))
    canvas = np.broadcast_to(rig.background, (len(rig.background), 3, h, w)).copy()
    for part in _PARTS:
        rows = np.flatnonzero(_is(rig, *part.only)) if part.only else np.arange(len(canvas))
        if not len(rows):
            continue
        g = Rig(**{k: v[rows] for k, v in vars(rig).items()})
        across, down = _span(*part.window[:2], xs), _span(*part.window[2:], ys)
        x, y = xs[None, None, across], ys[None, down, None]
        if part.on_head:
            y = y - _PIVOT_Y
            x, y = g.cos * x + g.sin * y, g.cos * y - g.sin * x + (_PIVOT_Y - _HEAD_Y)
        patch = _Patch(canvas[rows, :, down, across], pixel)
        part.paint(patch, x, y, g)
        canvas[rows, :, down, across] = patch.pixels
    return (canvas + 0.5).astype(np.uint8)
