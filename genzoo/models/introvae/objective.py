"""IntroVAE (Huang et al., NeurIPS 2018, arXiv 1807.06358): Algorithm 1 with Eqs. 9-12, and the authors' code where it
differs.
"""

import math
from collections.abc import Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genzoo.controller import Calibration, Controller, Fixed, refuse_fixed
from genzoo.items import Items
from genzoo.losses import reparameterize, sse
from genzoo.models._elbo import elbo_step, kl_logs
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.introvae.controllers import hinge_margin
from genzoo.models.introvae.presets import IntroVAEArch, IntroVAEConfig
from genzoo.models.introvae.signs import RULES
from genzoo.nn.mixture import cooperating, fixed_prior, learned_prior, placed, prior_kl
from genzoo.noise import Noise
from genzoo.objective import Mean, Objective, Progress, Spaces, Step, Update, detached, frozen
from genzoo.signs import Rule


class IntroVAE(Autoencoder):
    """Encoder and decoder trained introspectively: the KL to the prior that the encoder assigns scores an image."""

    model_name = "introvae"
    arch_class = IntroVAEArch
    learns_prior = True


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample
    z_p: Tensor  # [N, *latent], samples of the prior, or the draws that a learned one places
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
        k = prior.draw_component(noise, "component", items.labels)
        return Batch(items.x, noise.normal("eps", *latent), prior.draw(noise, "prior", latent), items.labels, k)

    def step(self, nets: IntroVAE, batch: Batch, at: Progress) -> Step:
        c, enc, dec, x, y = self.config, nets.encoder, nets.decoder, batch.x, batch.labels
        beta = self.beta.value
        if at.before(c.warmup):  # alpha = 0 (paper), or SSE + KL, both unweighted (official)
            weighted = c.form == "paper" or c.beta == "auto"
            yield from elbo_step(nets, x, batch.eps, y, beta_rec=beta * self.half if weighted else 1.0, beta_kl=1.0)
            return

        prior = learned_prior(nets)
        z_p = placed(prior, batch.z_p, batch.k)
        mu, logvar = enc(x)
        z = reparameterize(mu, logvar, batch.eps)  # line 4: Z <- Enc(X)
        x_r, x_p = self._decode(dec, z, z_p, graph=not c.recompute)  # 6; the encoder's phase needs none of x_p
        error, kl_x = sse(x, x_r).mean(), prior_kl(prior, mu, logvar, y)
        l_ae = self.half * error  # 7, Eq. 10
        kl_r, kl_p = prior_kl(prior, *enc(x_r.detach()), labels=y), prior_kl(prior, *enc(x_p.detach()), labels=y)  # 8
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
        with frozen(enc), fixed_prior(prior):  # the encoder has been updated by now
            kls = [
                prior_kl(prior, *enc(image), labels=y) for image in ((x_r, x_p) if c.reconstruction_branch else (x_p,))
            ]  # 11
        loss_g = self.alpha_decoder * sum(kls[1:], start=kls[0]).mean() + beta * l_ae  # 12-13, Eq. 12
        if prior is not None:
            loss_g = loss_g + prior_kl(prior, mu.detach(), logvar.detach(), y).mean()
        logs = {"loss/decoder": loss_g, "kl/sample_updated": kls[-1].mean()}
        if c.reconstruction_branch:
            logs["kl/reconstruction_updated"] = kls[0].mean()
        yield Update(cooperating(prior), loss_g, detached(logs))

    def _decode(self, dec: nn.Module, z: Tensor, z_p: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
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
