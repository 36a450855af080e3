"""Sliced Wasserstein distance: a score that is cheap enough for every snapshot; it selects a run's best weights."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genzoo.noise import generator

POOLED = 16  # largest side in pixels after average pooling: layout and color count, texture does not


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 512) -> float:
    """Root mean square, over random directions, of the 2-Wasserstein distance of projections (Rabin et al. 2011).

    Args:
        a: N items, [N, C, H, W] in [0, 1] or [N, D]; images are average-pooled to at most 16x16 first.
        b: as many items of the same shape.
        directions: number of random unit vectors; the same ones for every call with the same shape.
    """
    a, b = (_vectors(x) for x in (a, b))
    theta = torch.randn(a.shape[1], directions, generator=generator(0, "directions"), dtype=a.dtype)
    theta = (theta / theta.norm(dim=0)).to(a.device)
    return (((a @ theta).sort(dim=0).values - (b @ theta).sort(dim=0).values) ** 2).mean().sqrt().item()


def _vectors(x: Tensor) -> Tensor:
    if x.ndim == 4:
        x = adaptive_avg_pool2d(x, (min(x.shape[2], POOLED), min(x.shape[3], POOLED)))
    return x.flatten(1).float()
