"""The geometry and the colors of a toy face, computed from its factors."""

from types import SimpleNamespace

import numpy as np

from genzoo.data.embedded.toyfactors import CLASSES, PALETTES, SKIN_TONES

Array = np.ndarray
Rig = SimpleNamespace  # what `rig` returns: arrays by name

# Hair by style. The cap is the head grown by `side` and `top`, cut off below `burn`, less a window for the face: a
# squircle, `win_w` head half-widths wide, from `line` down, of squareness `square`, pointed by `arch` where the hair
# parts, slanted by `slant` with the parting. Behind the head of three styles hangs a squircle, `back` wider, down to
# `fall`. `lumps` and `spikes` are the heights of curls and spikes.
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


SHORT_SIDE = 1.84  # of the picture, in the unit of all lengths here
MIDDLE_Y = -0.04  # height of the picture's center; y points down
HEAD_Y, EYE_Y = -0.02, 0.03  # height of the head's center in the picture, and of the eyes from there
PIVOT_Y = 0.45  # height of the point about which the head tilts, at x = 0


def rgb(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)[:, None, None]


WHITE, BLACK, SOOT = rgb(252, 252, 252), rgb(30, 28, 32), rgb(40, 28, 28)
LIPSTICK, THROAT, TONGUE = rgb(196, 62, 76), rgb(112, 34, 44), rgb(222, 100, 104)
BLUSH, FRAME = rgb(238, 92, 92), rgb(52, 46, 56)


def mix(color: Array, other: Array, share: float) -> Array:
    return color + share * (other - color)


def rig(truth: dict[str, Array]) -> Rig:
    """Turns factors [n] into what the parts draw with: lengths [n,1,1], categories [n], colors [n,3,1,1]; float32."""
    g = Rig(**{k: v.astype(np.float32)[:, None, None] if v.dtype.kind == "f" else v for k, v in truth.items()})
    for name, palette in PALETTES.items():
        setattr(g, name, np.array(list(palette.values()), np.float32)[truth[name]][:, :, None, None])
    hair = np.array([_HAIR[style] for style in CLASSES["hair_style"]], np.float32)[truth["hair_style"]]
    for column, values in zip(_HAIR_COLUMNS, hair.T, strict=True):
        setattr(g, column, values[:, None, None])
    tones = np.array(SKIN_TONES)
    position = truth["skin"] * (len(tones) - 1)
    below = np.minimum(position.astype(int), len(tones) - 2)
    skin = tones[below] + (position - below)[:, None] * (tones[below + 1] - tones[below])
    skin = skin + truth["undertone"][:, None] * np.array([2.0, 3.0, -6.0])
    g.skin = np.clip(skin, 0, 255).astype(np.float32)[:, :, None, None]
    g.shade = g.skin * rgb(0.86, 0.78, 0.74)
    g.lips = mix(g.skin * 0.9, LIPSTICK, 0.5)
    g.brow_colour = mix(g.hair_colour, SOOT, 0.35)
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
