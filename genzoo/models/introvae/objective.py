"""IntroVAE (Huang et al., NeurIPS 2018, arXiv 1807.06358): Algorithm 1 with Eqs. 9-12, and the authors' code where it
differs.
"""

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genzoo.controller import Calibration, Controller, Fixed, refuse_fixed
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
from genzoo.models._slope import refuse_interval, slope_steps
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.introvae.controllers import hinge_margin
from genzoo.models.introvae.presets import IntroVAEArch, IntroVAEConfig
from genzoo.models.introvae.signs import RULES
from genzoo.nn.labeled import with_labels
from genzoo.nn.mixture import cooperating, fixed_prior, learned_prior, placed, prior_kl
from genzoo.noise import Noise
from genzoo.objective import Mean, Objective, Progress, Spaces, Step, Update, detached, frozen
from genzoo.signs import Rule


class IntroVAE(Autoencoder):
    """Encoder and decoder trained introspectively: the KL to the prior that the encoder assigns scores an image."""

    model_name = "introvae"
    arch_class = IntroVAEArch
    learns_prior = True
    passes_labels = True


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample
    z_p: Tensor  # [N, *latent], samples of the prior, or the draws that a learned one places
    views: tuple[Tensor, ...] = ()  # of `objective.diffaug`
    labels: Tensor | None = None  # [N] int64, of x
    k: Tensor | None = None  # [N] int64, components of z_p; labels where the prior has classes


