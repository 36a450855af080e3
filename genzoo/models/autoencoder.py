"""Models with an encoder, with the interface of diffusers' autoencoders."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeGuard

import torch
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.fitted import FittedPrior, fit
from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.models.generative import DecoderOutput, Generative, returned
from genzoo.nn import build_encoder
from genzoo.nn.labeled import build_labeled, with_labels
from genzoo.nn.mixture import COMPONENTS, LearnedPrior, learned_prior, prior_kl
from genzoo.noise import generator
from genzoo.priors import Prior


@dataclass(frozen=True)
class Posterior:
    """The diagonal Gaussian N(mean, exp(logvar)) over latents, two [N, *latent].

    diffusers' own class wants [N, Z, 1, 1] and clamps logvar.
    """

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        return torch.exp(self.logvar)

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draws one latent per item, [N, *latent]; `generator` lives on the CPU."""
        eps = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return reparameterize(self.mean, self.logvar, eps)

    def kl(self, other: "Posterior | None" = None) -> Tensor:
        """KL to another posterior, by default to the prior N(0, I), in nats: [N]."""
        if other is None:
            return kl_to_prior(self.mean, self.logvar)
        each = (self.var + (self.mean - other.mean).square()) / other.var - 1 - self.logvar + other.logvar
        return 0.5 * each.flatten(1).sum(1)

    def nll(self, sample: Tensor) -> Tensor:
        """Negative log-likelihood of one latent per item, [N, *latent], in nats: [N]."""
        each = math.log(2 * math.pi) + self.logvar + (sample - self.mean).square() / self.var
        return 0.5 * each.flatten(1).sum(1)


