"""A straight-line transcription of EBGAN's equations, as naive as possible, and of the same with one known mistake of
public implementations. Nothing here is shared with genzoo.
"""

import torch
from torch import Tensor, nn

MISTAKES = (
    "pulling-away not squared",
    "pulling-away of images",
    "target detached",
    "mean square per value",
    "norm over the batch",
    "hinge on the batch mean",
    "pulling-away in the critic's loss",
    "no pulling-away",
)


def energy(critic: nn.Module, x: Tensor, mistake: str | None, target: Tensor | None = None) -> Tensor:
    """The error of each item's reconstruction, a Euclidean norm."""
    _, again = critic(x)
    target = x if target is None else target
    difference = (again - target).reshape(len(x), -1)
    if mistake == "mean square per value":
        return (difference**2).mean(1)
    if mistake == "norm over the batch":
        return torch.sqrt((difference**2).sum()).repeat(len(x)) / len(x)
    return torch.sqrt((difference**2).sum(1))


def pulling_away(codes: Tensor, mistake: str | None) -> Tensor:
    """The mean over all ordered pairs of different items of their squared cosine."""
    n, total = len(codes), torch.zeros((), dtype=codes.dtype)
    for i in range(n):
        for j in range(n):
            if i != j:
                cosine = (codes[i] * codes[j]).sum() / torch.sqrt((codes[i] ** 2).sum() * (codes[j] ** 2).sum())
                total = total + (cosine if mistake == "pulling-away not squared" else cosine**2)
    return total / (n * (n - 1))


def iteration(
    generator: nn.Module,
    critic: nn.Module,
    opt_g: torch.optim.Optimizer,
    opt_c: torch.optim.Optimizer,
    x: Tensor,
    z: Tensor,
    *,
    margin: float,
    weight: float,
    mistake: str | None = None,
) -> dict[str, float]:
    """One iteration: the critic moves, then the generator, on the same generated items."""
    x_g = generator(z)
    real, fake = energy(critic, x, mistake), energy(critic, x_g.detach(), mistake)
    if mistake == "hinge on the batch mean":
        loss_c = real.mean() + torch.clamp(margin - fake.mean(), min=0)
    else:
        loss_c = real.mean() + torch.clamp(margin - fake, min=0).mean()
    if mistake == "pulling-away in the critic's loss":
        loss_c = loss_c + weight * pulling_away(critic(x_g.detach())[0], mistake)
    opt_c.zero_grad()
    loss_c.backward()
    opt_c.step()

    target = x_g.detach() if mistake == "target detached" else None
    loss_g = energy(critic, x_g, mistake, target).mean()
    codes = x_g.flatten(1) if mistake == "pulling-away of images" else critic(x_g)[0]
    alike = pulling_away(codes, mistake)
    if mistake != "no pulling-away":
        loss_g = loss_g + weight * alike
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    curves = {
        "loss/critic": loss_c,
        "loss/decoder": loss_g,
        "energy/real": real.mean(),
        "energy/sample": fake.mean(),
        "similarity/codes": alike,
        "hinge/active": (fake < margin).double().mean(),
    }
    return {name: value.item() for name, value in curves.items()}
