"""The contract between a model and its trainer: a training step is a generator that reads like the paper's algorithm.

A step computes losses and yields one `Update` per optimizer step, in the paper's order; it is resumed after the update
has been applied. Local variables carry what two phases share. `phases` drives a step; a trainer, a dry run, a test or a
notebook only moves the networks:

    for phase in phases(objective, nets, [[objective.draw(items, noise)]], at):
        for key in phase.keys:
            optimizers[key].step()
            optimizers[key].zero_grad()

Names of logged scalars are a vocabulary that objectives, curves and the monitor share (docs/architecture.md has the
table). An objective that uses it is diagnosed like the built-in ones; other names are drawn in the curves and ignored
by the monitor.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genzoo.duration import Duration, in_images
from genzoo.errors import UsageError, did_you_mean
from genzoo.items import Items
from genzoo.noise import Noise
from genzoo.priors import Prior

if TYPE_CHECKING:
    from genzoo.controller import Controller
    from genzoo.signs import Rule


@dataclass(frozen=True)
class Update:
    """One optimizer step, or, where it `waits`, a part of one.

    Attributes:
        trains: networks to update, by name.
        loss: scalar, a mean over the micro-batch.
        logs: detached scalars by `panel/curve`, e.g. `kl/real`.
        keep_graph: a later phase walks this graph again.
        waits: the next update trains the same networks, and its gradients are added before an optimizer steps.
        by: a second optimizer of the networks, declared in `Objective.optimizers`; empty = their own.
        when: 0-d bool, made of a `Mean` so that it is equal everywhere; False drops the gradients and the optimizers do
            not step. Unlike an `if` in the step it keeps the number of phases constant. Logged as `moves/<optimizer>`.
    """

    trains: tuple[str, ...]
    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)
    keep_graph: bool = False
    waits: bool = False
    by: str = ""
    when: Tensor | None = None


@dataclass(frozen=True)
class Mean:
    """A request: the step receives the detached mean of `value` over all micro-batches and processes.

    For losses that are not linear in a batch mean, such as a hinge on it; `of_mean` makes their gradients exact.
    """

    value: Tensor  # of any shape, the micro-batch's own mean


@dataclass(frozen=True)
class Fresh:
    """A request: the step receives what `Objective.draw` made of a new real batch. `Objective.fresh` declares how many
    a step asks for.
    """


Step = Generator[Update | Mean | Fresh, Any, Any]


@dataclass(frozen=True)
class Progress:
    """Where in the run a step stands."""

    step: int
    batch: int  # items per real batch, over all processes and micro-batches
    total_nimg: int
    epoch_nimg: int | None = None  # items per epoch; None for endless data
    parts: int = 1  # real batches per step: 1 + Objective.fresh

    @property
    def nimg(self) -> int:
        """Items seen before this step."""
        return self.step * self.batch * self.parts

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return -(-self.total_nimg // (self.batch * self.parts))

    @property
    def share(self) -> float:
        """Share of the run that has passed before this step, in [0, 1); a 0-d tensor in a compiled step."""
        return self.nimg / self.total_nimg

    def before(self, duration: Duration) -> bool:
        """Whether this step starts before so much of the run has passed."""
        per_step = self.batch * self.parts
        return self.nimg < in_images(duration, batch=per_step, epoch=self.epoch_nimg, total=self.total_nimg)

    def every(self, n: int) -> bool:
        """Whether this is the last of each n steps, e.g. the one in which WGAN-GP updates its generator."""
        return (self.step + 1) % n == 0


@dataclass(frozen=True)
class Spaces:
    """What an objective needs to know of its data and its model."""

    shape: tuple[int, ...]  # of one item: (C, H, W) or (D,)
    latent: tuple[int, ...]  # of one latent: (Z,), or a grid (C, h, w)
    prior: Prior = field(default_factory=Prior)
    classes: tuple[str, ...] = ()  # names of the labels' classes; empty without labels

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def z_dim(self) -> int:
        """Latent dimensions in total."""
        return prod(self.latent)


class Objective(ABC):
    """What a model must define to be trained. No accelerate, no device, no optimizer, no printing.

    A subclass that also derives from `nn.Module` may hold frozen networks and buffers (a feature network, a lagging
    copy): the trainer moves it to the device and saves its state, and never trains it.

    Args:
        config: the model's own configuration.
        spaces: shapes, prior and classes.
    """

    # Further optimizers by network, e.g. {"encoder": ("adversary",)}; see `Update.by`.
    optimizers: Mapping[str, tuple[str, ...]] = {}
    fresh: int = 0  # real batches that a step asks for with `Fresh`, besides its first
    period: int = 1  # steps after which late ones repeat; the last of them does more. For timing

    def __init__(self, config: Any, spaces: Spaces):
        super().__init__()  # of an nn.Module, if it is one
        self.config, self.spaces = config, spaces

    @property
    def guides(self) -> Mapping[str, float]:
        """Horizontal lines to draw in a panel of the curves, as they stand now, e.g. {"kl": margin}."""
        return {}

    @property
    def controllers(self) -> Mapping[str, "Controller"]:
        """Settings that change during the run, by name; see `genzoo.controller`."""
        return {}

    @property
    def signs(self) -> Sequence["Rule"]:
        """The monitor's rules that only this model needs; see `genzoo.signs`."""
        return ()

    @property
    def options(self) -> Mapping[str, str]:
        """This model's options for words of the general rules' fixes, e.g. {"reconstruction": "objective.beta"}."""
        return {}

    @abstractmethod
    def draw(self, items: Items, noise: Noise) -> Any:
        """Makes the batch of one step: a NamedTuple of tensors with the data in [0, 1] (or points) and all the
        randomness of the step.
        """

    @abstractmethod
    def step(self, nets: Any, batch: Any, at: Progress) -> Step:
        """Yields the updates of one iteration, in the paper's order; `nets.<name>` are the networks by name."""


