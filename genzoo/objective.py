"""The only thing a model and the trainer share: an objective's step is a generator that reads like the paper's algorithm.

A step computes, yields one `Update` per optimiser step in the paper's order, and is resumed after the trainer has applied it. A loss may
come in parts, so that the graph of one is gone before the next one grows. Local variables carry what two phases share. Whoever drives it
(the trainer, a test) knows no loss and no network role:

    for phase in lockstep(steps, mean):       # one step per micro-batch, side by side
        for update in phase:
            (update.loss / len(steps)).backward(inputs=parameters(update.trains), retain_graph=update.keep_graph)
        if not update.waits:
            ...                               # average over processes, clip, let the optimisers of `trains` step

The names of logged scalars are a vocabulary that objectives, curves and the monitor share; an objective that uses it is diagnosed like the
built-in ones (`genzoo.training.signs`), and one that does not is left in peace:

    kl/real, kl/reconstruction, kl/sample   KL to the prior that the encoder gives to data, to their reconstructions, to samples; nats per item
    expelbo/sample                          exp(2 ELBO) of samples in the encoder's loss, in (0, 1]
    hinge/active                            share of generated images that a hinge on their KL still pushes, in [0, 1]
    error/sse                               squared error of reconstructions, summed over an item
    loss/*                                  what each phase minimises; other names mean that another phase of the run has begun

The guide `kl` is the KL that the encoder pushes generated items to, IntroVAE's margin.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from genzoo.duration import Duration, in_images
from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.noise import Noise


@dataclass(frozen=True)
class Update:
    """One optimiser step: the networks that it moves, and the scalar loss that moves them; or, where it `waits`, a part of that loss."""

    trains: tuple[str, ...]
    loss: Tensor  # scalar, a mean over the micro-batch
    logs: Mapping[str, Tensor] = field(default_factory=dict)  # detached scalars; `panel/curve`, e.g. `kl/real`
    keep_graph: bool = False  # a later phase walks this graph again
    waits: bool = False  # no optimiser steps yet: the next update trains the same networks, and its gradients are added


@dataclass(frozen=True)
class Mean:
    """A request: the generator is sent the detached mean of `value` over all micro-batches and processes.

    For losses that are not linear in a batch mean, such as a hinge on it.
    """

    value: Tensor  # scalar, the micro-batch's own mean


Step = Generator[Update | Mean, Tensor | None, None]


@dataclass(frozen=True)
class Progress:
    """Where in the run a step stands."""

    step: int
    batch: int  # images per step, over all processes and micro-batches
    total_nimg: int
    epoch_nimg: int | None = None  # images per epoch; None for endless data

    @property
    def nimg(self) -> int:
        """Images seen before this step."""
        return self.step * self.batch

    def before(self, duration: Duration) -> bool:
        """Whether this step begins before so much of the run has passed."""
        return self.nimg < in_images(duration, batch=self.batch, epoch=self.epoch_nimg, total=self.total_nimg)


class Objective(Protocol):
    """What a model must define to be trained. No accelerate, no device, no optimiser, no printing."""

    guides: Mapping[str, float]  # horizontal lines to draw in a panel of the curves, e.g. {"kl": margin}; as they stand now
    # An objective may also have `controllers: Mapping[str, Controller]`, settings by name that move during the run: genzoo/controller.py.

    def draw(self, real: Tensor, noise: Noise) -> Any:
        """Makes the batch of one step: images in [0, 1] or points, and all the randomness that the step needs."""
        ...

    def step(self, nets: nn.Module, batch: Any, at: Progress) -> Step:
        """Yields the updates of one iteration, in the paper's order; `nets.<name>` are the networks by name."""
        ...


def lockstep(steps: Sequence[Step], mean: Callable[[Tensor], Tensor] = lambda value: value) -> Iterator[Iterator[Update]]:
    """Advances the steps of all micro-batches side by side; yields one iterator per phase, of one update per micro-batch.

    A micro-batch is computed only when its update is asked for, so a graph that is not kept is gone before the next one grows.

    Args:
        steps: one generator per micro-batch, all of the same objective.
        mean: average of a scalar over processes, for `Mean` requests.
    """
    replies: Sequence[Tensor | None] = [None] * len(steps)
    while (first := _advance(steps[0], replies[0])) is not None:
        phase = chain([first], map(_expect, steps[1:], replies[1:]))
        if isinstance(first, Mean):
            values = torch.stack([request.value.detach() for request in phase])
            replies = [mean(values.mean())] * len(steps)
        else:
            yield phase
            replies = [None] * len(steps)
        del first, phase  # with the loss that they hold, its graph
    assert all(_advance(step, None) is None for step in steps[1:]), "micro-batches of one step disagree on its number of phases"


def _advance(step: Step, reply: Tensor | None) -> Update | Mean | None:
    try:
        return step.send(reply)
    except StopIteration:
        return None


def _expect(step: Step, reply: Tensor | None) -> Update | Mean:
    update = _advance(step, reply)
    assert update is not None, "micro-batches of one step disagree on its number of phases"
    return update


def detached(logs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cuts scalars off their graphs, for `Update.logs`."""
    return {name: value.detach() for name, value in logs.items()}


def elbo_step(nets: nn.Module, x: Tensor, eps: Tensor, *, beta_rec: float, beta_kl: float) -> Step:
    """The plain VAE: one update of encoder and decoder on beta_rec * SSE + beta_kl * KL. The baseline, and everybody's warm-up."""
    mu, logvar = nets.encoder(x)
    error = sse(x, nets.decoder(reparameterize(mu, logvar, eps))).mean()
    kl_real = kl_to_prior(mu, logvar)
    loss = beta_rec * error + beta_kl * kl_real.mean()
    yield Update(("encoder", "decoder"), loss, detached({"loss/elbo": loss, **spread("real", kl_real), "error/sse": error}))


def spread(images: str, kl: Tensor) -> dict[str, Tensor]:
    """Mean and standard deviation over a micro-batch of the KL per image, [N], as logs `kl/<images>` and `spread/<images>`."""
    return {f"kl/{images}": kl.mean(), f"spread/{images}": kl.detach().std(correction=0)}


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Runs a network without recording weight gradients; gradients still pass through to its input."""
    flags = [p.requires_grad for p in net.parameters()]
    net.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in zip(net.parameters(), flags, strict=True):
            p.requires_grad_(flag)
