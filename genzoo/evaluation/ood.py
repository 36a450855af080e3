"""Scores by which a trained autoencoder tells unusual images from those that are like its training data.

Of each score, larger is more suspicious. docs/ood.md explains them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from genzoo.data import open_dataset
from genzoo.data.batches import to_float
from genzoo.data.sets import EndlessSet
from genzoo.errors import UsageError, did_you_mean, shown
from genzoo.evaluation.ood_data import ImageSet
from genzoo.evaluation.subject import ModelSubject
from genzoo.losses import sse
from genzoo.metrics.complexity import png_bits
from genzoo.metrics.likelihood import STEPS, likelihood_regret, log_mean, log_weights
from genzoo.models.autoencoder import Autoencoder, PointCode, Posterior
from genzoo.nn.mixture import LearnedPrior, learned_prior
from genzoo.noise import generator
from genzoo.progress import bar
from genzoo.spec import DataConfig

BATCH = 50  # images that are scored at once
N_VARIANCE = 1000  # training images that the decoder's variance is measured on
JUDGES = 16  # draws over which the ELBOs of the likelihood regret are averaged
LEVELS = 255  # steps between the values of a pixel, which lies in [0, 1]


@dataclass(frozen=True)
class Batch:
    """Images to score, and what their scores share.

    Attributes:
        model: with a Gaussian encoder, or any for `sse`.
        pixels: uint8 [n, C, H, W].
        variance: of the decoder, per pixel and channel.
        draws: of the posterior, at most.
        seed: of the noise.
        index: of this batch among those of its data.
    """

    model: Autoencoder
    pixels: Tensor
    variance: float
    draws: int
    seed: int
    index: int

    @cached_property
    def x(self) -> Tensor:
        return to_float(self.pixels, self.model.device)

    @cached_property
    def code(self) -> Posterior | PointCode:
        return self.model.encode(self.x).latent_dist

    @property
    def posterior(self) -> Posterior:
        assert isinstance(self.code, Posterior)
        return self.code

    @property
    def prior(self) -> LearnedPrior | None:
        """That of the model; None = N(0, I)."""
        return learned_prior(self.model)

    @cached_property
    def kl(self) -> Tensor:
        """Of the posterior to the prior; to a learned one, the bound of `LearnedPrior.kl` to its whole mixture."""
        return self.model.kl(self.posterior.mean.double(), self.posterior.logvar.double())

    @cached_property
    def sse(self) -> Tensor:
        """Of the reconstruction from the posterior's mode."""
        return sse(self.x, self.decode(self.code.mode())).double()

    @cached_property
    def negative_elbo(self) -> Tensor:
        """KL + negative log-likelihood of the reconstruction from the posterior's mode."""
        constant = 0.5 * self.x[0].numel() * math.log(2 * math.pi * self.variance)
        return self.kl + self.sse / (2 * self.variance) + constant

    @cached_property
    def weights(self) -> Tensor:
        """Log importance weights, [draws, n]; the first ones do not depend on how many there are."""
        posterior, noise = self.posterior, self.noise("importance", self.draws)
        return log_weights(self.decode, self.x, posterior.mean, posterior.logvar, noise, self.variance, self.prior)

    def published(self, draws: int) -> Tensor:
        """Log p(x) as Soft-IntroVAE's authors compute it: log of the sum of the weights, unit variance, draws of a
        Gaussian whose covariance is sigma, where sigma^2 is meant.
        """
        posterior, noise = self.posterior, self.noise("importance", draws)
        weights = log_weights(self.decode, self.x, posterior.mean, posterior.logvar / 2, noise, prior=self.prior)
        return weights.logsumexp(dim=0)

    @cached_property
    def regret(self) -> Tensor:
        posterior = self.posterior
        noise, judges = self.noise("regret", STEPS), list(self.noise("regret judges", JUDGES))
        start = posterior.mean, posterior.logvar
        return likelihood_regret(self.decode, self.x, *start, noise, judges, self.variance, prior=self.prior)

    @cached_property
    def bits(self) -> Tensor:
        return png_bits(self.pixels)

    @property
    def corrected(self) -> Tensor:
        """Code length by 200 weights, in bits of the 8-bit pixels, minus that of the PNG file."""
        nats = -log_mean(self.weights[:200]).cpu()
        return nats / math.log(2) + self.x[0].numel() * math.log2(LEVELS) - self.bits

    def decode(self, z: Tensor) -> Tensor:
        return self.model.decode(z).sample

    def noise(self, stream: str, n: int) -> Iterable[Tensor]:
        """Draws N(0, 1) n times, [items, *latent] each."""
        rng = generator(self.seed, f"ood {stream}", self.index)
        shape, like = (len(self.pixels), *self.model.latent_shape), self.model
        return (torch.randn(shape, generator=rng).to(like.device, like.dtype) for _ in range(n))


@dataclass(frozen=True)
class Score:
    """One score of an image.

    Attributes:
        title: of its histogram, with the unit.
        compute: a batch's values, [n].
        draws: of the posterior that it needs of `Batch.weights`.
        needs: what the model must have: nothing, a decoder's `error`, a Gaussian `posterior`, or its `variance` too.
    """

    title: str
    compute: Callable[[Batch], Tensor]
    draws: int = 0
    needs: str = "variance"