@dataclass(frozen=True)
class Phase:
    """One optimizer step to take; its gradients are in `.grad`."""

    trains: tuple[str, ...]
    by: str
    when: Tensor | None
    logs: Mapping[str, Tensor]  # means over micro-batches

    @property
    def keys(self) -> tuple[str, ...]:
        """The optimizers that step: `network`, or `network-by`."""
        return tuple(f"{name}-{self.by}" if self.by else name for name in self.trains)


def _backward(loss: Tensor, inputs: Sequence[nn.Parameter], keep_graph: bool) -> None:
    loss.backward(inputs=list(inputs), retain_graph=keep_graph)


def phases(
    objective: Objective,
    nets: nn.Module,
    batches: Sequence[Sequence[Any]],
    at: Progress,
    *,
    mean: Callable[[Tensor], Tensor] = lambda value: value,
    backward: Callable[[Tensor, Sequence[nn.Parameter], bool], None] = _backward,
) -> Iterator[Phase]:
    """Drives one step: computes the gradients of one phase at a time, and is resumed after its networks have moved.

    Micro-batches advance side by side, each computed only when its turn comes, so that a graph that is not kept is gone
    before the next one grows.

    Args:
        objective: whose step it is.
        nets: holds the networks as child modules.
        batches: per micro-batch, what `draw` made of each of the step's 1 + `objective.fresh` real batches.
        at: where in the run the step stands.
        mean: average of a tensor over processes, for `Mean` requests.
        backward: (loss, parameters, keep_graph) -> adds to the parameters' `.grad`.

    Raises:
        UsageError: the objective updates a network that does not exist or has nothing to train, yields inside `frozen`,
            or asks for more real batches than it declares.
    """
    driver = _Driver(dict(nets.named_children()), objective.optimizers, type(nets).__name__, mean, backward)
    steps = [_MicroStep(objective.step(nets, first, at), fresh) for first, *fresh in batches]
    try:
        yield from driver.run(steps)
    finally:
        for step in steps:
            step.close()  # leaves `frozen` blocks when an error stopped it inside


