"""Pictures as data URIs, small enough to be part of a page."""

import base64
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

LONGEST_SIDE = 768  # pixels; larger pictures are shrunk
LARGEST_FILE = 100_000  # bytes; larger files are encoded again as lossy WebP
QUALITY = 85  # of that
FORMATS = ("PNG", "JPEG", "WEBP")
PIXELATED_BELOW = 200  # pixels; narrower pictures are magnified without smoothing


@dataclass(frozen=True)
class Embedded:
    """A picture as a data URI."""

    uri: str
    width: int  # pixels
    height: int

    @property
    def pixelated(self) -> bool:
        return self.width < PIXELATED_BELOW


def embed(root: Path, name: str) -> Embedded | str:
    """Reads `root/name` into a data URI, or returns in a few words why that is not possible."""
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            return "lies outside results/"
        if not path.is_file():
            return "is missing"
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, a circle of links
        return "is not a path"
    try:
        return _embedded(path)
    except Exception:  # broken bytes make Pillow's readers raise nearly anything, and bombs an error of their own
        return "is not a readable picture"


def _embedded(path: Path) -> Embedded:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            kind = Image.MIME[str(picture.format)]
    content = path.read_bytes()
    if max(picture.size) > LONGEST_SIDE or len(content) > LARGEST_FILE:
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        picture.save(buffer, "WEBP", quality=QUALITY, method=4)
        content, kind = buffer.getvalue(), "image/webp"
    return Embedded(f"data:{kind};base64,{base64.b64encode(content).decode()}", *picture.size)
