"""One optimizer per network, learning rates as pure functions of the run's progress, and the average of the weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from genzoo.duration import in_images
from genzoo.errors import UsageError, did_you_mean
from genzoo.objective import Progress
from genzoo.spec import TrainConfig
from genzoo.training.capture import recorder
from genzoo.training.muon import Muon

MUON_MOMENTUM = 0.9  # that of timm's factory, with which the recipe was measured; Jordan et al. have 0.95
MUON_ADAMW = 0.2  # rate of biases and norms over muon's: at the full rate, runs began with explosions
NEWTON_SCHULZ = 3  # iterations of muon, 5 in timm: they take much of a small step, and the last ones change little
PLAIN = ("sgd", "rmsprop")  # have momentum 0.9 (and sgd Nesterov's) in timm, none in the papers


def make_optimizers(
    nets: Mapping[str, nn.Module], further: Mapping[str, Sequence[str]], c: TrainConfig
) -> dict[str, torch.optim.Optimizer]:
    """Makes the optimizers of all networks, by the keys of `genzoo.objective.Phase.keys`.

    Args:
        nets: networks by name.
        further: additional optimizers of a network, see `Objective.optimizers`.
        c: kind, rates and moments.

    Raises:
        UsageError: an unknown optimizer, a setting that it does not take, or a rate for an optimizer that does not
            exist.
    """
    for name in further:
        if name not in nets:
            raise UsageError(
                f"Objective.optimizers names {name!r}, and the model has no such network.{did_you_mean(name, nets)}"
            )
    keys = {name: name for name in nets} | {f"{name}-{by}": name for name in further for by in further[name]}
    for key in c.lr_of:
        if key not in keys:
            raise UsageError(f"train.lr_of.{key}: the model has no network of that name.{did_you_mean(key, keys)}")
    if c.lr_schedule == "exponential" and not c.lr_end:
        raise UsageError("train.lr_schedule=exponential never reaches 0: set train.lr_end above it, e.g. 0.01.")
    return {
        key: make_optimizer(list(nets[name].parameters()), c.lr_of.get(key, c.lr_of.get(name, c.lr)), c)
        for key, name in keys.items()
    }


def make_optimizer(params: Sequence[nn.Parameter], lr: float, c: TrainConfig) -> torch.optim.Optimizer:
    """Makes one optimizer: torch's Adam (both papers'), `Muon`, or any of timm's by name.

    Raises:
        UsageError: an unknown optimizer (with suggestions), or train.betas or train.momentum for one without them.
    """
    if c.optimizer == "adam":
        if c.momentum is not None:
            raise UsageError("adam takes no momentum: leave train.momentum out, and set train.betas.")
        optimizer: torch.optim.Optimizer = torch.optim.Adam(
            params, lr=lr, betas=c.betas, weight_decay=c.weight_decay, fused=True
        )
    else:
        optimizer = _timm_optimizer(params, lr, c)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    optimizer.register_load_state_dict_post_hook(_match_layout)
    return optimizer


def _timm_optimizer(params: Sequence[nn.Parameter], lr: float, c: TrainConfig) -> torch.optim.Optimizer:
    from timm.optim import (  # timm declares no __all__
        create_optimizer_v2,  # pyright: ignore[reportPrivateImportUsage]
        get_optimizer_info,  # pyright: ignore[reportPrivateImportUsage]
        list_optimizers,  # pyright: ignore[reportPrivateImportUsage]
    )

    names = [str(name) for name in list_optimizers()]
    if c.optimizer not in names:
        raise UsageError(
            f"Unknown optimizer {c.optimizer!r}.{did_you_mean(c.optimizer, names)} See timm.optim.list_optimizers()."
        )
    info, options = get_optimizer_info(c.optimizer), dict[str, Any]()
    if c.betas != TrainConfig().betas:  # else the optimizer's own
        if not (info.has_betas and info.num_betas == 2):
            raise UsageError(
                f"{c.optimizer} does not take two moment decays: leave train.betas out, or set train.optimizer=adamw."
            )
        options["betas"] = c.betas
    if c.momentum is not None and not info.has_momentum:
        raise UsageError(f"{c.optimizer} takes no momentum: leave train.momentum out, or choose train.optimizer=sgd.")
    if c.momentum is not None or c.optimizer in PLAIN:
        options["momentum"] = c.momentum or 0.0
    if c.optimizer == "sgd":
        options["nesterov"] = False  # timm's name for it is `nesterov`
    if c.optimizer == "muon":
        options = {"momentum": MUON_MOMENTUM, "vector_lr": MUON_ADAMW, "iterations": NEWTON_SCHULZ} | options
        record = recorder(params[0].device) if c.compile == "cudagraphs" else None
        return Muon(params, lr, weight_decay=c.weight_decay, record=record, **options)
    if "muon" in c.optimizer:
        options |= {"fallback_lr_scale": MUON_ADAMW, "ns_steps": NEWTON_SCHULZ}
    return create_optimizer_v2(list(params), opt=c.optimizer, lr=lr, weight_decay=c.weight_decay, **options)


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lays each loaded moment out in memory as its weights are: a fused step walks through both side by side."""
    for param, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                values[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)


