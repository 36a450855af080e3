"""R1 and R2 on the encoder's KL: gamma / 2 E|d KL(x) / dx|^2 over real and over generated images.

They are the gradient penalties of Mescheder et al. (ICML 2018, arXiv 1801.04406) with the KL as the discriminator's
output (ours): a score that changes less between an image and its neighbors. As in StyleGAN2 (Karras et al., CVPR 2020,
arXiv 1912.04958, Section 2.2) they are added at one step in so many only, so many times as large.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.models._diffaug import REAL_SLOPE, SAMPLE_SLOPE
from genzoo.models._fields import PENALTY_EVERY
from genzoo.objective import Progress, Step, Update


def refuse_interval(r1: float, r2: float, every: int) -> None:
    """Refuses an interval between penalties that are off.

    Raises:
        UsageError: they are.
    """
    if every != PENALTY_EVERY and not r1 and not r2:
        raise UsageError(
            f"objective.penalty_every={every} is the interval of objective.r1 and objective.r2, which are 0: "
            "give one of them, e.g. objective.r1=1e-3, or leave it out."
        )


def slope_steps(
    kl: Callable[[Tensor, int], Tensor],
    x: Tensor,
    x_p: Tensor,
    r1: float,
    r2: float,
    every: int,
    at: Progress,
    scale: float = 1.0,
) -> Step:
    """Parts of the encoder's update at one step in `every`: R1 on real images and R2 on samples.

    Args:
        kl: (images, the number of the call, see `genzoo.models._diffaug`) -> KL, [N], of the encoder that is trained.
        x: real images, [N, ...].
        x_p: samples, [N, ...]; what made them gets no gradient.
        r1: gamma of R1; 0 = none.
        r2: gamma of R2.
        every: steps from one penalty to the next.
        at: where in the run the step stands.
        scale: of the KL in the encoder's loss.
    """
    for gamma, image, call, items in ((r1, x, REAL_SLOPE, "real"), (r2, x_p, SAMPLE_SLOPE, "sample")):
        if gamma and at.every(every):
            slope = squared_slopes(lambda x, call=call: kl(x, call), image).mean()
            loss = scale * every * gamma / 2 * slope
            yield Update(("encoder",), loss, {f"slope/{items}": slope.detach()}, waits=True)


def squared_slopes(kl: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """|d KL(x) / dx|^2 of each item, [N, ...] -> [N], to be differentiated by the encoder's weights.

    Raises:
        UsageError: the encoder has an operation without a second derivative.
    """
    x = x.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(kl(x).sum(), x, create_graph=True)
    _refuse_single_derivatives(slopes)
    return slopes.square().flatten(1).sum(dim=1)


def _refuse_single_derivatives(slopes: Tensor) -> None:
    """Looks through the graph of first derivatives, as the error of the second backward names no option."""
    nodes, known = [slopes.grad_fn], set()
    while nodes:
        if (node := nodes.pop()) is None or node in known:
            continue
        known.add(node)
        if node.name().rpartition("::")[2] in ("NotImplemented", "Error", "DelayedError"):
            raise UsageError(
                "objective.r1 and objective.r2 need second derivatives, and an operation of this encoder has none: "
                "set arch.encoder=conv, or leave them at 0."
            )
        nodes += [before for before, _ in node.next_functions]
