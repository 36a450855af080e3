"""Soft-IntroVAE (Daniel & Tamar, CVPR 2021, arXiv 2012.13253): a soft exponential of generated images' ELBO replaces
the hinge.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genzoo.controller import Calibration, Controller, Fixed, refuse_fixed
from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import reparameterize, sse
from genzoo.models._diffaug import (
    REAL,
    RECONSTRUCTION,
    RECONSTRUCTION_UPDATED,
    SAMPLE,
    SAMPLE_UPDATED,
    draw_views,
    refuse_points,
    seen,
)
from genzoo.models._elbo import elbo_step, kl_logs
from genzoo.models._encoder_steps import encoder_steps
from genzoo.models._lagging import Lagging
from genzoo.models._slope import refuse_interval, slope_steps
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.softintrovae.controllers import negative_weight
from genzoo.models.softintrovae.presets import SoftIntroVAEConfig
from genzoo.models.softintrovae.signs import RULES
from genzoo.nn.labeled import with_labels
from genzoo.nn.mixture import cooperating, fixed_prior, learned_prior, placed, prior_kl
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Spaces, Step, Update, detached, frozen
from genzoo.signs import Rule


class SoftIntroVAE(Autoencoder):
    """Encoder and decoder trained introspectively: the ELBO that they assign together is their score of an image."""

    model_name = "softintrovae"
    learns_prior = True
    passes_labels = True


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample of x
    z_p: Tensor  # [N, *latent], samples of the prior, or the draws that a learned one places
    eps_e: tuple[Tensor, Tensor]  # two [N, *latent]: posterior noise of reconstruction and sample, encoder phase
    eps_d: tuple[Tensor, Tensor]  # the same, decoder phase
    views: tuple[Tensor, ...] = ()  # of `objective.diffaug`
    labels: Tensor | None = None  # [N] int64, of x
    k: Tensor | None = None  # [N] int64, components of z_p; labels where the prior has classes


class SoftIntroVAEObjective(Objective):
    """L_E = ELBO(x) - 1/2 exp(2 ELBO(D(z))), L_D = ELBO(x) + ELBO(D(z)), both maximized (the paper's alpha = 2,
    gamma = 1).

    Generated images are prior samples (`form=paper`), or reconstructions and prior samples, averaged (`form=official`).
    """

    config: SoftIntroVAEConfig

    def __init__(self, config: SoftIntroVAEConfig, spaces: Spaces):
        super().__init__(config, spaces)
        refuse_points(config.diffaug, spaces)
        self.fresh = config.encoder_steps - 1
        refuse_interval(config.r1, config.r2, config.penalty_every)
        self.period = config.penalty_every if config.r1 or config.r2 else 1
        self.scale = 1 / math.prod(spaces.shape) if spaces.is_image else 0.5  # s: per pixel for images, 1/2 for points
        self.unit = 1 / self.scale if config.units == "image" else 1.0  # of the losses of adversarial training
        for name in ("beta_neg", "beta_rec"):
            if getattr(config, name) == "auto" and not config.beta_kl:
                raise UsageError(
                    f"objective.{name}=auto weighs against objective.beta_kl, which is 0: raise it, or give a number."
                )
        self.beta_neg: Controller = (
            negative_weight(spaces.z_dim, self.scale, config.beta_kl, config.warmup)
            if config.beta_neg == "auto"
            else Fixed(config.beta_neg)
        )
        refuse_fixed("beta_rec", config.beta_rec, config.calibration)
        scale = config.beta_kl * config.calibration
        calibrated = Calibration(math.prod(spaces.shape), config.warmup, scale)
        self.beta_rec: Controller = calibrated if config.beta_rec == "auto" else Fixed(config.beta_rec)

    @property
    def controllers(self) -> dict[str, Controller]:
        moving = {"beta_neg": self.beta_neg, "beta_rec": self.beta_rec}
        return {name: controller for name, controller in moving.items() if getattr(self.config, name) == "auto"}

    @property
    def signs(self) -> tuple[Rule, ...]:
        return RULES

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.beta_rec", "adversary": "objective.beta_neg"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        latent = self.spaces.latent
        names = ("eps_e/reconstruction", "eps_e/sample", "eps_d/reconstruction", "eps_d/sample")
        again = [noise.normal(name, *latent) for name in names]
        z_p = self.spaces.prior.draw(noise, "prior", latent)
        pairs, views = ((again[0], again[1]), (again[2], again[3])), draw_views(self.config.diffaug, noise)
        k = self.spaces.prior.draw_component(noise, "component", items.labels)
        return Batch(items.x, noise.normal("eps", *latent), z_p, *pairs, views, items.labels, k)

    def step(self, nets: SoftIntroVAE, batch: Batch, at: Progress) -> Step:
        return encoder_steps(lambda drawn: self._iteration(nets, drawn, at), batch, self.config.encoder_steps)

    def _iteration(self, nets: SoftIntroVAE, batch: Batch, at: Progress) -> Step:
        c, s, x, y, views = self.config, self.scale, batch.x, batch.labels, batch.views
        enc, dec = with_labels(nets.encoder, y), with_labels(nets.decoder, y)
        if at.before(c.warmup):  # not scaled by s (published code), see `units`
            shown = seen(x, views, REAL)
            yield from elbo_step(nets, x, batch.eps, y, beta_rec=self.beta_rec.value, beta_kl=c.beta_kl, seen=shown)
            return

        prior = learned_prior(nets)
        z_p = placed(prior, batch.z_p, batch.k)
        with torch.set_grad_enabled(not c.recompute):  # the encoder's phase needs no graph of it
            x_p = dec(z_p)
        yield from slope_steps(
            lambda image, call: prior_kl(prior, *enc(seen(image, views, call)), labels=y),
            *(x, x_p, c.r1, c.r2, c.penalty_every, at, self.unit * s),
        )
        mu, logvar = enc(seen(x, views, REAL))
        z = reparameterize(mu, logvar, batch.eps)
        x_r = dec(z)
        error, kl_x = sse(x, x_r).mean(), prior_kl(prior, mu, logvar, y)
        share = 0.5 if c.form == "paper" else 0.25  # of each kind of generated images
        loss_x = s * (self.beta_rec.value * error + c.beta_kl * kl_x.mean())
        logs = detached({**kl_logs("real", kl_x), "error/sse": error})
        if c.form == "official":
            exp_elbo = self._exp_elbo(nets, x_r, seen(x_r.detach(), views, RECONSTRUCTION), y, batch.eps_e[0]).mean()
            loss_x, logs["expelbo/reconstruction"] = loss_x + share * exp_elbo, exp_elbo.detach()
            del exp_elbo  # and with it a graph that only the loss needs
        loss_x = self.unit * loss_x
        yield Update(("encoder",), loss_x, logs, keep_graph=not c.recompute, waits=True)
        loss_x = loss_x.detach()  # samples come later, when the graphs that only the loss above needed are freed
        exp_elbo = self._exp_elbo(nets, x_p, seen(x_p.detach(), views, SAMPLE), y, batch.eps_e[1]).mean()
        loss_p = self.unit * share * exp_elbo
        yield Update(("encoder",), loss_p, detached({"loss/encoder": loss_x + loss_p, "expelbo/sample": exp_elbo}))

        del loss_p, exp_elbo
        if c.recompute:  # the same images again instead of the graph kept from above, as the published code does
            x_p, x_r = dec(z_p), dec(z.detach())
            error = sse(x, x_r).mean()
        generated = self._generated(x_r, x_p, batch.eps_d)
        calls = (RECONSTRUCTION_UPDATED, SAMPLE_UPDATED)[-len(generated) :]
        with frozen(nets.encoder):  # the encoder has been updated by now
            posteriors = [enc(seen(image, views, call)) for (image, _), call in zip(generated, calls, strict=True)]
        with fixed_prior(prior):
            kls = [prior_kl(prior, *posterior, labels=y).mean() for posterior in posteriors]
        loss_d = s * (self.beta_rec.value * error + c.beta_kl * _average(kls))
        if prior is not None:
            loss_d = loss_d + s * c.beta_kl * prior_kl(prior, mu.detach(), logvar.detach(), y).mean()
        if c.gamma_r > torch.finfo(x.dtype).eps:  # rounding hides a smaller one: 1.6e-9 of the gradient at 1e-8
            zs = [reparameterize(mean, log, eps) for (mean, log), (_, eps) in zip(posteriors, generated, strict=True)]
            errors = [self._error(nets, image, z, y) for (image, _), z in zip(generated, zs, strict=True)]
            loss_d = loss_d + s * c.gamma_r * self.beta_rec.value * _average(errors)
        loss_d = self.unit * loss_d
        # These KLs are the updated encoder's, as the published code prints them.
        logs = {"loss/decoder": loss_d} | dict(zip(("kl/reconstruction", "kl/sample")[-len(kls) :], kls, strict=True))
        yield Update(cooperating(prior), loss_d, detached(logs))

    def _generated(self, x_r: Tensor, x_p: Tensor, eps: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The images that count as generated, each with the noise of its own posterior sample."""
        pairs = [(x_r, eps[0]), (x_p, eps[1])]
        return pairs if self.config.form == "official" else pairs[1:]

    def _exp_elbo(self, nets: SoftIntroVAE, image: Tensor, shown: Tensor, labels: Tensor | None, eps: Tensor) -> Tensor:
        """exp(2 ELBO(image)) per image: [N, ...] -> [N], in (0, 1]. The encoder is `shown` the image detached.

        As the target of its own reconstruction it is not: the published code lets that gradient reach the encoder
        through x_r. With `economy` (ours) the KL stands for the ELBO.
        """
        mu, logvar = with_labels(nets.encoder, labels)(shown)
        kl = prior_kl(learned_prior(nets), mu, logvar, labels)
        if self.config.economy:
            return torch.exp(-2 * self.scale * self.beta_neg.value * kl)
        again = self._again(nets, reparameterize(mu, logvar, eps), labels)
        return torch.exp(-2 * self.scale * (self.beta_rec.value * sse(image, again) + self.beta_neg.value * kl))

    def _again(self, nets: SoftIntroVAE, z: Tensor, labels: Tensor | None) -> Tensor:
        """Decodes a generated image's latent in the encoder's phase."""
        with frozen(nets.decoder):
            return with_labels(nets.decoder, labels)(z)

    def _error(self, nets: SoftIntroVAE, image: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """A generated image's reconstruction error in the decoder's phase."""
        return sse(image.detach(), with_labels(nets.decoder, labels)(z.detach())).mean()


class BootstrapObjective(SoftIntroVAEObjective, Lagging):
    """The authors' bootstrap variant (their repository, soft_intro_vae_bootstrap): a target decoder, which lags up to
    an epoch, decodes generated images again, and in the decoder's phase gradients pass through it and reach the image
    as target of its own reconstruction.

    Until the first epoch ends, the target is the decoder's initial weights (authors' code: another random network).
    """

    def step(self, nets: SoftIntroVAE, batch: Batch, at: Progress) -> Step:
        self.renew(nets.decoder, at)
        return super().step(nets, batch, at)

    def _again(self, nets: SoftIntroVAE, z: Tensor, labels: Tensor | None) -> Tensor:
        assert self.target is not None
        return with_labels(self.target, labels)(z)

    def _error(self, nets: SoftIntroVAE, image: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        return sse(image, self._again(nets, z, labels)).mean()


def _average(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
