"""Which files of a folder are images: every suffix of a format that Pillow, or an installed plugin of it, decodes."""

import importlib
import os
from contextlib import suppress

UNDECODED = frozenset(["BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"])  # Pillow identifies these, and others decode them
HINTS = {
    ".heic": "pip install pillow-heif",
    ".heif": "pip install pillow-heif",
    ".jxl": "pip install pillow-jxl-plugin",
}
# What often lies beside images and is none: left out without a warning.
COMPANIONS = frozenset(
    (".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".lock", ".log", ".md", ".md5", ".pdf", ".py", ".sh", ".tsv")
) | {".txt", ".url", ".xml", ".yaml", ".yml", "without suffix"}


def readable_suffixes() -> frozenset[str]:
    """Returns the suffixes that are read, in lower case: `.jpg`, `.jfif`, ...; `.heic` where pillow-heif is there."""
    from PIL import Image

    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    with suppress(ImportError):
        importlib.import_module("pillow_jxl")  # registers itself
    formats = Image.registered_extensions()
    decoded = (Image.OPEN.keys() | {"MPO"}) - UNDECODED  # an MPO file is opened as a JPEG with several pictures
    return frozenset(suffix for suffix, name in formats.items() if name in decoded)


def suffix_of(name: str) -> str:
    """`IMG.JPG` -> `.jpg`; "" without one."""
    return os.path.splitext(name)[1].lower()
