"""Straight-line transcriptions of the training steps with their options, as naive as tests/reference.py, from which
they take the terms of the losses.

One function per model does one full iteration with two Adam optimizers. Images x: [N, ...], noise: [N, Z].
"""

from dataclasses import dataclass

import torch
from reference import Players, decode_again, kl, plus, sample, squared_error
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Options:
    """What is switched on; everything off is tests/reference.py."""

    economy: bool = False
    views: tuple[Tensor, ...] = ()  # uniform numbers of DiffAugment, one [N, 6] per call of the encoder
    r1: float = 0.0  # weights of the penalties in this step
    r2: float = 0.0
    encoder_only: bool = False  # the iteration ends after the encoder's update
    target: nn.Module | None = None  # the decoder of the bootstrap variant that decodes generated images again


def view(image: Tensor, u: list[float]) -> Tensor:
    """DiffAugment of one image [C, H, W]: translation by up to 1/8 of the side, then a square of 1/2 of it set to 0."""
    _, height, width = image.shape
    if u[0] < 0.5:
        most_y, most_x = int(height * 0.125 + 0.5), int(width * 0.125 + 0.5)
        down, right = int(u[1] * (2 * most_y + 1)) - most_y, int(u[2] * (2 * most_x + 1)) - most_x
        padded = functional.pad(image, (most_x, most_x, most_y, most_y))
        image = padded[:, most_y - down : most_y - down + height, most_x - right : most_x - right + width]
    if u[3] < 0.5:
        size_y, size_x = int(height * 0.5 + 0.5), int(width * 0.5 + 0.5)
        center_y, center_x = int(u[4] * (height + 1 - size_y % 2)), int(u[5] * (width + 1 - size_x % 2))
        mask = torch.ones(height, width, dtype=image.dtype)
        for y in range(center_y - size_y // 2, center_y - size_y // 2 + size_y):
            for x in range(center_x - size_x // 2, center_x - size_x // 2 + size_x):
                if 0 <= y < height and 0 <= x < width:
                    mask[y, x] = 0
        image = image * mask
    return image


def shown(x: Tensor, o: Options, call: int) -> Tensor:
    """What the encoder sees at a call: real, reconstruction, sample, and the last two again in the decoder's phase."""
    return torch.stack([view(image, u.tolist()) for image, u in zip(x, o.views[call], strict=True)]) if o.views else x


def penalties(p: Players, x: Tensor, fake: Tensor, o: Options) -> Tensor:
    """gamma / 2 E|d KL(x) / dx|^2 on real images, and the same on samples."""
    loss = torch.zeros((), dtype=x.dtype)
    for gamma, image, call in ((o.r1, x, 5), (o.r2, fake, 6)):
        if gamma:
            image = image.detach().clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(kl(*p.enc(shown(image, o, call))).sum(), image, create_graph=True)
            loss = loss + gamma / 2 * (slope**2).sum() / len(x)
    return loss


def softintrovae(
    p: Players, x: Tensor, eps: Tensor, z_f: Tensor, eps_e: tuple[Tensor, Tensor], eps_d: tuple[Tensor, Tensor],
    o: Options, *, official: bool, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float, twice: bool,
) -> None:  # fmt: skip
    """Both forms: samples alone count as generated images, or (`official`) samples and reconstructions, averaged."""
    fake = p.dec(z_f)
    penalty = penalties(p, x, fake, o)
    mu, logvar = p.enc(shown(x, o, 0))
    z = sample(mu, logvar, eps)
    rec = p.dec(z)
    loss_e = s * (b_rec * squared_error(x, rec) + b_kl * kl(mu, logvar)).mean() + s * penalty
    generated = [(rec, eps_e[0], 1), (fake, eps_e[1], 2)] if official else [(fake, eps_e[1], 2)]
    for image, noise, call in generated:
        image_mu, image_logvar = p.enc(shown(image.detach(), o, call))
        exponent = b_neg * kl(image_mu, image_logvar)
        if not o.economy:
            again = (o.target or p.dec)(sample(image_mu, image_logvar, noise))
            exponent = exponent + b_rec * squared_error(image, again)
        loss_e = loss_e + 0.5 / len(generated) * torch.exp(-2 * s * exponent).mean()
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()
    if o.encoder_only:
        return

    fake, rec = decode_again(p.dec, z_f, twice), decode_again(p.dec, z.detach(), twice)
    loss_d = s * b_rec * squared_error(x, rec).mean()
    generated = [(rec, eps_d[0], 3), (fake, eps_d[1], 4)] if official else [(fake, eps_d[1], 4)]
    posteriors = [p.enc(shown(image, o, call)) for image, _, call in generated]
    for (image, noise, _), (image_mu, image_logvar) in zip(generated, posteriors, strict=True):
        z_again = sample(image_mu, image_logvar, noise)
        if o.target:
            error = squared_error(image, o.target(z_again))
        else:
            error = squared_error(image.detach(), p.dec(z_again.detach()))
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

    mu, logvar = p.enc(shown(x, o, 0))
    z = sample(mu, logvar, eps)
    x_r, x_p = decoded(p.dec, z, again=False)
    loss_e = penalties(p, x, x_p, o) + kl(mu, logvar).mean() + beta * half * squared_error(x, x_r).mean()
    for image, call in ((x_r, 1), (x_p, 2)):
        image_kl = kl(*p.enc(shown(image.detach(), o, call)))
        loss_e = loss_e + alpha * (plus(m - image_kl.mean()) if official else plus(m - image_kl).mean())
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()
    if o.encoder_only:
        return

    x_r, x_p = decoded(p.dec, z.detach(), again=True)
    loss_g = beta * half * squared_error(x, x_r).mean()
    for image, call in ((x_r, 3), (x_p, 4)):
        loss_g = loss_g + alpha_decoder * kl(*p.enc(shown(image, o, call))).mean()
    p.opt_d.zero_grad()
    loss_g.backward()
    p.opt_d.step()