@dataclass(frozen=True)
class PointCode:
    """The posterior of a deterministic encoder: one latent per item, [N, *latent]."""

    mean: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Returns the code itself, [N, *latent]."""
        return self.mean


@dataclass
class EncoderOutput(BaseOutput):
    """What `Autoencoder.encode` returns."""

    latent_dist: Posterior | PointCode


class Autoencoder(Generative):
    """A model with an encoder, [N, *shape] -> the posterior of each item's latent.

    A conditional subclass may override `encoder_input` besides what `Generative` lists. Labels are class numbers, int64
    [N], for a conditional model only.

    Raises:
        UsageError: as `Generative`; or a Gaussian code with a prior other than N(0, I), to which its KL is.
    """

    # The encoder returns (mu, logvar), or one tensor: that of a class, or set by `networks`.
    code: Literal["gaussian", "point"] = "gaussian"

    learns_prior: ClassVar[bool] = False  # whether its objective trains the components of `arch.prior`
    passes_labels: ClassVar[bool] = False  # whether its objective calls networks `with_labels`, for `arch.conditional`
    clips_prior: ClassVar[bool] = False  # whether it calls their `hold_range`

    encoder: nn.Module

    def networks(self) -> dict[str, nn.Module]:
        outputs = {"gaussian": 2, "point": 1}[self.code]
        if self.arch.conditional != "none" and self.passes_labels:
            nets = build_labeled(self.shape, self.arch, outputs, len(self.classes))
        else:
            nets = {"encoder": build_encoder(self.shape, self.arch, outputs), **super().networks()}
        if self.prior.learned:
            of_classes, clipped = self.prior.kind == "classes", self.arch.prior_clip
            nets[COMPONENTS] = LearnedPrior(self.prior.components, self.latent_shape, of_classes, clipped)
        return nets

    @property
    def prior(self) -> Prior:
        kind, _, number = self.arch.prior.partition(":")
        if kind == "classes":
            return Prior("classes", components=len(self.classes))
        return Prior("mog", components=int(number)) if kind == "mog" else super().prior

    def check_parts(self) -> None:
        if self.arch.prior_clip and not (self.clips_prior and self.prior.learned):
            raise UsageError(
                f"arch.prior_clip=true is for learned priors of softintrovae, and this is {type(self).__name__} with "
                f"arch.prior={self.arch.prior}: train softintrovae with arch.prior=mog:10, or leave it out."
            )
        if self.learns_prior and self.arch.prior != "normal":
            if self.arch.prior == "classes" and not self.classes:
                raise UsageError("arch.prior=classes needs labels: set data.labels, e.g. --set data.labels=label.")
            return
        super().check_parts()
        if self.code == "gaussian" and self.prior != Prior():
            raise UsageError(
                f"{type(self).__name__} has a Gaussian code, whose KL is to N(0, I), and {self.prior}: "
                'set code = "point", or leave prior as it is.'
            )

    @property
    def takes_labels(self) -> bool:
        return self.conditional or self.prior.kind == "classes"

    def draw_latents(self, n: int, generator: torch.Generator | None, labels: Tensor | None) -> Tensor:
        """Draws n latents of the model's own prior on the CPU: [n, *latent_shape].

        Of a prior of classes, they are of the classes `labels`, int64 [n]; else of any component, all equally likely.
        """
        normal = self.prior.sample(n, self.latent_shape, generator)
        if (prior := learned_prior(self)) is None:
            return normal
        k = labels if prior.classes else None
        k = torch.randint(prior.components, (n,), generator=generator) if k is None else k
        with torch.no_grad():
            return prior.place(normal.to(self.device, self.dtype), k.to(self.device)).float().cpu()

    def kl(self, mu: Tensor, logvar: Tensor, labels: Tensor | None = None) -> Tensor:
        """KL of Gaussian posteriors, two [N, *latent], to the model's prior, in nats: [N].

        Args:
            labels: int64 [N]; of a prior of classes, it is the KL to that of each item's class. Without, and to a
                mixture, it is an upper bound, see `LearnedPrior.kl`.
        """
        return prior_kl(learned_prior(self), mu, logvar, labels)

    @property
    def has_energy(self) -> bool:
        """Whether `energy` is defined: for a Gaussian code, without labels."""
        return self.code == "gaussian" and not self.conditional

    @property
    def unfittable(self) -> str | None:
        return "it encodes with labels" if self.conditional else None

    def encoder_input(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Joins items and labels to what the encoder takes; an objective calls it too. Here: the items."""
        return x

    def encode(self, x: Tensor, labels: Tensor | None = None, return_dict: bool = True) -> EncoderOutput:
        """Encodes [N, *shape] to a posterior: `encode(x).latent_dist.mean` is [N, *latent_shape]. With
        `return_dict=False`, to a tuple of it, as in diffusers.

        Raises:
            UsageError: x has another shape or type, or see `sample` for labels.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise UsageError(f"This model takes tensors of floats, images in [0, 1], and got {kind}: pass x / 255.")
        if tuple(x.shape[1:]) != self.shape:
            raise UsageError(
                f"This model takes items of shape {self.shape} and got {tuple(x.shape[1:])}: resize or convert them."
            )
        self.check_labels(labels, len(x))
        code = with_labels(self.encoder, labels)(self.encoder_input(x, labels))
        posterior = PointCode(code) if self.code == "point" else Posterior(*code)
        return returned(EncoderOutput(latent_dist=posterior), return_dict)

    def features(self, x: Tensor) -> Tensor:
        """Encodes items to the mode of their posterior, flat: [N, *shape] -> [N, D]. For nearest neighbors."""
        return self.encode(x).latent_dist.mode().flatten(1)

    def forward(
        self,
        x: Tensor,
        labels: Tensor | None = None,
        return_dict: bool = True,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput:
        """Reconstructs from the posterior's mode, or from a sample of it; see `decode` for `return_dict`."""
        posterior = self.encode(x, labels).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        return returned(self.decode(z, labels), return_dict)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encodes and decodes [N, *shape] through the posterior's mode; images clamped to [0, 1]."""
        return self.shown(self(x, labels).sample)

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int = 9, labels: Tensor | None = None) -> Tensor:
        """Walks from a to b, linearly in z as in IntroVAE's Figure 6: two [N, *shape] -> [N, steps, *shape], ends
        included. `labels` are those of both ends.
        """
        start, end = (self.encode(x, labels).latent_dist.mode() for x in (a, b))
        z = torch.stack([torch.lerp(start, end, weight) for weight in torch.linspace(0, 1, steps).tolist()], dim=1)
        repeated = None if labels is None else labels.repeat_interleave(steps)
        return self.shown(self.decode(z.flatten(0, 1), repeated).sample).unflatten(0, z.shape[:2])

    @torch.no_grad()
    def fit_prior(
        self,
        batches: Iterable[Tensor],
        prior: str = "gmm",
        seed: int = 0,
        progress: bool = False,
        labels: Tensor | None = None,
    ) -> FittedPrior:
        """Fits a prior to posterior samples of training data, which `sample` then draws from by default.

        Sets `fitted_prior`, which is saved with the model, and returns it.

        Args:
            batches: training data, [n, *shape] each, on the model's device; thousands of items in all.
            prior: `gmm`, a mixture of Gaussians whose number held-out encodings choose; `gmm:K`, of K; `flow` or
                `flow:N`, a mixture refined by a flow that is trained for N steps.
            seed: of the posterior samples and the fit.
            progress: show a bar while a flow is trained, which takes minutes on a CPU.
            labels: class numbers of all items, int64 [N]; then the prior can be sampled by class, see `fit_mixture`.

        Raises:
            UsageError: a model that encodes with labels, or encodings that no such prior can be fitted to.
        """
        self.fitted_prior = fit(self.encodings(batches, seed), prior, seed, self.device, progress, labels)
        return self.fitted_prior

    @torch.no_grad()
    def encodings(self, batches: Iterable[Tensor], seed: int = 0) -> Tensor:
        """Posterior samples of data, in float32 on the CPU: batches [n, *shape] on the model's device ->
        [N, *latent_shape]. Runs the encoder in eval mode.

        Raises:
            UsageError: a model that encodes with labels, or no items.
        """
        if self.unfittable:
            raise UsageError(
                f"No prior can be fitted to {type(self).__name__}, as {self.unfittable}: sample from its own prior."
            )
        rng, training = generator(seed, "fitted prior"), self.training
        self.eval()
        try:
            found = [self.encode(x).latent_dist.sample(rng).float().cpu() for x in batches]
        finally:
            self.train(training)
        if not found:
            raise UsageError("There are no items to fit a prior to: give at least one batch.")
        return torch.cat(found)

    @torch.no_grad()
    def score(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Scores each item without noise, [N] each: `kl` (nats, the introspective score; not for a point code) and
        `sse` of its reconstruction.
        """
        posterior = self.encode(x, labels).latent_dist
        error = sse(x, self.decode(posterior.mode(), labels).sample)
        if not isinstance(posterior, Posterior):
            return {"sse": error}
        return {"kl": self.kl(posterior.mean, posterior.logvar, labels), "sse": error}

    def energy(self, x: Tensor) -> Tensor:
        """KL + SSE of each item, without noise and without weights: [N, *shape] -> [N]. Needs `has_energy`."""
        score = self.score(x)
        return score["kl"] + score["sse"]


def can_encode(model: Generative) -> TypeGuard[Autoencoder]:
    """Whether a model has an encoder that needs nothing but an item."""
    return isinstance(model, Autoencoder) and not model.conditional