class _Driver:
    """Runs the micro-batches of one step side by side."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Sequence[str]],
        model: str,
        mean: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor, Sequence[nn.Parameter], bool], None],
    ):
        self._networks, self._optimizers, self._model = networks, optimizers, model
        self._mean, self._backward = mean, backward
        self._number, self._logs = 1, dict[str, Tensor]()  # of the present phase
        self._waiting: tuple[tuple[str, ...], str] | None = None  # trains and by of an update that waits

    def run(self, steps: Sequence["_MicroStep"]) -> Iterator[Phase]:
        replies: list[Tensor | None] = [None] * len(steps)
        while (request := steps[0].advance(replies[0])) is not None:
            values, phase, waits = list[Tensor](), None, False
            for step, reply in zip(steps, replies, strict=True):
                if step is not steps[0]:
                    request = step.advance(reply)
                if isinstance(request, Mean):
                    values.append(request.value.detach())
                else:
                    assert request is not None, "micro-batches of one step disagree on its number of phases"
                    phase, waits = self._add(request, len(steps)), request.waits
                request = None  # and with it the loss, and the graph that it holds
                self._check_not_frozen()
            assert not (values and phase), "micro-batches of one step disagree on their requests"
            replies = [self._mean(torch.stack(values).mean(dim=0))] * len(steps) if values else [None] * len(steps)
            if phase is not None:
                self._waiting = (phase.trains, phase.by) if waits else None
                if not waits:
                    yield phase
                    self._number, self._logs = self._number + 1, {}
        if self._waiting is not None:
            raise UsageError(f"{self._who} waits for another update, and the step ends: leave `waits` out.")
        ended = [step.advance(None) is None for step in steps[1:]]
        assert all(ended), "micro-batches of one step disagree on its number of phases"

    @property
    def _who(self) -> str:
        return f"{self._model}: phase {self._number} of its step"

    def _add(self, update: Update, n: int) -> Phase:
        """Adds the gradients and logs of one of n micro-batches to the phase; returns the phase as it stands."""
        self._check(update)
        self._backward(update.loss / n, self._parameters(update.trains), update.keep_graph)
        for name, value in update.logs.items():
            self._logs[name] = self._logs[name] + value / n if name in self._logs else value / n
        return Phase(update.trains, update.by, update.when, self._logs)

    def _check(self, update: Update) -> None:
        """Refuses what would train something else, or leave gradients behind."""
        if update.waits and update.when is not None:
            raise UsageError(f"{self._who} waits and has a gate: put `when` on the update that it waits for.")
        if self._waiting not in (None, (update.trains, update.by)):
            trains = " + ".join(self._waiting[0] if self._waiting else ())
            raise UsageError(f"{self._who} waits for another update of {trains}, and one of {update.trains} follows.")
        for name in update.trains if update.by else ():
            if update.by not in (declared := self._optimizers.get(name, ())):
                raise UsageError(
                    f"{self._who} asks for an optimizer {update.by!r} of {name!r}, which `Objective.optimizers` does "
                    f"not declare.{did_you_mean(update.by, declared)}"
                )

    def _parameters(self, trains: Sequence[str]) -> list[nn.Parameter]:
        """Returns the parameters that an update trains."""
        parameters = []
        for name in trains:
            if name not in self._networks:
                hint = did_you_mean(name, self._networks)
                raise UsageError(f"{self._who} trains {name!r}, and the model has no such network.{hint}")
            found = [p for p in self._networks[name].parameters() if p.requires_grad]
            if not found:
                raise UsageError(
                    f"{self._who} trains {name!r}, which has no trainable parameter: do not freeze it, or leave it out."
                )
            parameters += found
        return parameters

    def _check_not_frozen(self) -> None:
        """Refuses a step that stopped inside `frozen`: micro-batches would restore each other's flags."""
        if _frozen:
            inside = [name for name, net in self._networks.items() if any(net is other for other in _frozen)]
            names = ", ".join(inside or ["a network"])
            raise UsageError(f"{self._who} yields inside frozen({names}): compute inside the block and yield after it.")


class _MicroStep:
    """The step of one micro-batch, with its further real batches."""

    def __init__(self, step: Step, fresh: Sequence[Any]):
        self._step, self._fresh, self._declared = step, list(fresh), len(fresh)

    def advance(self, reply: Tensor | None) -> Update | Mean | None:
        """Resumes the step up to its next update or mean; None at its end."""
        try:
            request = self._step.send(reply)
            while isinstance(request, Fresh):
                request = self._step.send(self._next_batch())
            return request
        except StopIteration:
            return None

    def _next_batch(self) -> Any:
        if not self._fresh:
            raise UsageError(
                f"This step asks for more than {self._declared} fresh batches: set `fresh` of its Objective."
            )
        return self._fresh.pop(0)

    def close(self) -> None:
        self._step.close()


_frozen: list[nn.Module] = []  # networks that are inside `frozen` now


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Runs a network without recording gradients of its weights; gradients still reach its input.

    Never yield inside the block: with micro-batches, the steps would restore each other's flags. `phases` refuses that.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    _frozen.append(net)
    try:
        yield
    finally:
        _frozen.remove(net)
        for p in trained:
            p.requires_grad_(True)


def detached(logs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detaches scalars from their graphs, for `Update.logs`."""
    return {name: value.detach() for name, value in logs.items()}


def of_mean(f: Callable[[Tensor], Tensor], h: Tensor) -> Step:
    """f(mean of h over the global batch), with its exact value and gradient under micro-batches and processes; use with
    `yield from`.

    Args:
        f: differentiable, of a tensor of h's shape to a scalar.
        h: the micro-batch's own mean of any quantity.

    Returns:
        A scalar to add to a loss: its value is f(mean), and its gradient is this micro-batch's share of the gradient of
            f(mean).
    """
    mean = (yield Mean(h)).detach().requires_grad_()
    with torch.enable_grad():
        value = f(mean)
        (slope,) = torch.autograd.grad(value, mean)
    return value.detach() + (slope * (h - h.detach())).sum()
