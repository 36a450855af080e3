"""The factors of toy faces: cartoon portraits that are drawn from independent random factors at any resolution.

Face i is a pure function of (seed, i): its factors come from an integer hash, so that no other face has to be drawn
first, and do not depend on the resolution. Pixels use only correctly rounded float32 operations (+ - * / sqrt), so they
are the same on every machine.

Lengths have one unit: the short side of the picture is 1.84. Angles are in degrees, clockwise. Left and right are the
viewer's.

| factor         | range or categories           | what it does                                                |
|----------------|-------------------------------|-------------------------------------------------------------|
| skin           | 0 to 1                        | tone, from light to deep, along `SKIN_TONES`                |
| undertone      | -1 to 1                       | of the skin, from cool (pink) to warm (golden)              |
| hair_style     | 9 names, bald included        | the silhouette: cap, hairline and what hangs behind         |
| hair_colour    | 10 names                      | of hair, brows and beard                                    |
| parting        | -1 to 1                       | where the hair parts or the fringe slants to, left to right |
| head_width     | 0.43 to 0.51                  | half-width                                                  |
| head_height    | 0.52 to 0.60                  | half-height                                                 |
| jaw            | 0 to 1                        | from a narrow chin to a square one                          |
| eye_colour     | 6 names                       | of the iris                                                 |
| eye_size       | 0.22 to 0.29                  | half-width of an eye, in head half-widths                   |
| eye_openness   | 0.75 to 1.1                   | height of an eye over its width                             |
| eye_spacing    | 0.42 to 0.50                  | from the middle of the face to an eye, in head half-widths  |
| gaze_x, gaze_y | -1 to 1                       | where the irises point: left to right, up to down           |
| brow_angle     | -1 to 1                       | from worried (inner ends up) to stern (inner ends down)     |
| brow_height    | 0 to 1                        | from low to raised                                          |
| nose_size      | 0 to 1                        | from a button to a long, wide nose                          |
| smile          | -0.4 to 1                     | curvature of the mouth, from a frown to a broad smile       |
| mouth_open     | 0 to 1                        | from closed to wide open                                    |
| mouth_width    | 0.38 to 0.50                  | half-width, in head half-widths                             |
| glasses        | none, round, square           | odds 6 : 2 : 2                                              |
| beard          | none, moustache, goatee, full | odds 7 : 1 : 1 : 1                                          |
| shirt_colour   | 8 names                       |                                                             |
| shirt          | plain, striped                |                                                             |
| background     | 8 names                       | color of the corners, exactly                               |
| backdrop       | plain, disc, slope            | a second, lighter tone behind the head                      |
| yaw            | -1 to 1                       | the head turns left or right: features shift by depth       |
| roll           | -7 to 7                       | the head tilts about the neck, in degrees                   |

Continuous factors are uniform over their range, categories equally likely unless odds are given.
"""

import zlib

import numpy as np

from genzoo.errors import UsageError

Array = np.ndarray

SPLITS: dict[str, range] = {"train": range(50_000), "test": range(1_000_000, 1_010_000)}  # face indices, disjoint

