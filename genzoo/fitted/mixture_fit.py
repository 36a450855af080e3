"""Fits a Gaussian mixture to encodings; the likelihood of held-out ones chooses its components and its subspace."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.fitted.em import em
from genzoo.fitted.mixture import Mixture, Record
from genzoo.fitted.of_classes import classes_to_fit, started
from genzoo.noise import generator

COMPONENTS = (1, 5, 10, 20, 50, 100, 200)  # numbers that are tried
RANKS = (16, 32, 64)  # dimensions of the subspace that are tried
TRIAL = 10  # components with which they are
POINTS = 20  # encodings per component, at least, where the number is chosen
EXACT = 1024  # dimensions up to which all principal directions are computed
HELDOUT = 0.1  # share of the encodings that the choices are made by
FLOOR = 1e-3  # added to covariances, in units of the mean variance


def fit_mixture(
    encodings: Tensor,
    components: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    labels: Tensor | None = None,
) -> Mixture:
    """Fits a mixture to encodings [N, *latent] by expectation-maximization, started by k-means.

    A tenth of the encodings is held out. Their likelihood decides the rank of the subspace and, unless it is given, the
    number of components. Covariances are maximum a posteriori: each is shrunk towards the average over components with
    the weight of P encodings (Fraley & Raftery 2007), so that small components do not overfit.

    With labels, each component is of one class, whose encodings alone it is fitted to; so the mixture can be sampled by
    class. Not where a class has fewer than 20 encodings or there are fewer components than classes: then the labels are
    left out.

    Args:
        encodings: finite; not all the same.
        components: K, or None to choose it.
        seed: of the choices that are random.
        device: where most of the work is done.
        labels: class numbers from 0 on, int64 [N].

    Raises:
        UsageError: more components than encodings, fewer than two encodings, or encodings that are not finite or do not
            vary.
    """
    x = encodings.detach().flatten(1).float().cpu()
    _refuse_unfit(x, components)
    n, dim = x.shape
    apart, others = held_out(x, seed, max(2, components or 1))
    heldout, x, labels = x[apart], x[others], None if labels is None else labels[others]
    labels, n_classes = classes_to_fit(labels, components, POINTS)
    space = _Space.principal(x, seed)
    found: dict[tuple[int, int], Mixture] = {}

    def likelihood(k: int, rank: int) -> float:
        if (k, rank) not in found:
            mixture = space.mixture(x, k, rank, generator(seed, "mixture", k), device, labels)
            score = mixture.log_prob(heldout).mean().item() if len(heldout) else math.nan
            found[k, rank] = replace(mixture, record=Record(n, score, {}))
        return found[k, rank].record.heldout

    trial = components or max(1, n_classes, min(TRIAL, len(x) // POINTS))
    ranks = sorted({min(rank, dim) for rank in (*RANKS, dim)} if dim <= RANKS[-1] else RANKS)
    rank = max(ranks, key=lambda rank: likelihood(trial, rank))
    best = components or max(1, n_classes)
    larger = [k for k in COMPONENTS if k > best and k * POINTS <= len(x)]
    for k in () if components or not len(heldout) else larger:
        if likelihood(k, rank) < likelihood(best, rank):
            break
        best = k
    likelihood(best, rank)
    tried = {f"{k} x {p}": round(mixture.record.heldout, 4) for (k, p), mixture in sorted(found.items())}
    chosen = found[best, rank]
    return replace(chosen, record=replace(chosen.record, tried=tried))


def held_out(x: Tensor, seed: int, least: int = 2) -> tuple[Tensor, Tensor]:
    """Splits encodings [N, D] into a tenth that is held out and the others, of which at least so many are left and not
    all are the same; else none is held out. Returns the numbers of both.
    """
    n = len(x)
    order = torch.randperm(n, generator=generator(seed, "mixture held out"))
    apart = max(0, min(max(1, round(HELDOUT * n)), n - least))
    if not (x[order[apart:]].var(0) > 0).any():  # all but a few encodings are the same
        apart = 0
    return order[:apart], order[apart:]


def _refuse_unfit(x: Tensor, components: int | None) -> None:
    n = len(x)
    if components is not None and components > n:
        raise UsageError(
            f"{components:,} components need as many encodings, and there are {n:,}: "
            f"take gmm:{n} or fewer, or more data."
        )
    if n < 2:
        raise UsageError("A prior is fitted to two encodings or more: take more data.")
    if not x.isfinite().all():
        raise UsageError("The encodings hold NaN or infinite values, so no prior can be fitted: train again.")
    if not (x.var(0) > 0).any():
        raise UsageError("All encodings are the same, so no prior can be fitted: check the data, or train longer.")


@dataclass(frozen=True)
class _Space:
    """Principal directions of encodings."""

    center: Tensor  # [D]
    basis: Tensor  # [D, R], columns by falling variance
    total: float  # variance, summed over all D dimensions

    @classmethod
    def principal(cls, x: Tensor, seed: int) -> "_Space":
        """As many directions as few encodings determine: all where there are eight per dimension."""
        n, dim = x.shape
        center = x.mean(0)
        x = x - center
        size = min(dim, max(RANKS[-1], n // 8))
        if dim <= EXACT:
            _, vectors = torch.linalg.eigh(x.T @ x)
            basis = vectors.flip(1)[:, :size].contiguous()
        else:  # Halko et al. 2011, Algorithms 4.4 and 5.1
            size = min(size, EXACT // 4)
            basis = torch.randn(dim, size, generator=generator(seed, "mixture directions"))
            for _ in range(4):
                basis = torch.linalg.qr(x.T @ (x @ basis)).Q
            basis = basis @ torch.linalg.svd(x @ basis, full_matrices=False).Vh.T
        return cls(center, basis, x.square().sum().item() / n)

    def mixture(
        self,
        x: Tensor,
        k: int,
        rank: int,
        rng: torch.Generator,
        device: torch.device | str,
        labels: Tensor | None = None,
    ) -> Mixture:
        """Fits k components in the first `rank` directions, and one Gaussian to the rest."""
        dim, size = self.basis.shape
        rank = min(rank, size)
        inside = (x - self.center) @ self.basis
        floor = FLOOR * self.total / dim
        variances = inside.square().mean(0)
        n_beyond = dim - size
        beyond = max(0.0, self.total - variances.sum().item()) / n_beyond if n_beyond else 1.0
        shared = torch.cat([variances[rank:], torch.tensor([beyond])]) + floor
        head = inside[:, :rank].contiguous().to(device)
        with _exact_products():
            shares, classes, allowed = started(head, k, rng, labels)
            found = em(head, shares, shrinkage=rank, floor=floor, allowed=allowed)
        weights, means, factors = (tensor.cpu() for tensor in found)
        record = Record(len(x), 0.0, {})
        return Mixture(weights, means, factors, self.center, self.basis, shared.sqrt(), record, classes)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Lets no GPU round what it multiplies to TF32: the floor under covariances is as small as that rounding."""
    cuda = torch.backends.cuda.matmul
    before = cuda.allow_tf32
    cuda.allow_tf32 = False
    try:
        yield
    finally:
        cuda.allow_tf32 = before
