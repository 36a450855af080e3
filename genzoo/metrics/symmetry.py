"""Are mirrored images of a dataset like its images? Of faces and most photographs they are; of digits and text not."""

import torch
from torch import Tensor


def farther_mirrored(images: Tensor) -> float:
    """Share of images that, mirrored left to right, are farther from the nearest other image than they are themselves,
    in pixels; those for which nothing changes count half (ours). About 1/2 where mirrored images are as likely as the
    images, and 1 where they look like none.

    Args:
        images: [N, C, H, W], at least 2.
    """
    vectors, mirrored = images.flatten(1), images.flip(3).flatten(1)
    itself = torch.eye(len(images), dtype=torch.bool, device=images.device)
    before, after = (torch.cdist(x, vectors).masked_fill(itself, torch.inf).amin(dim=1) for x in (vectors, mirrored))
    return ((after > before).double() + (after == before).double() / 2).mean().item()
