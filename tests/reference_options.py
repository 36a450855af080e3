"""Straight-line transcriptions of the training steps with their options, as naive as tests/reference.py, from which
they take the terms of the losses.

One function per model does one full iteration with two Adam optimizers. Images x: [N, ...], noise: [N, Z].
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from reference import Players, decode_again, kl, plus, sample, squared_error
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
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
    c: float | None = None  # AS-IntroVAE's annealed weight of the KL; None: no distance beside it
    feature_loss: float = 0.0


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


def similarity(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """AS-IntroVAE's distance of two batches of posteriors, pair by pair."""
    (mu_a, logvar_a), (mu_b, logvar_b) = ((torch.tanh(mu), torch.tanh(logvar)) for mu, logvar in (a, b))

    def k(mu: Tensor, logvar: Tensor, other_mu: Tensor, other_logvar: Tensor) -> Tensor:
        total = torch.zeros((), dtype=mu.dtype)
        for i in range(len(mu)):
            for j in range(len(other_mu)):
                v = torch.exp(logvar[i]) + torch.exp(other_logvar[j])
                total = total + (torch.exp(-((mu[i] - other_mu[j]) ** 2) / (2 * v)) / torch.sqrt(v)).mean()
        return total / (len(mu) * len(other_mu))

    same = k(mu_a, logvar_a, mu_a, logvar_a) + k(mu_b, logvar_b, mu_b, logvar_b)
    return same - 2 * k(mu_a, logvar_a, mu_b, logvar_b)


