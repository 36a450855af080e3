"""Soft-IntroVAE (Daniel & Tamar, CVPR 2021, arXiv 2012.13253): a soft exponential of generated images' ELBO replaces
the hinge.
"""

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genzoo.controller import Controller
from genzoo.items import Items
from genzoo.losses import reparameterize, sse
from genzoo.models._diffaug import (
    CALLS,
    REAL,
    REAL_SLOPE,
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
from genzoo.models._features import feature_distance, refuse_encoder
from genzoo.models._responsibilities import draw_samples, refuse_mixture_options, responsibility_entropy
from genzoo.models._similarity import Posteriors, annealed_scores, annealing, refuse_distance
from genzoo.models._slope import refuse_interval, slope_steps
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.softintrovae.controllers import weights
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
    clips_prior = True


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample of x
    z_p: Tensor  # [N, *latent], samples of the prior, or the draws that a learned one places
    eps_e: tuple[Tensor, Tensor]  # two [N, *latent]: posterior noise of reconstruction and sample, encoder phase
    eps_d: tuple[Tensor, Tensor]  # the same, decoder phase
    views: tuple[Tensor, ...] = ()  # of `objective.diffaug`
    labels: Tensor | None = None  # [N] int64, of x
    k: Tensor | None = None  # [N] int64, components of z_p; labels where the prior has classes
    samples: tuple[Tensor, ...] = ()  # of `objective.prior_samples`, by call

    def normal(self, call: int) -> Tensor | None:
        """The noise of the KL's posterior samples at a call of the encoder, see `genzoo.models._diffaug`."""
        return self.samples[call] if self.samples else None


class Generated(NamedTuple):
    """Images that count as generated, and what an encoder's call on them needs."""

    name: str  # in curves
    image: Tensor  # [N, C, H, W]
    eps: Tensor  # [N, *latent], noise of its posterior sample
    call: int  # see `genzoo.models._diffaug`


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
        refuse_mixture_options(spaces.prior, config.prior_samples, config.prior_entropy)
        refuse_distance(config.distance, config.form, spaces.prior)
        refuse_interval(config.r1, config.r2, config.penalty_every)
        self.period = config.penalty_every if config.r1 or config.r2 else 1
        self.scale = 1 / math.prod(spaces.shape) if spaces.is_image else 0.5  # s: per pixel for images, 1/2 for points
        self.unit = 1 / self.scale if config.units == "image" else 1.0  # of the losses of adversarial training
        self.beta_neg, self.beta_rec = weights(config, spaces, self.scale)

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
        calls = CALLS if self.config.r1 or self.config.r2 else REAL_SLOPE  # which are the last
        samples = draw_samples(noise, self.config.prior_samples, latent, calls)
        return Batch(items.x, noise.normal("eps", *latent), z_p, *pairs, views, items.labels, k, samples)

    def step(self, nets: SoftIntroVAE, batch: Batch, at: Progress) -> Step:
        if self.config.feature_loss:
            refuse_encoder(nets.encoder)
        return encoder_steps(lambda drawn: self._iteration(nets, drawn, at), batch, self.config.encoder_steps)

    def _iteration(self, nets: SoftIntroVAE, batch: Batch, at: Progress) -> Step:
        c, s, x, y, views = self.config, self.scale, batch.x, batch.labels, batch.views
        enc, dec, prior = with_labels(nets.encoder, y), with_labels(nets.decoder, y), learned_prior(nets)
        warming = at.before(c.warmup)
        if prior is not None:
            prior.hold_range(not warming)
        if warming:  # not scaled by s (published code), see `units`
            betas = {"beta_rec": self.beta_rec.value, "beta_kl": c.beta_kl}
            yield from elbo_step(nets, x, batch.eps, y, **betas, normal=batch.normal(REAL))
            return

        z_p = placed(prior, batch.z_p, batch.k)
        with torch.set_grad_enabled(not c.recompute):  # the encoder's phase needs no graph of it
            x_p = dec(z_p)
        yield from slope_steps(
            lambda image, call: self._kl(nets, enc(seen(image, views, call)), batch, call),
            *(x, x_p, c.r1, c.r2, c.penalty_every, at, self.unit * s),
        )
        (mu, logvar), features = self._encoded(enc, seen(x, views, REAL))
        z = reparameterize(mu, logvar, batch.eps)
        x_r = dec(z)
        error, kl_x = sse(x, x_r).mean(), self._kl(nets, (mu, logvar), batch, REAL)
        share = 0.5 if c.form == "paper" else 0.25  # of each kind of generated images
        loss_x = s * (self.beta_rec.value * error + c.beta_kl * kl_x.mean())
        logs = detached({**kl_logs("real", kl_x), "error/sse": error})
        terms, curves = yield from self._further_terms(nets, batch, (mu, logvar), features, x_r)
        loss_x, logs = sum(terms, start=loss_x), logs | curves
        del terms, features
        generated = self._generated(x_r, x_p, batch.eps_e, (RECONSTRUCTION, SAMPLE))
        now, later = (generated, []) if c.distance == "as" else (generated[:-1], generated[-1:])
        exp_elbos, curves = self._exp_elbos(nets, now, batch, at)
        loss_x = self.unit * sum((share * exp_elbo for exp_elbo in exp_elbos), start=loss_x)
        logs |= curves if later else {**curves, "loss/encoder": loss_x.detach()}
        del exp_elbos  # and with them graphs that only the loss needs
        yield Update(("encoder",), loss_x, logs, keep_graph=not c.recompute, waits=bool(later))
        loss_x = loss_x.detach()
        if later:  # when the graphs that only the loss above needed are freed
            (exp_elbo,), curves = self._exp_elbos(nets, later, batch, at)
            loss_p = self.unit * share * exp_elbo
            yield Update(("encoder",), loss_p, {**curves, "loss/encoder": loss_x + loss_p.detach()})
            del loss_p, exp_elbo

        del generated, now, later
        if c.recompute:  # the same images again instead of the graph kept from above, as the published code does
            x_p, x_r = dec(z_p), dec(z.detach())
            error = sse(x, x_r).mean()
        yield self._decoder_update(nets, batch, at, (mu.detach(), logvar.detach()), x_r, x_p, error)

    def _decoder_update(
        self, nets: SoftIntroVAE, batch: Batch, at: Progress, real: Posteriors, x_r: Tensor, x_p: Tensor, error: Tensor
    ) -> Update:
        """The update of the decoder and a learned prior, by the encoder that has been updated: x_r and x_p have the
        decoder's graph, error is x_r's, and `real` are the posteriors of x, detached.
        """
        c, s, prior = self.config, self.scale, learned_prior(nets)
        generated = self._generated(x_r, x_p, batch.eps_d, (RECONSTRUCTION_UPDATED, SAMPLE_UPDATED))
        enc = with_labels(nets.encoder, batch.labels)
        with frozen(nets.encoder):
            posteriors = [enc(seen(g.image, batch.views, g.call)) for g in generated]
        with fixed_prior(prior):
            kls = [self._kl(nets, p, batch, g.call).mean() for p, g in zip(posteriors, generated, strict=True)]
        scores, _ = self._scores(kls, posteriors, at, share=0.5)
        loss_d = s * (self.beta_rec.value * error + c.beta_kl * _average(scores))
        if prior is not None:
            loss_d = loss_d + s * c.beta_kl * self._kl(nets, real, batch, REAL).mean()
        if c.gamma_r > torch.finfo(batch.x.dtype).eps:  # rounding hides a smaller one: 1.6e-9 of the gradient at 1e-8
            zs = [reparameterize(mean, log, g.eps) for (mean, log), g in zip(posteriors, generated, strict=True)]
            errors = [self._error(nets, g.image, z, batch.labels) for g, z in zip(generated, zs, strict=True)]
            loss_d = loss_d + s * c.gamma_r * self.beta_rec.value * _average(errors)
        loss_d = self.unit * loss_d
        # These KLs are the updated encoder's, as the published code prints them.
        logs = {"loss/decoder": loss_d} | {f"kl/{g.name}": kl for g, kl in zip(generated, kls, strict=True)}
        return Update(cooperating(prior), loss_d, detached(logs))

    def _generated(
        self, x_r: Tensor, x_p: Tensor, eps: tuple[Tensor, Tensor], calls: tuple[int, int]
    ) -> list[Generated]:
        """The images that count as generated in one phase."""
        both = [Generated("reconstruction", x_r, eps[0], calls[0]), Generated("sample", x_p, eps[1], calls[1])]
        return both if self.config.form == "official" else both[1:]

    def _kl(self, nets: SoftIntroVAE, posterior: Posteriors, batch: Batch, call: int) -> Tensor:
        """KL to the prior of the posteriors of a call of the encoder: [N]."""
        return prior_kl(learned_prior(nets), *posterior, batch.labels, batch.normal(call))

    def _encoded(self, encoder: Callable[..., Any], shown: Tensor) -> tuple[Posteriors, list[Tensor]]:
        """Posteriors, and the features of `feature_loss`; none without it."""
        return encoder(shown, stages=True) if self.config.feature_loss else (encoder(shown), [])

    def _further_terms(
        self, nets: SoftIntroVAE, batch: Batch, posterior: Posteriors, features: list[Tensor], x_r: Tensor
    ) -> Generator[Any, Any, tuple[list[Tensor], dict[str, Tensor]]]:
        """What options add to the encoder's loss on real images, and its curves."""
        c, prior, terms, curves = self.config, learned_prior(nets), list[Tensor](), dict[str, Tensor]()
        if c.feature_loss:  # both images have been changed by the same T, if any
            _, others = self._encoded(with_labels(nets.encoder, batch.labels), seen(x_r.detach(), batch.views, REAL))
            distance = feature_distance(features, others)
            terms, curves["features/reconstruction"] = [c.feature_loss * distance], distance.detach()
        if c.prior_entropy and prior is not None:
            normal = batch.samples[REAL] if batch.samples else batch.eps[:, None]
            entropy = yield from responsibility_entropy(prior, *posterior, normal)
            terms, curves["responsibilities/entropy"] = (
                [*terms, -self.scale * c.prior_entropy * entropy],
                entropy.detach(),
            )
        return terms, curves

    def _exp_elbos(
        self, nets: SoftIntroVAE, generated: list[Generated], batch: Batch, at: Progress
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The mean of exp(2 ELBO) over each kind of images, which the encoder is shown detached, and their curves."""
        enc = with_labels(nets.encoder, batch.labels)
        posteriors = [enc(seen(g.image.detach(), batch.views, g.call)) for g in generated]
        kls = [self._kl(nets, p, batch, g.call) for p, g in zip(posteriors, generated, strict=True)]
        scores, curves = self._scores(kls, posteriors, at)
        found = [
            self._exp_elbo(nets, g, posterior, score, batch.labels).mean()
            for g, posterior, score in zip(generated, posteriors, scores, strict=True)
        ]
        return found, curves | detached({f"expelbo/{g.name}": e for g, e in zip(generated, found, strict=True)})

    def _scores(
        self, kls: list[Tensor], posteriors: list[Posteriors], at: Progress, share: float = 1.0
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """What the players pull on, one of each kind of generated images: the KL, or that of `distance=as`; and its
        curves.
        """
        if self.config.distance == "kl":
            return kls, {}
        return annealed_scores(kls, posteriors, annealing(at, self.config.warmup, kls[0]), share)

    def _exp_elbo(
        self, nets: SoftIntroVAE, generated: Generated, posterior: Posteriors, score: Tensor, labels: Tensor | None
    ) -> Tensor:
        """exp(2 ELBO(image)) per image, with `score` in place of the KL: [N], in (0, 1].

        As the target of its own reconstruction the image is not detached: the published code lets that gradient reach
        the encoder through x_r. With `economy` (ours) the score stands for the ELBO.
        """
        if self.config.economy:
            return torch.exp(-2 * self.scale * self.beta_neg.value * score)
        again = self._again(nets, reparameterize(*posterior, generated.eps), labels)
        error = sse(generated.image, again)
        return torch.exp(-2 * self.scale * (self.beta_rec.value * error + self.beta_neg.value * score))

    def _again(self, nets: SoftIntroVAE, z: Tensor, labels: Tensor | None) -> Tensor:
        """Decodes a generated image's latent in the encoder's phase."""
        with frozen(nets.decoder):
            return with_labels(nets.decoder, labels)(z)

    def _error(self, nets: SoftIntroVAE, image: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """A generated image's reconstruction error in the decoder's phase."""
        return sse(image.detach(), with_labels(nets.decoder, labels)(z.detach())).mean()


def _average(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
