"""Colors as their ICC profile means them: converted to sRGB, which networks and pictures assume."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SPACES = {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # color space of a profile by an image's mode
LEVELS = 9  # per channel, of the colors that a profile is compared with sRGB by
ALIKE = 1  # level of 255: a profile that moves no color further is sRGB under another name


def to_srgb(image: Image.Image) -> Image.Image:
    """Converts an image whose profile is not sRGB; any other, and one whose profile is damaged, stays as it is."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode == "P" or (image.mode == "RGB" and image.has_transparency_data):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    transform = find_transform(profile, image.mode)
    if transform is None:
        return image
    return transform.apply(image).convert("L") if image.mode == "L" else transform.apply(image)


@lru_cache(maxsize=32)
def find_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Returns what converts images of a mode from a profile to sRGB; None where nothing is to be converted.

    That is so for profiles of sRGB itself, of another color space than the image's, and for damaged ones.
    """
    mode = "RGB" if mode == "P" else mode
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        assert isinstance(source.profile, ImageCms.core.CmsProfile)
        if source.profile.xcolor_space.strip() != SPACES.get(mode):
            return None
        output = "RGBA" if mode == "RGBA" else "RGB"
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, srgb, mode, output)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return transform if mode == "CMYK" or _moves(transform, mode, output) else None


def _moves(transform: ImageCms.ImageCmsTransform, mode: str, output: str) -> bool:
    """Whether a transform changes some color of a grid."""
    levels = np.linspace(0, 255, LEVELS).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(LEVELS, -1, 3)
    colors = Image.fromarray(grid[..., 0] if mode == "L" else grid).convert(mode)
    before, after = (np.asarray(colors.convert(output)).astype(int), np.asarray(transform.apply(colors)).astype(int))
    return bool(np.abs(after - before).max() > ALIKE)
