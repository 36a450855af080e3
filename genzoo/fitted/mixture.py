"""Gaussian mixtures over latents."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from genzoo.fitted.em import log_joint

FORMAT = "genzoo mixture 1"
ABOUT = "about"  # the only entry of the metadata


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
    classes: Tensor | None = None  # [K] int64, the class of each component; None where they are of no class

    @property
    def name(self) -> str:
        """As results and captions call it: `gmm:50`."""
        return f"gmm:{len(self.weights)}"

    @property
    def about(self) -> str:
        """What it is, for a model card."""
        of_class = "" if self.classes is None else ", each component to those of one class"
        return f"a Gaussian mixture fitted to {self.record.encodings:,} encodings of training data{of_class}"

    @property
    def dim(self) -> int:
        """D."""
        return len(self.center)

    def knows(self, classes: int) -> bool:
        """Whether each of so many classes has components of its own."""
        return self.classes is not None and set(self.classes.tolist()) == set(range(classes))

    def sample(
        self,
        n: int,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Draws n latents of `shape` on the CPU: [n, *shape].

        Args:
            n: how many.
            shape: of one latent, whose size is D.
            generator: lives on the CPU.
            temperature: scales each component's deviation from its mean; the components' shares stay.
            labels: class numbers, int64 [n], which the mixture `knows`; None = of any class.
        """
        which = torch.rand(n, generator=generator)
        return self.at(which, temperature * torch.randn(n, *shape, generator=generator), labels)

    def at(self, which: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps fixed draws to latents, so that two mixtures can be compared: U[0, 1) [n] and N(0, 1) [n, *shape] ->
        [n, *shape]; `labels` as of `sample`.
        """
        if labels is None:
            chosen = torch.searchsorted(self.weights.cumsum(0), which, right=True).clamp(max=len(self.weights) - 1)
        else:
            chosen = self._of_class(which, labels)
        flat = noise.flatten(1)
        inside = flat @ self.basis  # [n, R], N(0, I) as well
        beyond = self.shared[-1] * (flat - inside @ self.basis.T)
        return (self.center + self.inside(chosen, inside) @ self.basis.T + beyond).view(noise.shape)

    def _of_class(self, which: Tensor, labels: Tensor) -> Tensor:
        """Components of the classes `labels`, in proportion to their weights: U[0, 1) [n] -> int64 [n]."""
        chosen = torch.empty_like(labels)
        for label in labels.unique():
            (own,), items = torch.where(self.classes == label), labels == label
            ends = self.weights[own].cumsum(0)
            chosen[items] = own[torch.searchsorted(ends, which[items] * ends[-1], right=True).clamp(max=len(own) - 1)]
        return chosen

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
        shapes = {"weights": (k,), "factors": (k, p, p), "center": (d,), "shared": (r - p + 1,), "classes": (k,)}
        for name, shape in shapes.items():
            if name in self.tensors and tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has the shape {tuple(getattr(self, name).shape)}, not {shape}")
        for name, value in self.tensors.items():
            if not value.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinite values")