class IntroVAEObjective(Objective):
    """One iteration of Algorithm 1.

    `form=official` puts the hinge on the batch mean, drops the 1/2 of Eq. 10 and decodes samples before
    reconstructions, as the authors' code does.
    """

    config: IntroVAEConfig

    def __init__(self, config: IntroVAEConfig, spaces: Spaces):
        super().__init__(config, spaces)
        refuse_points(config.diffaug, spaces)
        self.fresh = config.encoder_steps - 1
        refuse_interval(config.r1, config.r2, config.penalty_every)
        self.period = config.penalty_every if config.r1 or config.r2 else 1
        self.margin: Controller = (
            hinge_margin(spaces.z_dim, config.warmup) if config.margin == "auto" else Fixed(config.margin)
        )
        self.half = 0.5 if config.form == "paper" else 1.0  # of the SSE, Eq. 10
        calibrated = Calibration(math.prod(spaces.shape), config.warmup, scale=config.calibration / self.half)
        refuse_fixed("beta", config.beta, config.calibration)
        self.beta: Controller = calibrated if config.beta == "auto" else Fixed(config.beta)
        self.per_image = (config.hinge or {"paper": "image", "official": "batch"}[config.form]) == "image"
        self.alpha_decoder = config.alpha if config.alpha_decoder is None else config.alpha_decoder

    @property
    def controllers(self) -> dict[str, Controller]:
        moving = {"margin": self.margin, "beta": self.beta}
        return {name: controller for name, controller in moving.items() if getattr(self.config, name) == "auto"}

    @property
    def guides(self) -> dict[str, float]:
        return {"kl": self.margin.value}

    @property
    def signs(self) -> tuple[Rule, ...]:
        return RULES

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.beta", "adversary": "objective.margin or objective.alpha"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        latent, prior = self.spaces.latent, self.spaces.prior
        eps, z_p, views = (
            noise.normal("eps", *latent),
            prior.draw(noise, "prior", latent),
            draw_views(self.config.diffaug, noise),
        )
        return Batch(items.x, eps, z_p, views, items.labels, prior.draw_component(noise, "component", items.labels))

    def step(self, nets: IntroVAE, batch: Batch, at: Progress) -> Step:
        return encoder_steps(lambda drawn: self._iteration(nets, drawn, at), batch, self.config.encoder_steps)

    def _iteration(self, nets: IntroVAE, batch: Batch, at: Progress) -> Step:
        c, x, y, views, beta = self.config, batch.x, batch.labels, batch.views, self.beta.value
        enc, dec = with_labels(nets.encoder, y), with_labels(nets.decoder, y)
        if at.before(c.warmup):  # alpha = 0 (paper), or SSE + KL, both unweighted (official)
            weighted = c.form == "paper" or c.beta == "auto"
            beta_rec = beta * self.half if weighted else 1.0
            yield from elbo_step(nets, x, batch.eps, y, beta_rec=beta_rec, beta_kl=1.0)
            return

        prior = learned_prior(nets)
        z_p = placed(prior, batch.z_p, batch.k)

        def kl(image: Tensor, call: int) -> Tensor:
            return prior_kl(prior, *enc(seen(image, views, call)), labels=y)

        mu, logvar = enc(seen(x, views, REAL))
        z = reparameterize(mu, logvar, batch.eps)  # line 4: Z <- Enc(X)
        x_r, x_p = self._decode(dec, z, z_p, graph=not c.recompute)  # 6; the encoder's phase needs none of x_p
        yield from slope_steps(kl, x, x_p, c.r1, c.r2, c.penalty_every, at)
        error, kl_x = sse(x, x_r).mean(), prior_kl(prior, mu, logvar, y)
        l_ae = self.half * error  # 7, Eq. 10
        kl_r, kl_p = kl(x_r.detach(), RECONSTRUCTION), kl(x_p.detach(), SAMPLE)  # 8
        hinge = yield from self._hinge(kl_p)
        if c.reconstruction_branch:  # always, but for an ablation
            hinge = (yield from self._hinge(kl_r)) + hinge
        loss_e = kl_x.mean() + c.alpha * hinge + beta * l_ae  # 9-10, Eq. 11
        logs = {
            "loss/encoder": loss_e,
            **kl_logs("real", kl_x),
            "kl/reconstruction": kl_r.mean(),
            "kl/sample": kl_p.mean(),
        }
        logs |= {"error/sse": error, "hinge/active": self._active([kl_r, kl_p] if c.reconstruction_branch else [kl_p])}
        yield Update(("encoder",), loss_e, detached(logs), keep_graph=not c.recompute)

        del logs, loss_e, hinge, kl_r, kl_p  # and with them the graphs that only the encoder's step needed
        if c.recompute:  # the same images again instead of the graph kept from above
            x_r, x_p = self._decode(dec, z.detach(), z_p)
            l_ae = self.half * sse(x, x_r).mean()
        judged = [(x_r, RECONSTRUCTION_UPDATED)] * c.reconstruction_branch + [(x_p, SAMPLE_UPDATED)]
        with frozen(nets.encoder), fixed_prior(prior):  # the encoder has been updated by now
            kls = [kl(image, call) for image, call in judged]  # 11
        loss_g = self.alpha_decoder * sum(kls[1:], start=kls[0]).mean() + beta * l_ae  # 12-13, Eq. 12
        if prior is not None:
            loss_g = loss_g + prior_kl(prior, mu.detach(), logvar.detach(), y).mean()
        logs = {"loss/decoder": loss_g, "kl/sample_updated": kls[-1].mean()}
        if c.reconstruction_branch:
            logs["kl/reconstruction_updated"] = kls[0].mean()
        yield Update(cooperating(prior), loss_g, detached(logs))

    def _decode(
        self, dec: Callable[[Tensor], Tensor], z: Tensor, z_p: Tensor, graph: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Decodes posterior and prior latents, the latter with or without a graph.

        The order decides how much each kind weighs in BatchNorm's running averages: reconstructions come first in
        Algorithm 1, and samples in the authors' code.
        """

        def sample() -> Tensor:
            with torch.set_grad_enabled(graph):
                return dec(z_p)

        if self.config.form == "official":
            x_p = sample()
            return dec(z), x_p
        return dec(z), sample()

    def _hinge(self, kl: Tensor) -> Generator[Mean, Any, Tensor]:
        """[m - KL]^+, per image (paper) or on the mean of the global batch (official); returns a scalar."""
        m = self.margin.value
        if self.per_image:
            return (m - kl).relu().mean()
        batch_mean = yield Mean(kl.mean())
        return (batch_mean < m) * (m - kl.mean())  # a micro-batch's share of relu(m - batch_mean), value and gradient

    def _active(self, kls: list[Tensor]) -> Tensor:
        """Share of generated images that the hinge still pushes, in [0, 1]; on the batch mean, of the kinds of them."""
        below = [((kl if self.per_image else kl.mean()) < self.margin.value).to(kl.dtype).mean() for kl in kls]
        return torch.stack(below).mean()