COMPLEXITY = "complexity"  # is always computed: what the others must beat
SCORES: Mapping[str, Score] = {
    "complexity": Score("PNG file, bits", lambda b: b.bits, needs="nothing"),
    "kl": Score("KL to the prior, nats", lambda b: b.kl, needs="posterior"),
    "sse": Score("squared error, sum", lambda b: b.sse, needs="error"),
    "elbo": Score("-ELBO, nats", lambda b: b.negative_elbo),
    "iw5": Score("-log p(x), 5 draws, nats", lambda b: -log_mean(b.weights[:5]), draws=5),
    "iw200": Score("-log p(x), 200 draws, nats", lambda b: -log_mean(b.weights[:200]), draws=200),
    "iw5_sintrovae2021": Score("-log p(x), 5 draws, as published", lambda b: -b.published(5), needs="posterior"),
    "iw200_sintrovae2021": Score("-log p(x), 200 draws, as published", lambda b: -b.published(200), needs="posterior"),
    "regret": Score("likelihood regret, nats", lambda b: b.regret),
    "corrected": Score("-log p(x), 200 draws, minus PNG, bits", lambda b: b.corrected, draws=200),
}
DEFAULT = tuple(name for name in SCORES if name != "iw200_sintrovae2021")  # the authors take 5 draws


def parse_scores(text: str | None) -> tuple[str, ...]:
    """Reads names of scores that commas separate, in the order of `SCORES`; complexity is always among them.

    Raises:
        UsageError: a name is not one of them, or there is none.
    """
    names = list(DEFAULT) if text is None else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--scores is empty: name some of {', '.join(SCORES)}.")
    for name in names:
        if name not in SCORES:
            raise UsageError(f"--scores: {shown(name)} is not a score.{did_you_mean(name, SCORES)}")
    return tuple(name for name in SCORES if name in (COMPLEXITY, *names))


def refuse_unfit(subject: ModelSubject, names: Iterable[str]) -> None:
    """Refuses a model that the scores cannot be computed with.

    Raises:
        UsageError: the line says why.
    """
    model, name = subject.model, subject.name
    if not model.is_image:
        raise UsageError(f"{name} is a model of points, and these scores are of images: give another model.")
    if not isinstance(model, Autoencoder):
        raise UsageError(f"{name} holds a {type(model).__name__}, which has no encoder: give another model.")
    if model.conditional:
        raise UsageError(f"{name} encodes with labels, which other images do not have: give another model.")
    if model.code != "gaussian" and (wrong := [n for n in names if SCORES[n].needs in ("posterior", "variance")]):
        raise UsageError(f"--scores {wrong[0]}: the encoder of {name} outputs points: take sse, --scores sse.")


def measure_variance(subject: ModelSubject, data: DataConfig) -> float:
    """The decoder's variance that suits its training data best: the mean squared error of reconstructions per pixel and
    channel (Rybkin, Daniilidis & Levine 2021), over 1,000 images that it was trained on.

    Args:
        subject: the model; a run's own data is found by its record.
        data: of whose split `train` the images of any other model are.

    Raises:
        UsageError: that data is not there.
    """
    known, model = subject.trained_on, subject.model
    assert isinstance(model, Autoencoder)
    try:
        own = known.located(data) if known is not None and known.of_run else replace(data, split="train")
        found = open_dataset(own)
    except UsageError as error:
        raise UsageError(
            f"the decoder's variance is measured on images of training: {error} Or give --variance."
        ) from error
    assert not isinstance(found, EndlessSet)
    chosen = torch.randperm(found.size, generator=generator(0, "ood variance"))[:N_VARIANCE]
    batches = (found.batch(part.numpy()) for part in chosen.split(BATCH))
    with torch.no_grad():
        errors = torch.cat([Batch(model, pixels, 1.0, 0, 0, 0).sse for pixels in batches])
    variance = errors.mean().item() / math.prod(model.shape)
    if not 0 < variance < math.inf:
        raise UsageError(
            f"{subject.name} reconstructs its training data with a variance of {variance}: give --variance."
        )
    return variance


def score_images(
    subject: ModelSubject,
    images: ImageSet,
    chosen: Tensor,
    names: Sequence[str],
    variance: float,
    seed: int,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Computes scores of images, float64 [n] each.

    Args:
        subject: see `refuse_unfit`.
        images: what they are of.
        chosen: their numbers, int64 [n].
        names: of the scores.
        variance: of the decoder.
        seed: of the noise.
        progress: show a bar.

    Raises:
        UsageError: a score is not finite.
    """
    model = subject.model
    assert isinstance(model, Autoencoder)
    draws = max(SCORES[name].draws for name in names)
    parts: list[dict[str, Tensor]] = []
    for index, part in enumerate(bar(chosen.split(BATCH), f"scoring {images.name}", shown=progress, unit="batch")):
        batch = Batch(model, images.images.batch(part.numpy()), variance, draws, seed, index)
        with torch.no_grad():
            parts.append({name: SCORES[name].compute(batch).double().cpu() for name in names})
    found = {name: torch.cat([part[name] for part in parts]) for name in names}
    for name, values in found.items():
        if not values.isfinite().all():
            raise UsageError(f"{name} of {images.name} is not finite: the model has diverged, or leave the score out.")
    return found
