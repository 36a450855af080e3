"""Straight-line transcriptions of the training steps, as naive as possible: what the objectives are compared with.

Nothing here is shared with genzoo. One function per algorithm does one full iteration with two Adam optimizers and
returns the values of its curves. Images x: [N, ...], noise: [N, Z]; an encoder returns (mu, logvar): [N, Z] each.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass
class Players:
    """Two networks, each with its own Adam."""

    enc: nn.Module
    dec: nn.Module
    opt_e: torch.optim.Adam
    opt_d: torch.optim.Adam


def players(enc: nn.Module, dec: nn.Module, lr: float) -> Players:
    return Players(enc, dec, torch.optim.Adam(enc.parameters(), lr=lr), torch.optim.Adam(dec.parameters(), lr=lr))


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) per image: the negative of what IntroVAE's Eq. 9 prints."""
    return 0.5 * (mu**2 + torch.exp(logvar) - logvar - 1).sum(1)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Sum over everything but images, without 1/2."""
    return ((x - y) ** 2).reshape(len(x), -1).sum(1)


def sample(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + torch.sqrt(torch.exp(logvar)) * eps


def plus(value: Tensor) -> Tensor:
    return torch.clamp(value, min=0)


def decode_again(dec: nn.Module, z: Tensor, counted: bool) -> Tensor:
    """Decodes z a second time, because autograd refuses the graph of the first time once the encoder has been stepped
    in place.

    The images are the same, as the decoder has not moved. The algorithm decodes once, so BatchNorm's running statistics
    must not see the second time: it works on copies of the buffers, unless `counted` (for forms that do decode twice).
    """
    if counted:
        return dec(z)
    return functional_call(dec, {name: buffer.clone() for name, buffer in dec.named_buffers()}, (z,))


def deviation(values: Tensor) -> Tensor:
    """Standard deviation over images, as a root of a mean."""
    return torch.sqrt(((values - values.mean()) ** 2).mean())


def floats(**curves: Tensor) -> dict[str, float]:
    """Names values as curves: kl_real -> kl/real."""
    return {name.replace("_", "/", 1): value.item() for name, value in curves.items()}


def vae(p: Players, x: Tensor, eps: Tensor, *, kl_weight: float, rec_weight: float) -> dict[str, float]:
    """Both networks move on one loss; also the warm-up of the other models, with its own weights."""
    mu, logvar = p.enc(x)
    x_r = p.dec(sample(mu, logvar, eps))
    kl_real, error = kl(mu, logvar).mean(), squared_error(x, x_r).mean()
    loss = kl_weight * kl_real + rec_weight * error
    p.opt_e.zero_grad()
    p.opt_d.zero_grad()
    loss.backward()
    p.opt_e.step()
    p.opt_d.step()
    return floats(loss_elbo=loss, kl_real=kl_real, spread_real=deviation(kl(mu, logvar)), error_sse=error)


def introvae_paper(
    p: Players,
    x: Tensor,
    eps: Tensor,
    z_p: Tensor,
    *,
    m: float,
    alpha: float,
    alpha_decoder: float,
    beta: float,
    twice: bool,
) -> dict[str, float]:
    """Algorithm 1 of Huang et al. 2018, line by line (one alpha in the paper); `twice` decodes again for the decoder's
    step.
    """
    mu, logvar = p.enc(x)  # line 4
    z = sample(mu, logvar, eps)
    x_r = p.dec(z)  # 6
    x_p = p.dec(z_p)
    l_ae = (0.5 * squared_error(x_r, x)).mean()  # 7, Eq. 10
    z_r = p.enc(x_r.detach())  # 8
    z_pp = p.enc(x_p.detach())
    l_e_adv = kl(mu, logvar).mean() + alpha * (plus(m - kl(*z_r)).mean() + plus(m - kl(*z_pp)).mean())  # 9
    l_e = l_e_adv + beta * l_ae
    p.opt_e.zero_grad()
    l_e.backward()
    p.opt_e.step()  # 10
    curves = floats(
        loss_encoder=l_e,
        kl_real=kl(mu, logvar).mean(),
        kl_reconstruction=kl(*z_r).mean(),
        kl_sample=kl(*z_pp).mean(),
        error_sse=2 * l_ae,
    ) | floats(
        hinge_active=torch.cat([kl(*z_r) < m, kl(*z_pp) < m]).double().mean(), spread_real=deviation(kl(mu, logvar))
    )

    x_r = decode_again(p.dec, z.detach(), twice)
    x_p = decode_again(p.dec, z_p, twice)
    l_ae = (0.5 * squared_error(x_r, x)).mean()
    z_r = p.enc(x_r)  # 11
    z_pp = p.enc(x_p)
    l_g_adv = alpha_decoder * (kl(*z_r).mean() + kl(*z_pp).mean())  # 12
    l_g = l_g_adv + beta * l_ae
    p.opt_d.zero_grad()
    l_g.backward()
    p.opt_d.step()  # 13
    updated = floats(kl_reconstruction_updated=kl(*z_r).mean(), kl_sample_updated=kl(*z_pp).mean())
    return curves | floats(loss_decoder=l_g) | updated


def introvae_official(
    p: Players,
    x: Tensor,
    eps: Tensor,
    z_p: Tensor,
    *,
    m: float,
    alpha: float,
    alpha_decoder: float,
    beta: float,
    twice: bool,
) -> dict[str, float]:
    """As the authors' code differs from the paper: hinge on the mean of the batch, SSE without 1/2, an alpha for each
    network; and samples are decoded before reconstructions, in both phases.
    """
    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    x_p = p.dec(z_p)
    x_r = p.dec(z)
    error = squared_error(x_r, x).mean()
    kl_real = kl(mu, logvar).mean()
    kl_r = kl(*p.enc(x_r.detach())).mean()
    kl_p = kl(*p.enc(x_p.detach())).mean()
    loss_e = kl_real + alpha * (plus(m - kl_r) + plus(m - kl_p)) + beta * error
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()
    curves = floats(loss_encoder=loss_e, kl_real=kl_real, kl_reconstruction=kl_r, kl_sample=kl_p, error_sse=error)
    curves |= floats(
        hinge_active=torch.stack([kl_r < m, kl_p < m]).double().mean(), spread_real=deviation(kl(mu, logvar))
    )

    x_p = decode_again(p.dec, z_p, twice)
    x_r = decode_again(p.dec, z.detach(), twice)
    error = squared_error(x_r, x).mean()
    kl_r = kl(*p.enc(x_r)).mean()
    kl_p = kl(*p.enc(x_p)).mean()
    loss_g = alpha_decoder * (kl_r + kl_p) + beta * error
    p.opt_d.zero_grad()
    loss_g.backward()
    p.opt_d.step()
    return curves | floats(loss_decoder=loss_g, kl_reconstruction_updated=kl_r, kl_sample_updated=kl_p)


def softintrovae_official(
    p: Players, x: Tensor, eps: Tensor, z_f: Tensor, eps_e: tuple[Tensor, Tensor], eps_d: tuple[Tensor, Tensor],
    *, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float, twice: bool,
) -> dict[str, float]:  # fmt: skip
    """The published training step of Daniel & Tamar 2021, call by call; it decodes `twice`.

    eps_e and eps_d are the noise of (reconstruction, sample) in the encoder's and in the decoder's phase.
    """
    p.enc.requires_grad_(True)
    p.dec.requires_grad_(False)
    fake = p.dec(z_f)
    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    rec = p.dec(z)
    error = squared_error(x, rec).mean()
    kl_real = kl(mu, logvar).mean()
    rec_mu, rec_logvar = p.enc(rec.detach())
    rec_rec = p.dec(sample(rec_mu, rec_logvar, eps_e[0]))
    fake_mu, fake_logvar = p.enc(fake.detach())
    rec_fake = p.dec(sample(fake_mu, fake_logvar, eps_e[1]))
    error_rec = squared_error(rec, rec_rec)  # the target rec is not detached: it leads to the encoder through z
    error_fake = squared_error(fake, rec_fake)
    expelbo_rec = torch.exp(-2 * s * (b_rec * error_rec + b_neg * kl(rec_mu, rec_logvar))).mean()
    expelbo_fake = torch.exp(-2 * s * (b_rec * error_fake + b_neg * kl(fake_mu, fake_logvar))).mean()
    loss_e = s * (b_rec * error + b_kl * kl_real) + 0.25 * (expelbo_rec + expelbo_fake)
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()
    curves = floats(
        loss_encoder=loss_e,
        kl_real=kl_real,
        spread_real=deviation(kl(mu, logvar)),
        error_sse=error,
        expelbo_reconstruction=expelbo_rec,
        expelbo_sample=expelbo_fake,
    )

    p.enc.requires_grad_(False)
    p.dec.requires_grad_(True)
    fake = decode_again(p.dec, z_f, twice)
    rec = decode_again(p.dec, z.detach(), twice)
    error = squared_error(x, rec).mean()
    rec_mu, rec_logvar = p.enc(rec)
    z_rec = sample(rec_mu, rec_logvar, eps_d[0])
    fake_mu, fake_logvar = p.enc(fake)
    z_fake = sample(fake_mu, fake_logvar, eps_d[1])
    rec_rec = p.dec(z_rec.detach())
    rec_fake = p.dec(z_fake.detach())
    error_rec = squared_error(rec.detach(), rec_rec).mean()
    error_fake = squared_error(fake.detach(), rec_fake).mean()
    kl_rec = kl(rec_mu, rec_logvar).mean()
    kl_fake = kl(fake_mu, fake_logvar).mean()
    loss_d = s * (b_rec * error + 0.5 * b_kl * (kl_rec + kl_fake) + 0.5 * gamma_r * b_rec * (error_rec + error_fake))
    p.opt_d.zero_grad()
    loss_d.backward()
    p.opt_d.step()
    p.enc.requires_grad_(True)
    return curves | floats(loss_decoder=loss_d, kl_reconstruction=kl_rec, kl_sample=kl_fake)


def softintrovae_paper(
    p: Players, x: Tensor, eps: Tensor, z_f: Tensor, eps_e: Tensor, eps_d: Tensor,
    *, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float, twice: bool,
) -> dict[str, float]:  # fmt: skip
    """The paper's algorithm: samples of the prior are the only generated images. eps_e, eps_d: noise of the sample in
    each phase.
    """
    fake = p.dec(z_f)
    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    rec = p.dec(z)
    error = squared_error(x, rec).mean()
    kl_real = kl(mu, logvar).mean()
    fake_mu, fake_logvar = p.enc(fake.detach())
    rec_fake = p.dec(sample(fake_mu, fake_logvar, eps_e))
    expelbo = torch.exp(-2 * s * (b_rec * squared_error(fake, rec_fake) + b_neg * kl(fake_mu, fake_logvar))).mean()
    loss_e = s * (b_rec * error + b_kl * kl_real) + 0.5 * expelbo
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()
    curves = floats(
        loss_encoder=loss_e,
        kl_real=kl_real,
        spread_real=deviation(kl(mu, logvar)),
        error_sse=error,
        expelbo_sample=expelbo,
    )

    fake = decode_again(p.dec, z_f, twice)
    rec = decode_again(p.dec, z.detach(), twice)
    error = squared_error(x, rec).mean()
    fake_mu, fake_logvar = p.enc(fake)
    rec_fake = p.dec(sample(fake_mu, fake_logvar, eps_d).detach())
    kl_fake = kl(fake_mu, fake_logvar).mean()
    loss_d = s * (b_rec * error + b_kl * kl_fake + gamma_r * b_rec * squared_error(fake.detach(), rec_fake).mean())
    p.opt_d.zero_grad()
    loss_d.backward()
    p.opt_d.step()
    return curves | floats(loss_decoder=loss_d, kl_sample=kl_fake)


# What public implementations got wrong. With mistake=None these are the right steps again, so a difference is the
# mistake's.

INTROVAE_MISTAKES = (
    "KL summed over the batch against a per-image margin",
    "x_p detached in the decoder's step",
    "decoder minimizes the hinge",
    "decoder without reconstruction",
    "alpha on one of the two hinges",
    "sign of Eq. 9 as printed",
    "re-encoded with the encoder from before its update",
    "re-encoded under no_grad",
    "reconstruction without 1/2",
)


def introvae_mistaken(
    p: Players, x: Tensor, eps: Tensor, z_p: Tensor, *, m: float, alpha: float, beta: float, mistake: str | None
) -> None:
    """Algorithm 1 with one of INTROVAE_MISTAKES."""
    assert mistake is None or mistake in INTROVAE_MISTAKES, mistake
    score = (lambda mu, logvar: -kl(mu, logvar)) if mistake == "sign of Eq. 9 as printed" else kl
    half = 1.0 if mistake == "reconstruction without 1/2" else 0.5

    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    x_r, x_p = p.dec(z), p.dec(z_p)
    kl_r, kl_p = score(*p.enc(x_r.detach())), score(*p.enc(x_p.detach()))
    if mistake == "KL summed over the batch against a per-image margin":
        kl_r, kl_p = kl_r.sum(), kl_p.sum()
    hinge_r, hinge_p = plus(m - kl_r).mean(), plus(m - kl_p).mean()
    adversarial = (
        alpha * hinge_r + hinge_p if mistake == "alpha on one of the two hinges" else alpha * (hinge_r + hinge_p)
    )
    loss_e = score(mu, logvar).mean() + adversarial + beta * half * squared_error(x, x_r).mean()
    before = copy.deepcopy(p.enc)
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()

    x_r, x_p = decode_again(p.dec, z.detach(), False), decode_again(p.dec, z_p, False)
    enc = before if mistake == "re-encoded with the encoder from before its update" else p.enc
    with torch.set_grad_enabled(mistake != "re-encoded under no_grad"):
        kl_r = score(*enc(x_r))
        kl_p = score(*enc(x_p.detach() if mistake == "x_p detached in the decoder's step" else x_p))
    if mistake == "decoder minimizes the hinge":
        kl_r, kl_p = plus(m - kl_r), plus(m - kl_p)
    loss_g = alpha * (kl_r + kl_p).mean()
    if mistake != "decoder without reconstruction":
        loss_g = loss_g + beta * half * squared_error(x, x_r).mean()
    p.opt_d.zero_grad()
    loss_g.backward()
    p.opt_d.step()


def introvae_one_adam(
    enc: nn.Module, dec: nn.Module, opt: torch.optim.Adam, x: Tensor, eps: Tensor, z_p: Tensor,
    *, m: float, alpha: float, beta: float, set_to_none: bool,
) -> float:  # fmt: skip
    """Algorithm 1 with one Adam for both networks, each frozen by requires_grad in the other's phase; returns the
    encoder's largest move in the decoder's phase. Older torch zeroes gradients (set_to_none=False), and a frozen
    network with a zero gradient moves by momentum.
    """
    dec.requires_grad_(False)
    mu, logvar = enc(x)
    z = sample(mu, logvar, eps)
    x_r, x_p = dec(z), dec(z_p)
    hinges = plus(m - kl(*enc(x_r.detach()))) + plus(m - kl(*enc(x_p.detach())))
    loss_e = (kl(mu, logvar) + alpha * hinges + beta * 0.5 * squared_error(x, x_r)).mean()
    opt.zero_grad(set_to_none=set_to_none)
    loss_e.backward()
    opt.step()
    dec.requires_grad_(True)

    enc.requires_grad_(False)
    before = [weight.clone() for weight in enc.parameters()]
    x_r, x_p = decode_again(dec, z.detach(), False), decode_again(dec, z_p, False)
    loss_g = (alpha * (kl(*enc(x_r)) + kl(*enc(x_p))) + beta * 0.5 * squared_error(x, x_r)).mean()
    opt.zero_grad(set_to_none=set_to_none)
    loss_g.backward()
    opt.step()
    enc.requires_grad_(True)
    return max((after - weight).abs().max().item() for after, weight in zip(enc.parameters(), before, strict=True))


SOFT_MISTAKES = (
    "target of the reconstruction detached",
    "generated images reconstructed under no_grad",
    "exponential of the batch mean",
    "sample detached in the decoder's step",
    "decoder without reconstruction",
    "sign of Eq. 9 as printed",
    "re-encoded with the encoder from before its update",
    "re-encoded under no_grad",
    "latents of generated images not detached",
)


def softintrovae_mistaken(
    p: Players, x: Tensor, eps: Tensor, z_f: Tensor, eps_e: tuple[Tensor, Tensor], eps_d: tuple[Tensor, Tensor],
    *, s: float, b_kl: float, b_rec: float, b_neg: float, gamma_r: float, mistake: str | None,
) -> None:  # fmt: skip
    """The published step, decoding once, with one of SOFT_MISTAKES."""
    assert mistake is None or mistake in SOFT_MISTAKES, mistake
    score = (lambda mu, logvar: -kl(mu, logvar)) if mistake == "sign of Eq. 9 as printed" else kl

    fake = p.dec(z_f)
    mu, logvar = p.enc(x)
    z = sample(mu, logvar, eps)
    rec = p.dec(z)
    expelbos = []
    for image, noise in zip((rec, fake), eps_e, strict=True):
        image_mu, image_logvar = p.enc(image.detach())
        with torch.set_grad_enabled(mistake != "generated images reconstructed under no_grad"):
            again = p.dec(sample(image_mu, image_logvar, noise))
        target = image.detach() if mistake == "target of the reconstruction detached" else image
        minus_elbo = s * (b_rec * squared_error(target, again) + b_neg * score(image_mu, image_logvar))
        if mistake == "exponential of the batch mean":
            minus_elbo = minus_elbo.mean()
        expelbos.append(torch.exp(-2 * minus_elbo).mean())
    loss_e = s * (b_rec * squared_error(x, rec) + b_kl * score(mu, logvar)).mean() + 0.25 * (expelbos[0] + expelbos[1])
    before = copy.deepcopy(p.enc)
    p.opt_e.zero_grad()
    loss_e.backward()
    p.opt_e.step()

    fake, rec = decode_again(p.dec, z_f, False), decode_again(p.dec, z.detach(), False)
    enc = before if mistake == "re-encoded with the encoder from before its update" else p.enc
    with torch.set_grad_enabled(mistake != "re-encoded under no_grad"):
        posterior_r = enc(rec)
        posterior_f = enc(fake.detach() if mistake == "sample detached in the decoder's step" else fake)
    z_r, z_f2 = sample(*posterior_r, eps_d[0]), sample(*posterior_f, eps_d[1])
    if mistake != "latents of generated images not detached":
        z_r, z_f2 = z_r.detach(), z_f2.detach()
    errors = squared_error(rec.detach(), p.dec(z_r)) + squared_error(fake.detach(), p.dec(z_f2))
    loss_d = s * (0.5 * b_kl * (score(*posterior_r) + score(*posterior_f)) + 0.5 * gamma_r * b_rec * errors).mean()
    if mistake != "decoder without reconstruction":
        loss_d = loss_d + s * b_rec * squared_error(x, rec).mean()
    p.opt_d.zero_grad()
    loss_d.backward()
    p.opt_d.step()
