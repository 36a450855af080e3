"""Complexity of images: the size of their lossless compression, which needs no model."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LEVEL = 9  # of zlib: the smallest files
BY_CHANNEL = (1, 3, 4)  # numbers of channels that a PNG can hold as they are; it stacks others as gray images


def png_bits(pixels: Tensor) -> Tensor:
    """Size of each image as a PNG file, header included, in bits: uint8 [N, C, H, W] -> float64 [N]."""
    return torch.tensor([8.0 * _png_bytes(image) for image in pixels.cpu().numpy()], dtype=torch.float64)


def _png_bytes(image: np.ndarray) -> int:
    """Compresses uint8 [C, H, W]."""
    if len(image) not in BY_CHANNEL:
        image = image.reshape(1, -1, image.shape[-1])
    flat = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat)).save(file, "PNG", compress_level=LEVEL)
    return file.tell()
