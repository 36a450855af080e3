"""The shapes of a toy face, as distances of points to their outlines: signed, negative inside."""

import numpy as np

from genzoo.data.embedded.facerig import Rig

Array = np.ndarray


def ellipse(x: Array, y: Array, a: Array | float, b: Array | float) -> Array:
    """Signed distance to the ellipse of half-axes (a, b), to first order around its outline."""
    u, v = x / a, y / b
    q = np.sqrt(u * u + v * v + 1e-12)
    u, v = u / a, v / b
    return q * (q - 1) / np.sqrt(u * u + v * v + 1e-12)


def squircle(x: Array, y: Array, a: Array | float, b: Array | float, s: Array | float) -> Array:
    """Signed distance, to first order, to (1 - s) (u^2 + v^2) + s (u^4 + v^4) = 1, where u = x/a and v = y/b.

    With s from 0 to 1 the outline goes from an ellipse to a rounded box.
    """
    u, v = x / a, y / b
    u2, v2 = u * u, v * v
    f = (1 - s) * (u2 + v2) + s * (u2 * u2 + v2 * v2) - 1
    du, dv = u * (1 - s + 2 * s * u2) / a, v * (1 - s + 2 * s * v2) / b
    return f / (2 * np.sqrt(du * du + dv * dv + 1e-12))


def segment(x: Array, y: Array, half: Array | float) -> Array:
    """Distance to the segment from (-half, 0) to (half, 0)."""
    u = np.maximum(np.abs(x) - half, 0)
    return np.sqrt(u * u + y * y)


def wave(t: Array) -> Array:
    """Triangle wave of period 1, from -1 at whole t to 1 between them."""
    return 1 - np.abs(4 * (t - np.floor(t)) - 2)


def curls(x: Array, y: Array, g: Rig) -> Array:
    """Lumps of height `lumps`, to add to the distance to hair: the product of two rounded triangle waves."""
    u, v = wave(x * 3.6), wave(y * 3.6)
    return g.lumps * (1.5 - 0.5 * u * u) * u * (1.5 - 0.5 * v * v) * v


def head(x: Array, y: Array, g: Rig, side: Array | float = 0.0, top: Array | float = 0.0) -> Array:
    """Signed distance to the head, grown by `side` sideways and by `top` up and down.

    It is a squircle that narrows towards the chin.
    """
    v = np.maximum(y / g.head_height, 0)
    narrow = 1 - 0.22 * (1 - g.jaw) * np.minimum(v * v, 1)
    return squircle(x / narrow, y, g.head_width + side, g.head_height + top, 0.1 + 0.3 * g.jaw)
