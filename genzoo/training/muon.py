"""Muon: the momentum of each matrix is orthogonalized before it is added to the weights.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale of the updates is that of Liu
et al., "Muon is Scalable for LLM Training" (https://arxiv.org/abs/2502.16982). Updates are those of timm's `muon`,
which a test compares, but timm orthogonalizes in bf16 always: on a CPU without bf16 instructions that takes several
times as long as the rest of the step (benchmarks/speed). Here the iteration works in fp32 on Gram matrices, which are
smaller than the weights, and on all Gram matrices of one size at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from genzoo.training.capture import Captured, Record

# Of the five iterations of timm's `muon`. Singular values above a hundredth of the matrix's norm end between .38 and
# 1.25 after three of them, and between .97 and 1.04 after all.
COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
RMS = 0.2  # of the entries of an update over the rate, about that of AdamW's updates
MIN_SIDE, MAX_ASPECT = 4, 128  # of a matrix; what is smaller or narrower is updated as a vector


class Muon(torch.optim.Optimizer):
    """Muon for weights of two and more dimensions, AdamW for all others.

    A convolution's weight [O, I, H, W] is a matrix [O, I * H * W]. Its update M is replaced by about U V^T of its
    singular value decomposition, times `RMS * sqrt(max(rows, columns))`.

    Args:
        params: of one network.
        lr: of the matrices.
        momentum: share of the old momentum that a step keeps.
        weight_decay: decoupled, as AdamW's.
        betas: of AdamW.
        vector_lr: AdamW's rate over `lr`.
        iterations: of Newton-Schulz, 1 to 5.
        eps: added to AdamW's denominator, and the smallest norm of a momentum.
        record: makes CUDA graphs of the orthogonalization; None = none.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        vector_lr: float = 1.0,
        iterations: int = 5,
        eps: float = 1e-7,
        record: Record | None = None,
    ):
        # `fused` as in torch's optimizers: a loaded state's `step` then goes to the device of its weight
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "betas": betas, "fused": True}
        super().__init__(params, defaults)
        self._vector_lr, self._coefficients, self._eps = vector_lr, COEFFICIENTS[:iterations], eps
        self._record, self._captured = record, dict[tuple[int, ...], Captured]()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Updates all weights that have a gradient; a closure is called first, and its loss returned."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            given = [p for p in group["params"] if p.grad is not None]
            self._step_matrices([p for p in given if is_matrix(p)], group)
            self._step_vectors([p for p in given if not is_matrix(p)], group)
        return loss

    def _step_matrices(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        momenta = [self._moment(p, "momentum_buffer") for p in params]
        _each("lerp_", momenta, [_grad(p) for p in params], 1 - group["momentum"])
        updates = self._orthogonalized(momenta)
        _each("mul_", updates, [-group["lr"] * RMS * max(update.shape) ** 0.5 for update in updates])
        if group["weight_decay"]:
            _each("mul_", params, 1 - group["lr"] * group["weight_decay"])
        _each("add_", params, [update.reshape(p.shape) for p, update in zip(params, updates, strict=True)])

    def _orthogonalized(self, momenta: Sequence[Tensor]) -> Sequence[Tensor]:
        """A matrix for each momentum, from a CUDA graph where there is one for these."""

        def function(*momenta: Tensor) -> list[Tensor]:
            return orthogonalized([m.flatten(1) for m in momenta], self._coefficients, self._eps)

        if self._record is None:
            return function(*momenta)
        key = tuple(map(id, momenta))
        if key not in self._captured:
            self._captured[key] = Captured(function, 1, self._record)
        return self._captured[key](*momenta)

    def _step_vectors(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        for p in params:
            if "step" not in self.state[p]:
                self.state[p]["step"] = torch.zeros((), device=p.device)
        adamw(
            params,
            [_grad(p) for p in params],
            [self._moment(p, "exp_avg") for p in params],
            [self._moment(p, "exp_avg_sq") for p in params],
            [],
            [self.state[p]["step"] for p in params],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] * self._vector_lr,
            weight_decay=group["weight_decay"],
            eps=self._eps,
            maximize=False,
        )

    def _moment(self, p: Tensor, name: str) -> Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]


def is_matrix(p: Tensor) -> bool:
    """Whether a weight is updated as a matrix: not a vector, not depthwise, not much longer than wide."""
    if p.ndim < 2 or p.shape[0] == 1 or p.shape[1] == 1:
        return False
    short, long = sorted((p.shape[0], p[0].numel()))
    return short >= MIN_SIDE and long <= MAX_ASPECT * short


def orthogonalized(
    matrices: Sequence[Tensor], coefficients: Sequence[tuple[float, float, float]] = COEFFICIENTS, eps: float = 1e-7
) -> list[Tensor]:
    """Moves all singular values of matrices towards 1, by Newton-Schulz iterations.

    An iteration X <- a X + b (X X^T) X + c (X X^T)^2 X multiplies X by a polynomial of its Gram matrix A = X X^T, so
    that A alone is iterated, A <- P A P with P = a I + b A + c A^2, and X is multiplied by all P at the end.

    Args:
        matrices: [rows, columns] each, of any sizes; fp32 or fp64.
        coefficients: a, b, c of each iteration.
        eps: the smallest norm that is divided by, so that a matrix of zeros stays one.

    Returns:
        matrices of the same shapes, about U V^T where X = U S V^T.
    """
    wide = [(x if x.shape[0] <= x.shape[1] else x.mT) for x in matrices]
    norms = torch.stack([x.norm() for x in wide]).clamp(min=eps).unbind()
    wide = [x / norm for x, norm in zip(wide, norms, strict=True)]
    sizes: dict[int, list[int]] = defaultdict(list)
    for i, x in enumerate(wide):
        sizes[x.shape[0]].append(i)
    found = list(wide)
    for places in sizes.values():
        factors = _factors(torch.stack([wide[i] @ wide[i].mT for i in places]), coefficients)
        for i, factor in zip(places, factors, strict=True):
            x = factor @ wide[i]
            found[i] = x if x.shape == matrices[i].shape else x.mT
    return found


def _factors(gram: Tensor, coefficients: Sequence[tuple[float, float, float]]) -> Tensor:
    """The products of all P [k, n, n], for Gram matrices of the same shape."""
    product = None
    for i, (a, b, c) in enumerate(coefficients):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        product = p if product is None else p @ product
        if i + 1 < len(coefficients):
            gram = p @ gram @ p
    assert product is not None
    return product


def _each(name: str, *args: Any) -> None:
    """Runs an operation on lists of tensors, in a few kernels on a GPU."""
    getattr(torch, f"_foreach_{name}")(*args)


def _grad(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad
