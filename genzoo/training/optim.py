"""One optimiser per network, the learning rate as a pure function of the run's progress, and the average of the weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.errors import UsageError, suggest
from genzoo.objective import Progress
from genzoo.spec import TrainConfig


def make_optimizer(network: str, net: nn.Module, c: TrainConfig) -> torch.optim.Optimizer:
    """Makes the optimiser of one network: torch's Adam (both papers'), or any of timm's by name.

    Raises:
        UsageError: an unknown optimiser (with suggestions), or train.betas for one that has none.
    """
    lr = c.lr_of.get(network, c.lr)
    params = list(net.parameters())
    if c.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(params, lr=lr, betas=c.betas, weight_decay=c.weight_decay, fused=True)
    else:
        from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers

        if c.optimizer not in list_optimizers():
            raise UsageError(
                f"Unknown optimiser {c.optimizer!r}.{suggest(c.optimizer, list_optimizers())} See timm.optim.list_optimizers()."
            )
        betas = {"betas": c.betas} if c.betas != TrainConfig().betas else {}  # else the optimiser's own
        if betas and not ((info := get_optimizer_info(c.optimizer)).has_betas and info.num_betas == 2):
            raise UsageError(f"{c.optimizer} does not take two moment decays: leave train.betas out, or choose train.optimizer=adamw.")
        optimizer = create_optimizer_v2(params, opt=c.optimizer, lr=lr, weight_decay=c.weight_decay, **betas)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads a saved state, each moment laid out in memory as its weights are: the fused step walks through both side by side."""
    optimizer.load_state_dict(state)
    for param, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                values[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)


def learning_rate(base: float, c: TrainConfig, at: Progress) -> float:
    """Returns the rate of a step: `base`, times lr_factor for every drop that lies behind."""
    return base * c.lr_factor ** sum(not at.before(drop) for drop in c.lr_drops)


def ema_with_warmup(decay: float, done: Callable[[], int]) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An average over the last 1 / (1 - decay) steps, shorter in the beginning: decay is at most (1 + n) / (10 + n).

    Args:
        done: n, the steps averaged so far; asked of the host, as the number that torch hands over lies on the device and would be waited for.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + done()) / (10 + done())))
        else:
            torch._foreach_copy_(averaged, current)  # BatchNorm's counters

    return update