def encode_pooled(enc: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Mean, log-variance and the output of each average pooling, by the layers of the encoder one by one."""
    pooled = []
    for block in enc.main:  # pyright: ignore[reportGeneralTypeIssues]
        for layer in block if isinstance(block, nn.Sequential) else (block,):
            x = layer(x)
            if isinstance(layer, nn.AvgPool2d):
                pooled.append(x)
    mu, logvar = enc.head(x.flatten(1)).chunk(2, dim=1)  # pyright: ignore[reportCallIssue]
    return mu, logvar, pooled


def softintrovae(
    p: Players, x: Tensor, eps: Tensor, z_f: Tensor, eps_e: tuple[Tensor, Tensor], eps_d: tuple[Tensor, Tensor],
    o: Options, *, official: bool, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float, twice: bool,
) -> None:  # fmt: skip
    """Both forms: samples alone count as generated images, or (`official`) samples and reconstructions, averaged."""
    fake = p.dec(z_f)
    penalty = penalties(p, x, fake, o)
    mu, logvar, pooled = encode_pooled(p.enc, shown(x, o, 0)) if o.feature_loss else (*p.enc(shown(x, o, 0)), [])
    z = sample(mu, logvar, eps)
    rec = p.dec(z)
    loss_e = s * (b_rec * squared_error(x, rec) + b_kl * kl(mu, logvar)).mean() + s * penalty
    if o.feature_loss:
        for f, f_rec in zip(pooled, encode_pooled(p.enc, shown(rec.detach(), o, 0))[2], strict=True):
            loss_e = loss_e + o.feature_loss * 0.5 * ((f - f_rec) ** 2).mean()
            for one, other in zip(f.flatten(1), f_rec.flatten(1), strict=True):
                loss_e = loss_e + o.feature_loss / len(x) * (1 - (one @ other) / (one.norm() * other.norm()))
    generated = [(rec, eps_e[0], 1), (fake, eps_e[1], 2)] if official else [(fake, eps_e[1], 2)]
    posteriors = [p.enc(shown(image.detach(), o, call)) for image, _, call in generated]
    for (image, noise, _), (image_mu, image_logvar) in zip(generated, posteriors, strict=True):
        exponent = b_neg * kl(image_mu, image_logvar)
        if o.c is not None:
            exponent = b_neg * (o.c * kl(image_mu, image_logvar) + (1 - o.c) * similarity(*posteriors))
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
        weight = 1.0 if o.c is None else o.c
        weighted = b_kl * weight * kl(image_mu, image_logvar) + gamma_r * b_rec * error
        loss_d = loss_d + s / len(generated) * weighted.mean()
    if o.c is not None:
        loss_d = loss_d + s * 0.5 * b_kl * (1 - o.c) * similarity(*posteriors)
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


@dataclass
class Mixture:
    """What is switched on beside a learned prior; everything off is the bound of the KL, and no clipping."""

    samples: tuple[Tensor, ...] = ()  # noise of the KL's posterior samples, one [N, M, Z] per call of the encoder
    bounds: tuple[Tensor, Tensor] | None = None  # lowest and highest log-variance per dimension, [Z] each
    entropy: float = 0.0


def clip(logvars: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """Log-variances [K, Z] between the bounds, by softplus functions of a sharpness of ten over their distance."""
    if bounds is None:
        return logvars
    lowest, highest = bounds
    b = 10 / (highest - lowest + 1e-8)
    over, under = (torch.log(1 + torch.exp(b * d)) / b for d in (logvars - highest, lowest - logvars))
    return torch.stack([torch.where(highest == lowest, highest, row) for row in logvars - over + under])


def components_of(prior: nn.Module, o: Mixture) -> tuple[Tensor, Tensor]:
    means, logvars = (parameter.reshape(prior.components, -1) for parameter in (prior.means, prior.logvars))
    return means, clip(logvars, o.bounds)


def prior_kl(
    mu: Tensor, logvar: Tensor, prior: nn.Module, labels: Tensor | None, o: Mixture, call: int, fixed: bool = False
) -> Tensor:
    """KL to the class's Gaussian; or to the mixture, by a bound, component by component, or by posterior samples."""
    means, logvars = components_of(prior, o)
    if fixed:
        means, logvars = means.detach(), logvars.detach()
    if o.samples:
        q = Independent(Normal(mu, torch.exp(logvar / 2)), 1)
        each = Independent(Normal(means, torch.exp(logvars / 2)), 1)
        p = MixtureSameFamily(Categorical(torch.ones(len(means), dtype=mu.dtype)), each)
        z = [mu + torch.exp(logvar / 2) * noise for noise in o.samples[call].unbind(1)]
        return sum((q.log_prob(one) - p.log_prob(one) for one in z), start=torch.zeros(())) / len(z)
    each = []
    for k in range(len(means)):
        ratio = torch.exp(logvar - logvars[k]) + (mu - means[k]) ** 2 / torch.exp(logvars[k])
        each.append(0.5 * (ratio - 1 - logvar + logvars[k]).sum(1))
    if labels is not None:
        return torch.stack([each[int(label)][i] for i, label in enumerate(labels)])
    return -torch.log(sum(torch.exp(-one) for one in each) / len(means))  # pyright: ignore[reportArgumentType]


def negative_entropy(mu: Tensor, logvar: Tensor, noise: Tensor, prior: nn.Module, o: Mixture) -> Tensor:
    """Of the responsibilities, averaged over items and their samples, in units of log K."""
    means, logvars = components_of(prior, o)
    z = torch.cat([mu + torch.exp(logvar / 2) * one for one in noise.unbind(1)])
    densities = torch.stack(
        [Normal(m, torch.exp(v / 2)).log_prob(z).sum(1).exp() for m, v in zip(means, logvars, strict=True)]
    )
    mean = (densities / densities.sum(0)).mean(1)
    return (mean * torch.log(mean + 1e-8)).sum() / math.log(len(means))


def softintrovae_prior(
    nets: nn.ModuleDict, optimizers: dict[str, torch.optim.Optimizer], b: Any, y: Tensor | None, o: Mixture,
    *, warming: bool, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float,
) -> None:  # fmt: skip
    """Athanasiadis et al. 2025 (Section 4, and their code), on Soft-IntroVAE's published form: the prior cooperates
    with the decoder, follows the posteriors of real images, and is fixed where generated images are judged; their code
    draws the samples of the decoder's phase again, and this one takes those of the encoder's.
    """
    enc, dec, prior = nets.values()
    k = y if y is not None else b.k
    means, logvars = components_of(prior, o)
    z_p = means[k] + torch.sqrt(torch.exp(logvars[k])) * b.z_p
    if warming:
        mu, logvar = enc(b.x)
        loss = b_rec * squared_error(b.x, dec(sample(mu, logvar, b.eps))).mean()
        loss = loss + b_kl * prior_kl(mu, logvar, prior, y, o, 0).mean()
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
        return

    x_p = dec(z_p)  # the order of the networks' calls decides BatchNorm's averages only
    mu, logvar = enc(b.x)
    z = sample(mu, logvar, b.eps)
    x_r = dec(z)
    kl_x = prior_kl(mu, logvar, prior, y, o, 0, fixed=True).mean()
    loss = s * (b_rec * squared_error(b.x, x_r).mean() + b_kl * kl_x)
    if o.entropy:
        noise = o.samples[0] if o.samples else b.eps[:, None]
        loss = loss + s * o.entropy * negative_entropy(mu, logvar, noise, prior, o)
    for image, eps, call in ((x_r, b.eps_e[0], 1), (x_p, b.eps_e[1], 2)):
        m, v = enc(image.detach())
        again = dec(sample(m, v, eps))
        weighted = b_rec * squared_error(image, again) + b_neg * prior_kl(m, v, prior, y, o, call, fixed=True)
        loss = loss + 0.25 * torch.exp(-2 * s * weighted).mean()
    optimizers["encoder"].zero_grad()
    loss.backward(inputs=list(enc.parameters()), retain_graph=True)
    optimizers["encoder"].step()

    rec, fake = dec(z.detach()), dec(z_p)
    judged = [enc(rec), enc(fake)]
    kls = [prior_kl(*one, prior, y, o, call, fixed=True).mean() for one, call in zip(judged, (3, 4), strict=True)]
    real = prior_kl(mu.detach(), logvar.detach(), prior, y, o, 0).mean()
    codes = [sample(*one, eps).detach() for one, eps in zip(judged, b.eps_d, strict=True)]
    errors = [squared_error(image.detach(), dec(code)).mean() for image, code in zip((rec, fake), codes, strict=True)]
    loss = s * (
        b_rec * squared_error(b.x, rec).mean() + b_kl * (sum(kls) / 2 + real) + gamma_r * b_rec * sum(errors) / 2
    )
    for name in ("decoder", "components"):
        optimizers[name].zero_grad()
    loss.backward(inputs=[*dec.parameters(), *prior.parameters()])
    for name in ("decoder", "components"):
        optimizers[name].step()