SKIN_TONES = (
    (255, 226, 204),
    (249, 210, 180),
    (238, 190, 152),
    (223, 166, 124),
    (198, 137, 96),
    (168, 108, 72),
    (136, 84, 56),
    (106, 64, 44),
    (80, 49, 36),
)
PALETTES: dict[str, dict[str, tuple[int, int, int]]] = {  # factor -> category -> RGB in 0..255
    "hair_colour": {
        "black": (38, 33, 38), "espresso": (66, 44, 36), "brown": (104, 68, 46), "chestnut": (140, 84, 52),
        "auburn": (150, 60, 40),
        "ginger": (212, 112, 48), "honey": (206, 156, 84), "blond": (240, 208, 130), "silver": (190, 192, 200),
        "rose": (226, 122, 150),
    },
    "eye_colour": {
        "brown": (98, 60, 36), "amber": (164, 104, 40), "hazel": (124, 114, 54), "green": (66, 138, 90),
        "blue": (62, 128, 190),
        "grey": (112, 130, 146),
    },
    "shirt_colour": {
        "white": (244, 242, 238), "navy": (52, 70, 110), "coral": (236, 112, 98), "mustard": (232, 178, 66),
        "teal": (44, 138, 136),
        "plum": (128, 76, 126), "charcoal": (70, 74, 86), "leaf": (112, 160, 92),
    },
    "background": {
        "sky": (158, 208, 232), "mint": (164, 218, 190), "sand": (238, 216, 172), "peach": (248, 194, 164),
        "lilac": (200, 188, 232),
        "rosewater": (244, 190, 202), "dusk": (116, 134, 178), "sage": (150, 174, 150),
    },
}  # fmt: skip
FACTORS: dict[str, tuple[float, float] | tuple[str, ...]] = {  # factor -> (low, high), or the names of its categories
    "skin": (0.0, 1.0),
    "undertone": (-1.0, 1.0),
    "hair_style": ("bald", "buzz", "short", "spiky", "curly", "bun", "bob", "pigtails", "long"),
    "hair_colour": tuple(PALETTES["hair_colour"]),
    "parting": (-1.0, 1.0),
    "head_width": (0.43, 0.51),
    "head_height": (0.52, 0.60),
    "jaw": (0.0, 1.0),
    "eye_colour": tuple(PALETTES["eye_colour"]),
    "eye_size": (0.22, 0.29),
    "eye_openness": (0.75, 1.1),
    "eye_spacing": (0.42, 0.50),
    "gaze_x": (-1.0, 1.0),
    "gaze_y": (-1.0, 1.0),
    "brow_angle": (-1.0, 1.0),
    "brow_height": (0.0, 1.0),
    "nose_size": (0.0, 1.0),
    "smile": (-0.4, 1.0),
    "mouth_open": (0.0, 1.0),
    "mouth_width": (0.38, 0.50),
    "glasses": ("none", "round", "square"),
    "beard": ("none", "moustache", "goatee", "full"),
    "shirt_colour": tuple(PALETTES["shirt_colour"]),
    "shirt": ("plain", "striped"),
    "background": tuple(PALETTES["background"]),
    "backdrop": ("plain", "disc", "slope"),
    "yaw": (-1.0, 1.0),
    "roll": (-7.0, 7.0),
}
CLASSES: dict[str, tuple[str, ...]] = {  # the categorical factors
    name: tuple(category for category in span if isinstance(category, str))
    for name, span in FACTORS.items()
    if isinstance(span[0], str)
}
RANGES: dict[str, tuple[float, float]] = {  # the continuous ones
    name: (float(span[0]), float(span[1])) for name, span in FACTORS.items() if name not in CLASSES
}
ODDS = {"glasses": (6, 2, 2), "beard": (7, 1, 1, 1)}


def factors(indices: Array, seed: int = 0) -> dict[str, Array]:
    """Returns the ground truth of faces `indices` [n]: the values [n] of each factor.

    Continuous ones are float64, categories are int64 positions in `CLASSES[factor]`.
    """
    truth = {}
    for name in FACTORS:
        u = _uniform(indices, seed, name)
        if name in CLASSES:
            odds = np.cumsum(ODDS.get(name, (1,) * len(CLASSES[name])))
            truth[name] = np.searchsorted(odds, u * odds[-1], side="right")
        else:
            low, high = RANGES[name]
            truth[name] = low + u * (high - low)
    return truth


def _splitmix64(state: Array) -> Array:
    """The output function of splitmix64 (Steele, Lea and Flood 2014): a bijection of uint64 that hashes a counter."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _uniform(indices: Array, seed: int, name: str) -> Array:
    """Returns [n] float64 in [0, 1), a hash of (seed, index, name): by name, so that a new factor changes no other."""
    indices = np.asarray(indices)
    if indices.dtype.kind not in "iu" or (indices < 0).any():
        raise UsageError("Toy faces are numbered by non-negative integers.")
    key = _splitmix64(np.array([seed % 2**64], np.uint64)) ^ np.uint64(zlib.crc32(name.encode()))
    return (_splitmix64(_splitmix64(key) ^ _splitmix64(indices.astype(np.uint64))) >> np.uint64(11)) * 2.0**-53
