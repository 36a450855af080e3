"""Sliced Wasserstein distance: the score of points and vectors, cheap enough for every snapshot."""

import torch
from torch import Tensor

from genzoo.noise import generator


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 512) -> float:
    """Root mean square, over random directions, of the 2-Wasserstein distance of projections (Rabin et al. 2011).

    Args:
        a: N items, [N, ...], flattened to vectors.
        b: as many items of the same shape.
        directions: number of random unit vectors; the same ones for every call with the same shape.
    """
    a, b = (x.flatten(1).float() for x in (a, b))
    theta = torch.randn(a.shape[1], directions, generator=generator(0, "directions"), dtype=a.dtype)
    theta = (theta / theta.norm(dim=0)).to(a.device)
    return (((a @ theta).sort(dim=0).values - (b @ theta).sort(dim=0).values) ** 2).mean().sqrt().item()
