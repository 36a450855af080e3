"""Straight-line transcriptions of the training steps with their options, as naive as tests/reference.py, from which
they take the terms of the losses.

One function per model does one full iteration with two Adam optimizers. Images x: [N, ...], noise: [N, Z].
"""

from dataclasses import dataclass

import torch
from reference import Players, decode_again, kl, plus, sample, squared_error
from torch import Tensor, nn


@dataclass
class Options:
    """What is switched on; everything off is tests/reference.py."""

    economy: bool = False


def softintrovae(
    p: Players, x: Tensor, eps: Tensor, z_f: Tensor, eps_e: tuple[Tensor, Tensor], eps_d: tuple[Tensor, Tensor],
    o: Options, *, official: bool, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float, twice: bool,
) -> None:  # fmt: skip
    """Both forms: samples alone count as generated images, or (`official`) samples and reconstructions, averaged."""
    fake = p.dec(z_f)
    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    rec = p.dec(z)
    loss_e = s * (b_rec * squared_error(x, rec) + b_kl * kl(mu, logvar)).mean()
    generated = [(rec, eps_e[0]), (fake, eps_e[1])] if official else [(fake, eps_e[1])]
    for image, noise in generated:
        image_mu, image_logvar = p.enc(image.detach())
        exponent = b_neg * kl(image_mu, image_logvar)
        if not o.economy:
            again = p.dec(sample(image_mu, image_logvar, noise))
            exponent = exponent + b_rec * squared_error(image, again)
        loss_e = loss_e + 0.5 / len(generated) * torch.exp(-2 * s * exponent).mean()
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()

    fake, rec = decode_again(p.dec, z_f, twice), decode_again(p.dec, z.detach(), twice)
    loss_d = s * b_rec * squared_error(x, rec).mean()
    generated = [(rec, eps_d[0]), (fake, eps_d[1])] if official else [(fake, eps_d[1])]
    posteriors = [p.enc(image) for image, _ in generated]
    for (image, noise), (image_mu, image_logvar) in zip(generated, posteriors, strict=True):
        again = p.dec(sample(image_mu, image_logvar, noise).detach())
        error = squared_error(image.detach(), again)
        loss_d = loss_d + s / len(generated) * (b_kl * kl(image_mu, image_logvar) + gamma_r * b_rec * error).mean()
    p.opt_d.zero_grad()
    loss_d.backward()
    p.opt_d.step()


def introvae(
    p: Players, x: Tensor, eps: Tensor, z_p: Tensor, o: Options,
    *, official: bool, m: float, alpha: float, alpha_decoder: float, beta: float, twice: bool,
) -> None:  # fmt: skip
    """Algorithm 1, and the `official` form: the hinge on the batch mean, SSE without 1/2, samples decoded first."""
    half = 1.0 if official else 0.5

    def decoded(dec: nn.Module, z: Tensor, again: bool) -> tuple[Tensor, Tensor]:
        decode = (lambda latent: decode_again(dec, latent, twice)) if again else dec
        if official:
            x_p = decode(z_p)
            return decode(z), x_p
        return decode(z), decode(z_p)

    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    x_r, x_p = decoded(p.dec, z, again=False)
    loss_e = kl(mu, logvar).mean() + beta * half * squared_error(x, x_r).mean()
    for image in (x_r, x_p):
        image_kl = kl(*p.enc(image.detach()))
        loss_e = loss_e + alpha * (plus(m - image_kl.mean()) if official else plus(m - image_kl).mean())
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()

    x_r, x_p = decoded(p.dec, z.detach(), again=True)
    loss_g = beta * half * squared_error(x, x_r).mean()
    for image in (x_r, x_p):
        loss_g = loss_g + alpha_decoder * kl(*p.enc(image)).mean()
    p.opt_d.zero_grad()
    loss_g.backward()
    p.opt_d.step()
