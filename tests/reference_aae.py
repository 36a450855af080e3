"""Straight-line transcriptions of AAE's and WAE-GAN's iterations, which share no code with genzoo, and mistakes."""

import math

import torch
from torch import Tensor, nn

AAE_MISTAKES = (
    "critic trained on stale codes",  # of the encoder before its reconstruction step
    "prior and codes exchanged",
    "saturating",
    "one optimizer for both phases",  # Victarry: the decoder has it, too, and is moved by its momentum
    "one joint step",  # PyTorch-GAN: .001 adversarial + .999 L1, and the critic after it
    "encoder against the critic before its step",
)
WAE_MISTAKES = ("critic first", "adversarial loss without its weight", "critic on stale codes", "no log density")


def adams(*modules: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam([p for module in modules for p in module.parameters()], lr=lr)


def minimize(loss: Tensor, *optimizers: torch.optim.Adam, all_of: nn.Module) -> None:
    """One step of the optimizers; every gradient is cleared before and after."""
    all_of.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    all_of.zero_grad()


class Players:
    """Three networks [encoder, decoder, critic], and the optimizers of AAE's phases."""

    def __init__(self, nets: nn.Module, lr: float):
        self.all, self.enc, self.dec, self.critic = nets, nets.encoder, nets.decoder, nets.critic
        self.opt_rec_enc, self.opt_rec_dec = adams(self.enc, lr=lr), adams(self.dec, lr=lr)
        self.opt_critic, self.opt_adv = adams(self.critic, lr=lr), adams(self.enc, lr=lr)
        self.opt_both = adams(self.enc, self.dec, lr=lr)


def aae(p: Players, x: Tensor, z_p: Tensor, *, beta: float, weight: float, mistake: str | None = None) -> dict:
    """One iteration of Makhzani et al. 2015, each phase with the weights as they then are."""
    assert mistake is None or mistake in AAE_MISTAKES, mistake
    before = p.enc(x).detach() if mistake == "critic trained on stale codes" else None

    def decide(z: Tensor) -> Tensor:
        return torch.sigmoid(p.critic(z))

    def cost_critic(z: Tensor) -> Tensor:
        real, fake = decide(z_p), decide(z)
        if mistake == "prior and codes exchanged":
            real, fake = fake, real
        return -torch.log(real).mean() - torch.log(1 - fake).mean()

    def cost_encoder(z: Tensor) -> Tensor:
        d = decide(z)
        if mistake == "prior and codes exchanged":
            d = 1 - d
        return torch.log(1 - d).mean() if mistake == "saturating" else -torch.log(d).mean()

    if mistake == "one joint step":
        z = p.enc(x)
        joint = 0.001 * cost_encoder(z) + 0.999 * torch.abs(p.dec(z) - x).mean()
        minimize(joint, p.opt_both, all_of=p.all)
        minimize(weight * cost_critic(z.detach()), p.opt_critic, all_of=p.all)
        return {}

    error = ((p.dec(p.enc(x)) - x) ** 2).reshape(len(x), -1).sum(1).mean()
    phase_1 = (p.opt_both,) if mistake == "one optimizer for both phases" else (p.opt_rec_enc, p.opt_rec_dec)
    minimize(beta * error, *phase_1, all_of=p.all)

    z = p.enc(x)
    early = weight * cost_encoder(z)
    loss_d = weight * cost_critic(z.detach() if before is None else before)
    gradient = torch.autograd.grad(early, list(p.enc.parameters()), retain_graph=True)
    minimize(loss_d, p.opt_critic, all_of=p.all)

    loss_e = weight * cost_encoder(z)
    if mistake == "encoder against the critic before its step":
        for parameter, slope in zip(p.enc.parameters(), gradient, strict=True):
            parameter.grad = slope
        p.opt_adv.step()
        p.all.zero_grad()
    elif mistake == "one optimizer for both phases":
        p.opt_both.zero_grad(set_to_none=False)  # zeros, with which the decoder moves on by its momentum
        for parameter in p.dec.parameters():
            parameter.grad = torch.zeros_like(parameter)
        loss_e.backward()
        for parameter in p.critic.parameters():
            parameter.grad = None
        p.opt_both.step()
        p.all.zero_grad()
    else:
        minimize(loss_e, p.opt_adv, all_of=p.all)
    return {
        "loss/reconstruction": (beta * error).item(),
        "error/sse": error.item(),
        "loss/critic": loss_d.item(),
        "loss/encoder": loss_e.item(),
    }


def wae_gan(
    p: Players,
    x: Tensor,
    z_p: Tensor,
    *,
    beta: float,
    weight: float,
    scale: float,
    log_prior: bool,
    mistake: str | None = None,
) -> dict:
    """One iteration of the authors' code of WAE-GAN: the autoencoder, then the adversary with the updated encoder."""
    assert mistake is None or mistake in WAE_MISTAKES, mistake

    def logits(z: Tensor) -> Tensor:
        out = p.critic(z)
        if log_prior and mistake != "no log density":
            squares = (z.reshape(len(z), -1) ** 2).sum(1)
            out = out - squares / 2 / scale**2 - z[0].numel() * (0.5 * math.log(2 * math.pi) + math.log(scale))
        return out

    def cross_entropy(out: Tensor, label: float) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(out, torch.full_like(out, label))

    def adversary(z: Tensor) -> Tensor:
        loss = weight * (cross_entropy(logits(z_p), 1.0) + cross_entropy(logits(z), 0.0))
        minimize(loss, p.opt_critic, all_of=p.all)
        return loss

    z = p.enc(x)
    stale = z.detach()
    if mistake == "critic first":
        adversary(stale)
    error = ((p.dec(z) - x) ** 2).reshape(len(x), -1).sum(1).mean()
    match = (1.0 if mistake == "adversarial loss without its weight" else weight) * cross_entropy(logits(z), 1.0)
    loss = beta * error + match
    minimize(loss, p.opt_both, all_of=p.all)
    if mistake == "critic first":
        return {}
    loss_d = adversary(stale if mistake == "critic on stale codes" else p.enc(x).detach())
    return {
        "loss/reconstruction": loss.item(),
        "loss/encoder": match.item(),
        "error/sse": error.item(),
        "loss/critic": loss_d.item(),
    }
