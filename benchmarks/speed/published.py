"""The published training steps, transcribed in a straight line, fp32 eager: the reference of all speeds.

Nothing of the trainer or the objectives is used. The steps do what the authors' code does, pass by pass: decode twice,
weight a term with 1e-8, freeze networks by requires_grad, copy every loss to the host. x: images [N, C, H, W] or points
[N, 2]; an encoder returns (mu, logvar): [N, Z] each. Noise is drawn within the step, as in their code.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Players:
    """Two networks with an Adam each."""

    enc: nn.Module
    dec: nn.Module
    z_dim: int

    def __post_init__(self) -> None:
        self.opt_e = torch.optim.Adam(self.enc.parameters(), lr=2e-4)
        self.opt_d = torch.optim.Adam(self.dec.parameters(), lr=2e-4)


Step = Callable[[Players, Tensor], list[float]]


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)


def sse(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).pow(2).flatten(1).sum(1)


def posterior_sample(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)


def softintrovae(p: Players, x: Tensor, *, s: float, b_kl: float, b_rec: float, b_neg: float) -> list[float]:
    """Soft-IntroVAE's step: 32 network passes (34 for points, where first and last layers have other counts)."""
    z_p = torch.randn(len(x), p.z_dim)
    p.enc.requires_grad_(True)
    p.dec.requires_grad_(False)
    fake = p.dec(z_p)
    mu, logvar = p.enc(x)
    z = posterior_sample(mu, logvar)
    rec = p.dec(z)
    error, kl_real = sse(x, rec).mean(), kl(mu, logvar).mean()
    rec_mu, rec_logvar = p.enc(rec.detach())
    fake_mu, fake_logvar = p.enc(fake.detach())
    rec_rec = p.dec(posterior_sample(rec_mu, rec_logvar))
    rec_fake = p.dec(posterior_sample(fake_mu, fake_logvar))
    exp_rec = torch.exp(-2 * s * (b_rec * sse(rec, rec_rec) + b_neg * kl(rec_mu, rec_logvar))).mean()
    exp_fake = torch.exp(-2 * s * (b_rec * sse(fake, rec_fake) + b_neg * kl(fake_mu, fake_logvar))).mean()
    loss_e = s * (b_rec * error + b_kl * kl_real) + 0.25 * (exp_rec + exp_fake)
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()

    p.enc.requires_grad_(False)
    p.dec.requires_grad_(True)
    fake = p.dec(z_p)
    rec = p.dec(z.detach())
    error = sse(x, rec).mean()
    rec_mu, rec_logvar = p.enc(rec)
    fake_mu, fake_logvar = p.enc(fake)
    rec_rec = p.dec(posterior_sample(rec_mu, rec_logvar).detach())
    rec_fake = p.dec(posterior_sample(fake_mu, fake_logvar).detach())
    again = sse(rec.detach(), rec_rec).mean() + sse(fake.detach(), rec_fake).mean()
    kl_rec, kl_fake = kl(rec_mu, rec_logvar).mean(), kl(fake_mu, fake_logvar).mean()
    loss_d = s * (b_rec * error + 0.5 * b_kl * (kl_rec + kl_fake) + 0.5 * 1e-8 * b_rec * again)
    p.opt_d.zero_grad()
    loss_d.backward()
    p.opt_d.step()
    return [value.item() for value in (loss_e, loss_d, error, kl_real, kl_rec, kl_fake, exp_rec, exp_fake)]


def introvae(
    p: Players, x: Tensor, *, margin: float, w_rec: float, w_neg: float, w_kl: float, patched: bool
) -> list[float]:
    """IntroVAE's official step. The decoder's backward pass uses the graph from before the encoder's step.

    As published it also computes the encoder's weight gradients, which are not used, through weights that have changed.
    Current PyTorch refuses that and older versions did not check, so the encoder's step is hidden from the check.
    `patched` computes the decoder's gradients only.
    """
    z_p = torch.randn(len(x), p.z_dim)
    mu, logvar = p.enc(x)
    z = posterior_sample(mu, logvar)
    rec, fake = p.dec(z), p.dec(z_p)
    error, kl_real = sse(x, rec).mean(), kl(mu, logvar).mean()
    kl_rec, kl_fake = kl(*p.enc(rec.detach())).mean(), kl(*p.enc(fake.detach())).mean()
    loss_e = w_rec * error + kl_real * w_kl + 0.5 * w_neg * ((margin - kl_rec).relu() + (margin - kl_fake).relu())
    p.opt_d.zero_grad()
    p.opt_e.zero_grad()
    loss_e.backward(retain_graph=True, inputs=list(p.enc.parameters()) if patched else None)
    with torch.autograd._unsafe_preserve_version_counter(tuple(p.enc.parameters())):
        p.opt_e.step()

    kl_rec_d, kl_fake_d = kl(*p.enc(rec)).mean(), kl(*p.enc(fake)).mean()
    loss_d = w_rec * error + 0.5 * w_kl * (kl_rec_d + kl_fake_d)
    p.opt_d.zero_grad()
    loss_d.backward(inputs=list(p.dec.parameters()) if patched else None)
    p.opt_d.step()
    return [value.item() for value in (loss_e, loss_d, error, kl_real, kl_rec, kl_fake, kl_rec_d, kl_fake_d)]
