"""A folder as people have it: 200 photo-like pictures in four classes, of many kinds, and what lies between them.

Run from the folder of the tests: `python -m attacks.photos FOLDER`. It prints what a reader of the folder is to find.
One of the classes is called `train`.
"""

import argparse
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = {"bicycle": 40, "bus": 50, "car": 60, "train": 50}
SIZES = ((640, 480), (480, 640), (800, 600), (512, 512), (720, 480), (320, 240), (960, 540), (300, 400))
PANORAMA = (2400, 300)  # width, height
ORIENTATION = 0x0112  # tag of EXIF
TURNED = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"

Save = Callable[[Image.Image, Path], None]


def scene(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draws a vehicle on a road below a sky, with blur and noise."""
    width, height = size
    horizon = rng.uniform(0.45, 0.65)
    sky, ground, paint = (rng.integers(*span, 3) for span in ((120, 250), (40, 140), (20, 240)))
    rows = np.linspace(0, 1, height)[:, None]
    background = np.where(rows < horizon, sky * (0.7 + 0.3 * rows / horizon), ground * (1.3 - 0.4 * rows))
    image = Image.fromarray(np.broadcast_to(background[:, None].clip(0, 255), (height, width, 3)).astype(np.uint8))
    side = min(width, height) * rng.uniform(0.5, 0.8)
    left, middle = rng.uniform(0, width - side), height * (horizon + rng.uniform(0.02, 0.12))
    _vehicle(ImageDraw.Draw(image), kind, left, middle, side, tuple(map(int, paint)))
    noisy = np.asarray(image.filter(ImageFilter.GaussianBlur(side / 200))) + rng.normal(0, 4, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _vehicle(draw: ImageDraw.ImageDraw, kind: str, left: float, middle: float, side: float, paint: tuple) -> None:
    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return left + x0 * side, middle + y0 * side, left + x1 * side, middle + y1 * side

    def wheels(*centers: float, radius: float) -> None:
        for x in centers:
            draw.ellipse(box(x - radius, -radius, x + radius, radius), (30, 30, 30), (160, 160, 160))

    if kind == "bicycle":
        wheels(0.25, 0.75, radius=0.2)
        for x0, y0, x1, y1 in ((0.25, 0, 0.4, -0.3), (0.4, -0.3, 0.7, -0.3), (0.7, -0.3, 0.75, 0), (0.5, 0, 0.4, -0.3)):
            draw.line(box(x0, y0, x1, y1), paint, max(2, int(side / 30)))
        return
    top = {"bus": -0.5, "car": -0.2, "train": -0.35}[kind]
    draw.rectangle(box(0, top, 1, 0), paint)
    if kind == "car":
        corners = ((0.2, -0.2), (0.3, -0.38), (0.7, -0.38), (0.85, -0.2))
        draw.polygon([(left + x * side, middle + y * side) for x, y in corners], paint)
    for x in np.linspace(0.08, 0.8, 5):
        draw.rectangle(box(x, top * 0.85, x + 0.1, top * 0.5), (200, 220, 235))
    wheels(*((0.15, 0.3, 0.5, 0.7, 0.85) if kind == "train" else (0.2, 0.8)), radius=0.05 if kind == "train" else 0.1)


def _jpeg(image: Image.Image, path: Path, **options: object) -> None:
    image.save(path, "JPEG", quality=88, **options)


def _rotated(orientation: int) -> Save:
    def save(image: Image.Image, path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        _jpeg(image.transpose(TURNED[orientation]), path, exif=exif)

    return save


def _transparent(image: Image.Image, path: Path) -> None:
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((0, 0, *image.size), 255)
    image.putalpha(mask)
    image.save(path)


def _deep(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


def _animated(image: Image.Image, path: Path) -> None:
    image.save(path, save_all=True, append_images=[image.rotate(angle) for angle in (5, 10)])


# (class, name, how it is saved), in the place of one of the class's plain photos
SPECIAL: tuple[tuple[str, bytes, Save], ...] = (
    *(("bicycle", f"sticker {i}.png".encode(), _transparent) for i in range(10)),
    *(("train", b"scan%d.png" % i, _deep) for i in range(5)),
    *(("car", b"turned%d.jpg" % i, _rotated(i)) for i in TURNED),
    ("bus", b"print.jpg", lambda image, path: _jpeg(image.convert("CMYK"), path)),
    ("bus", b"progressive.jpg", lambda image, path: _jpeg(image, path, progressive=True)),
    ("bus", b"saved from the web.jfif", _jpeg),
    ("bus", b"DSC_0001.JPG", _jpeg),
    ("bus", b"moving.gif", _animated),
    ("car", b"panorama.jpg", _jpeg),
    ("car", "Straße über Köln.jpg".encode(), _jpeg),
    ("car", b"two\nlines.jpg", _jpeg),
    ("train", b"caf\xe9.jpg", _jpeg),
)
COPIES = (("car", "copy of 20.jpg", "car/20.jpg"), ("train", "copy.jpg", "train/20.jpg"))


def make(root: Path) -> None:
    """Writes the folder."""
    rng = np.random.default_rng(0)
    for kind, count in CLASSES.items():
        folder = root / kind
        folder.mkdir(parents=True)
        special = [(name, save) for owner, name, save in SPECIAL if owner == kind]
        plain = count - len(special) - sum(owner == kind for owner, *_ in COPIES)
        names = [*special, *((b"%d.jpg" % i, _jpeg) for i in range(plain))]
        for name, save in names:
            size = PANORAMA if name.startswith(b"panorama") else SIZES[rng.integers(len(SIZES))]
            save(scene(kind, size, rng), folder / os.fsdecode(name))
    for folder, name, original in COPIES:
        (root / folder / name).write_bytes((root / original).read_bytes())
    _rubbish(root)


def _rubbish(root: Path) -> None:
    """Writes what lies between photos and is none."""
    intact = (root / "bus" / "0.jpg").read_bytes()
    (root / "bus" / "broken.jpg").write_bytes(intact[: len(intact) // 3])
    (root / "car" / "empty.jpg").touch()
    (root / "train" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "loop").symlink_to(".")
    (root / "car" / "IMG_0001.HEIC").write_bytes(HEIC)
    thumbnails = root / "bus" / "@eaDir" / "0.jpg"
    thumbnails.mkdir(parents=True)
    small = Image.open(io.BytesIO(intact))
    small.thumbnail((120, 120))
    small.save(thumbnails / "SYNOPHOTO_THUMB_M.jpg")
    (root / "car" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(508))
    (root / "bicycle" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "notes.txt").write_text("taken in 2019\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
    counts = ", ".join(f"{n} in {kind}/" for kind, n in CLASSES.items())
    print(f"{sum(CLASSES.values())} images ({counts}), of which {len(COPIES)} are copies.")
    print("Not readable: bus/broken.jpg (cut off), car/empty.jpg, train/gone.jpg (a link to nowhere).")
    print("Not images here: a .heic, a link to a folder read already, a thumbnails folder, .db, .txt, 1 hidden.")
