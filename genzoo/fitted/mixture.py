"""Gaussian mixtures over latents, with components and a subspace chosen by the likelihood of held-out encodings."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.fitted.em import em, kmeans, log_joint
from genzoo.noise import generator

FORMAT = "genzoo mixture 1"
ABOUT = "about"  # the only entry of the metadata
COMPONENTS = (1, 5, 10, 20, 50, 100, 200)  # numbers that are tried
RANKS = (16, 32, 64)  # dimensions of the subspace that are tried
TRIAL = 10  # components with which they are
POINTS = 20  # encodings per component, at least, where the number is chosen
EXACT = 1024  # dimensions up to which all principal directions are computed
HELDOUT = 0.1  # share of the encodings that the choices are made by
FLOOR = 1e-3  # added to covariances, in units of the mean variance


def write(path: Path, tensors: dict[str, Tensor], **about: str) -> None:
    """Writes tensors and metadata; equal ones become equal files: safetensors writes several entries in any order."""
    save_file(tensors, path, {ABOUT: json.dumps(about)})


def described(metadata: dict[str, str]) -> dict[str, str]:
    """Reads the metadata that `write`, or an earlier version, wrote.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(metadata[ABOUT]) if ABOUT in metadata else metadata


@dataclass(frozen=True)
class Record:
    """How a mixture was fitted."""

    encodings: int  # all, the held-out ones included
    heldout: float  # mean log-likelihood of the held-out encodings, in nats
    tried: dict[str, float]  # the same for each candidate, "components x rank"


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture over flat latents [D], in float32 on the CPU.

    The K components have full covariances in a subspace of P dimensions, the first columns of `basis`; orthogonal to
    it, all share one Gaussian: independent along the other R - P columns, isotropic beyond. P = D is an ordinary
    mixture.
    """

    weights: Tensor  # [K], positive, sum 1
    means: Tensor  # [K, P]
    factors: Tensor  # [K, P, P], lower triangular: covariances are factor @ factor.T
    center: Tensor  # [D], the origin of the subspace
    basis: Tensor  # [D, R], orthonormal columns, P <= R <= D
    shared: Tensor  # [R - P + 1], standard deviations along the columns from P on, and beyond them
    record: Record

    @property
    def name(self) -> str:
        """As results and captions call it: `gmm:50`."""
        return f"gmm:{len(self.weights)}"

    @property
    def about(self) -> str:
        """What it is, for a model card."""
        return f"a Gaussian mixture fitted to {self.record.encodings:,} encodings of training data"

    @property
    def dim(self) -> int:
        """D."""
        return len(self.center)

    def sample(
        self, n: int, shape: tuple[int, ...], generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draws n latents of `shape` on the CPU: [n, *shape].

        Args:
            n: how many.
            shape: of one latent, whose size is D.
            generator: lives on the CPU.
            temperature: scales each component's deviation from its mean; the components' shares stay.
        """
        which = torch.rand(n, generator=generator)
        return self.at(which, temperature * torch.randn(n, *shape, generator=generator))

    def at(self, which: Tensor, noise: Tensor) -> Tensor:
        """Maps fixed draws to latents, so that two mixtures can be compared: U[0, 1) [n] and N(0, 1) [n, *shape] ->
        [n, *shape].
        """
        chosen = torch.searchsorted(self.weights.cumsum(0), which, right=True).clamp(max=len(self.weights) - 1)
        flat = noise.flatten(1)
        inside = flat @ self.basis  # [n, R], N(0, I) as well
        beyond = self.shared[-1] * (flat - inside @ self.basis.T)
        return (self.center + self.inside(chosen, inside) @ self.basis.T + beyond).view(noise.shape)

    def inside(self, components: Tensor, noise: Tensor) -> Tensor:
        """Draws of given components, as coordinates along `basis`: int64 [n] and N(0, 1) [n, R] -> [n, R]."""
        rank = self.means.shape[1]
        moved = self.means[components] + (self.factors[components] @ noise[:, :rank, None]).squeeze(-1)
        return torch.cat([moved, self.shared[:-1] * noise[:, rank:]], 1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """Posterior probabilities of the components: [N, *shape] -> [N, K]."""
        inside = (z.flatten(1) - self.center) @ self.basis[:, : self.means.shape[1]]
        return log_joint(inside, self.weights, self.means, self.factors).softmax(1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of latents: [N, *shape] -> [N], in nats."""
        flat, rank = z.flatten(1) - self.center, self.means.shape[1]
        inside = flat @ self.basis
        head = log_joint(inside[:, :rank], self.weights, self.means, self.factors).logsumexp(1)
        other = (inside[:, rank:] / self.shared[:-1]).square().sum(1)
        outside = (flat - inside @ self.basis.T).square().sum(1) / self.shared[-1].square()
        n_beyond = self.dim - self.basis.shape[1]
        logs = self.shared[:-1].log().sum() + n_beyond * self.shared[-1].log()
        return head - 0.5 * (other + outside * bool(n_beyond) + (self.dim - rank) * math.log(2 * math.pi)) - logs

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that it consists of, but for the record."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def save(self, path: Path) -> None:
        """Writes the tensors and, as metadata, the record."""
        tensors = {name: value.contiguous() for name, value in self.tensors.items()}
        write(path, tensors, format=FORMAT, prior=self.name, record=json.dumps(asdict(self.record)))

    @classmethod
    def of(cls, tensors: dict[str, Tensor], about: dict[str, str]) -> "Mixture":
        """Rebuilds what `save` wrote from its tensors and metadata.

        Raises:
            ValueError, KeyError, TypeError: they do not fit together.
        """
        mixture = cls(**tensors, record=Record(**json.loads(about["record"])))
        mixture._check()
        return mixture

    def _check(self) -> None:
        """Raises ValueError where the tensors do not fit together."""
        (k, p), (d, r) = self.means.shape, self.basis.shape
        shapes = {"weights": (k,), "factors": (k, p, p), "center": (d,), "shared": (r - p + 1,)}
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has the shape {tuple(getattr(self, name).shape)}, not {shape}")
        for name, value in self.tensors.items():
            if not value.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinite values")


def fit_mixture(
    encodings: Tensor, components: int | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> Mixture:
    """Fits a mixture to encodings [N, *latent] by expectation-maximization, started by k-means.

    A tenth of the encodings is held out. Their likelihood decides the rank of the subspace and, unless it is given, the
    number of components. Covariances are maximum a posteriori: each is shrunk towards the average over components with
    the weight of P encodings (Fraley & Raftery 2007), so that small components do not overfit.

    Args:
        encodings: finite; not all the same.
        components: K, or None to choose it.
        seed: of the choices that are random.
        device: where most of the work is done.

    Raises:
        UsageError: more components than encodings, fewer than two encodings, or encodings that are not finite or do not
            vary.
    """
    x = encodings.detach().flatten(1).float().cpu()
    _refuse_unfit(x, components)
    n, dim = x.shape
    heldout, x = held_out(x, seed, max(2, components or 1))
    space = _Space.principal(x, seed)
    found: dict[tuple[int, int], Mixture] = {}

    def likelihood(k: int, rank: int) -> float:
        if (k, rank) not in found:
            mixture = space.mixture(x, k, rank, generator(seed, "mixture", k), device)
            score = mixture.log_prob(heldout).mean().item() if len(heldout) else math.nan
            found[k, rank] = replace(mixture, record=Record(n, score, {}))
        return found[k, rank].record.heldout

    trial = components or max(1, min(TRIAL, len(x) // POINTS))
    ranks = sorted({min(rank, dim) for rank in (*RANKS, dim)} if dim <= RANKS[-1] else RANKS)
    rank = max(ranks, key=lambda rank: likelihood(trial, rank))
    best = components or 1
    for k in () if components or not len(heldout) else (k for k in COMPONENTS[1:] if k * POINTS <= len(x)):
        if likelihood(k, rank) < likelihood(best, rank):
            break
        best = k
    likelihood(best, rank)
    tried = {f"{k} x {p}": round(mixture.record.heldout, 4) for (k, p), mixture in sorted(found.items())}
    chosen = found[best, rank]
    return replace(chosen, record=replace(chosen.record, tried=tried))


def held_out(x: Tensor, seed: int, least: int = 2) -> tuple[Tensor, Tensor]:
    """Splits encodings [N, D] into a tenth that is held out and the others, of which at least so many are left and not
    all are the same; else none is held out.
    """
    n = len(x)
    order = torch.randperm(n, generator=generator(seed, "mixture held out"))
    apart = max(0, min(max(1, round(HELDOUT * n)), n - least))
    if not (x[order[apart:]].var(0) > 0).any():  # all but a few encodings are the same
        apart = 0
    return x[order[:apart]], x[order[apart:]]


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

    def mixture(self, x: Tensor, k: int, rank: int, rng: torch.Generator, device: torch.device | str) -> Mixture:
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
            found = em(head, kmeans(head, k, rng), shrinkage=rank, floor=floor)
        weights, means, factors = (tensor.cpu() for tensor in found)
        return Mixture(weights, means, factors, self.center, self.basis, shared.sqrt(), Record(len(x), 0.0, {}))


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
