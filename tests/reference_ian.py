"""A straight-line transcription of IAN's iterations, which shares no code with genzoo, and its known mistakes."""

import torch
from torch import Tensor, nn

MISTAKES = (
    "reconstruction labeled as sample",
    "KL summed over dimensions",
    "reconstructions not constant for the discriminator",  # IAN_simple's code, and its gradient reaches the trunk
    "head rests while the discriminator learns",
    "decoder learns in every iteration",
    "squared error of items",
    "trunk moved by the head's loss",
)


class Players:
    """Four networks and their optimizers; the trunk returns a list of stages."""

    def __init__(self, nets: nn.Module, lr: float):
        self.all, self.trunk, self.head, self.dec, self.critic = nets, nets.trunk, nets.head, nets.decoder, nets.critic
        named = {"trunk": self.trunk, "head": self.head, "dec": self.dec, "critic": self.critic}
        self.opt = {name: torch.optim.Adam(net.parameters(), lr=lr) for name, net in named.items()}


def cross_entropy(logits: Tensor, label: int) -> Tensor:
    return -torch.log(torch.exp(logits[:, label]) / torch.exp(logits).sum(1)).mean()


def ian(
    p: Players,
    number: int,
    x: Tensor,
    eps: Tensor,
    z_p: Tensor,
    *,
    w_x: float,
    w_f: float,
    beta: float,
    mistake: str | None = None,
) -> dict[str, float]:
    """Iteration `number`: even ones move decoder and head, odd ones trunk, discriminator and head. All gradients are
    of the weights before the iteration.
    """
    assert mistake is None or mistake in MISTAKES, mistake
    real, reconstruction, sample = 0, 1, 2
    if mistake == "reconstruction labeled as sample":
        reconstruction = sample
    even = number % 2 == 0

    stages = p.trunk(x)
    mu, log_variance = p.head(stages[-1])
    log_sigma = log_variance / 2
    x_r = p.dec(mu + torch.exp(log_sigma) * eps)
    x_p = p.dec(z_p)
    stages_r = p.trunk(x_r)
    targets = [stage.detach() for stage in stages]
    features = sum(((a - b) ** 2).mean() for a, b in zip(targets, stages_r, strict=True)) / len(stages)
    pixels = ((x_r - x) ** 2).mean() if mistake == "squared error of items" else torch.abs(x_r - x).mean()
    divergence = -0.5 * (1 + 2 * log_sigma - mu**2 - torch.exp(2 * log_sigma))
    kl = divergence.reshape(len(x), -1).sum(1).mean() if "KL" in str(mistake) else divergence.mean()
    loss_r = cross_entropy(p.critic(stages_r[-1]), real) + w_x * pixels + w_f * features
    loss_h = loss_r + beta * kl

    def gradients(loss: Tensor, *nets: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
        parameters = [q for net in nets for q in net.parameters()]
        return list(zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True))

    curves = {
        "loss/encoder": loss_h.item(),
        "error/sse": ((x_r - x) ** 2).sum().item() / len(x),
        "error/features": features.item(),
        "kl/real": divergence.sum().item() / len(x),
    }
    moves = dict(gradients(loss_h, p.head))
    moving = ["head"]
    if even or mistake == "decoder learns in every iteration":
        loss_g = loss_r + cross_entropy(p.critic(p.trunk(x_p)[-1]), real)
        moves |= dict(gradients(loss_g, p.dec))
        moving.append("dec")
        curves["loss/decoder"] = loss_g.item()
    if even and mistake == "trunk moved by the head's loss":
        moves |= dict(gradients(loss_h, p.trunk))
        moving.append("trunk")
    if not even:
        constant = x_r if mistake == "reconstructions not constant for the discriminator" else x_r.detach()
        loss_d = cross_entropy(p.critic(stages[-1]), real)
        loss_d = loss_d + cross_entropy(p.critic(p.trunk(constant)[-1]), reconstruction)
        loss_d = loss_d + cross_entropy(p.critic(p.trunk(x_p.detach())[-1]), sample)
        moves |= dict(gradients(loss_d, p.trunk, p.critic))
        moving += ["trunk", "critic"]
        curves["loss/critic"] = loss_d.item()
    if mistake == "head rests while the discriminator learns" and not even:
        moving.remove("head")
    p.all.zero_grad()
    for parameter, gradient in moves.items():
        parameter.grad = gradient
    for name in moving:
        p.opt[name].step()
    p.all.zero_grad()
    return curves
