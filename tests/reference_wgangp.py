"""A straight-line transcription of Algorithm 1 of "Improved Training of Wasserstein GANs", as naive as possible, and of
the same with one known mistake of public implementations. Nothing here is shared with genzoo.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MISTAKES = (
    "one alpha for the batch",
    "norm over the batch",
    "penalties summed",
    "no create_graph",
    "one-sided",
    "critic's sign",
    "generator reuses the critic's latents",
    "one real batch for all critic steps",
    "slope not squared",
)


def iteration(
    generator: nn.Module,
    critic: nn.Module,
    opt_g: torch.optim.Optimizer,
    opt_c: torch.optim.Optimizer,
    batches: Sequence[Any],
    *,
    penalty: float,
    slope: float,
    mistake: str | None = None,
) -> dict[str, float]:
    """One iteration; `batches` has x, z, alpha of each critic step, and z_g of the first for the generator's.

    Returns the curves of the last update of each network.
    """
    curves = {}
    for number in range(len(batches)):
        b = batches[0] if mistake == "one real batch for all critic steps" else batches[number]
        x, alpha, n = b.x, b.alpha, len(b.x)
        fake = generator(b.z).detach()
        if mistake == "one alpha for the batch":
            alpha = alpha[:1].repeat(n, 1)
        penalties, squares = [], []
        for i in range(n):  # one item at a time
            hat = x[i] + alpha[i, 0] * (fake[i] - x[i])
            hat = hat[None].detach().clone().requires_grad_(True)
            keep = mistake != "no create_graph"
            gradient = torch.autograd.grad(critic(hat)[0], hat, create_graph=keep)[0]
            square = (gradient**2).sum()
            length = torch.sqrt(square) / slope
            squares.append(square / slope**2)
            excess = torch.clamp(length - 1, min=0) if mistake == "one-sided" else length - 1
            if mistake == "slope not squared":
                excess = square / slope**2 - 1
            penalties.append(excess**2)
        total = torch.stack(penalties).sum()
        if mistake == "norm over the batch":
            gp = (torch.sqrt(torch.stack(squares).sum()) - 1) ** 2
        else:
            gp = total if mistake == "penalties summed" else total / n
        d_real, d_fake = critic(x).mean(), critic(fake).mean()
        sign = -1 if mistake == "critic's sign" else 1
        loss = sign * (d_fake - d_real) + penalty * gp
        opt_c.zero_grad()
        loss.backward()
        opt_c.step()
        curves |= {"loss/critic": loss, "critic/distance": d_real - d_fake, "critic/penalty": gp}
    z_g = batches[-1].z if mistake == "generator reuses the critic's latents" else batches[0].z_g
    loss = -critic(generator(z_g)).mean()
    opt_g.zero_grad()
    loss.backward()
    opt_g.step()
    curves["loss/decoder"] = loss
    return {name: value.item() for name, value in curves.items()}


def dequantized(x: Tensor, u: Tensor) -> Tensor:
    """The authors' ResNet: 2 (x / 256 - .5) + U[0, 1/128) of bytes x, as images in [0, 1]."""
    return ((2 * (x * 255 / 256 - 0.5) + u / 128) + 1) / 2