def learning_rate(base: float, c: TrainConfig, at: Progress) -> float:
    """Returns the rate of a step: `base`, times the factor of `train.lr_schedule` after so many images."""
    if c.lr_schedule == "steps":
        return base * c.lr_factor ** sum(not at.before(drop) for drop in c.lr_drops)
    if c.lr_schedule == "constant":
        return base
    first = in_images(c.lr_from, batch=at.batch * at.parts, epoch=at.epoch_nimg, total=at.total_nimg)
    done = min(1.0, max(0.0, (at.nimg - first) / max(1, at.total_nimg - first)))
    return base * decay(c.lr_schedule, done, c.lr_end)


def decay(schedule: str, done: float, end: float) -> float:
    """Returns the factor of a rate that falls from 1 to `end` while `done` goes from 0 to 1.

    Args:
        schedule: `cosine` (half a period), `linear`, or `exponential` (a constant ratio per image; `end` > 0).
        done: in [0, 1].
        end: in [0, 1].
    """
    if schedule == "exponential":
        return end**done
    return end + (1 - end) * (0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done)


class WeightAverage(AveragedModel):
    """A copy of a model whose weights and buffers are the average over the last 1 / (1 - decay) steps.

    Over fewer steps at the start: the decay is at most (1 + n) / (10 + n) after n steps, so that an average with a
    decay close to 1 looks back over the last ninth of the steps so far, and grows with the run.

    Args:
        model: what is averaged; its tensors must stay the same objects.
        decay: per step, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self._decay = decay
        # Listed once, as (averages, values): walking a model in every step would take a tenth of a small one.
        self._floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._counters: tuple[list[Tensor], list[Tensor]] = ([], [])  # BatchNorm's
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            pairs = self._floats if value.is_floating_point() else self._counters
            pairs[0].append(average)
            pairs[1].append(value)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes the model's weights as they are now into the average; the first ones are copied."""
        n = int(self.n_averaged)  # on the host: no step waits for it
        if n:
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]  (as in torch's swa_utils)
                *self._floats, 1 - min(self._decay, (1 + n) / (10 + n))
            )
        for averages, values in (self._counters,) if n else (self._floats, self._counters):
            if averages:
                torch._foreach_copy_(averages, values)  # pyright: ignore[reportPrivateImportUsage]
        self.n_averaged += 1


def _tensors(model: nn.Module) -> list[Tensor]:
    """Not detached: a parameter may be given other memory later, as Accelerate does in several processes."""
    return [*model.parameters(), *model.buffers()]


def averaged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a `WeightAverage` that has averaged nothing yet."""
    return {"n_averaged": torch.zeros((), dtype=torch.long)} | {f"module.{name}": w for name, w in weights.items()}
