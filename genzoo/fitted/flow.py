"""Flows over latents: what a Gaussian mixture leaves out, learned by flow matching.

Flow matching (Lipman et al. 2023, "Flow Matching for Generative Modeling"; Liu et al. 2023, "Flow Straight and Fast")
learns the velocity that moves draws of a source along straight lines to data. Here the source is not N(0, I): it is the
mixture, and an encoding is paired with a draw of a component that it belongs to (a coupling, as in Tong et al. 2024,
"Improving and Generalizing Flow-Based Generative Models"). So the paths are short, and with a velocity of zero, as at
the start of training, samples are the mixture's.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.fitted.mixture import Mixture, write
from genzoo.fitted.mixture_fit import FLOOR, held_out
from genzoo.noise import generator
from genzoo.progress import bar

FORMAT = "genzoo flow 1"
STEPS = 2000  # of training, where no number is given
MOST = 128  # principal directions that are moved, at most; along the others, samples are the mixture's
PER_DIRECTION = 8  # encodings, at least
WIDTH, BLOCKS = 256, 3
BATCH = 512
RATE, BETAS = 4e-3, (0.9, 0.99)
RAMP = 100  # steps in which the rate grows, at most
EMA = 0.995  # of the weights; over few steps at first
CHECKS = 10  # times that the held-out loss is computed
HELDOUT = 2000  # encodings that it is computed from, at most
HEUN = 8  # steps in which samples are moved
CHUNK = 10_000  # latents moved at once
FREQUENCIES = 32, 0.25, 30.0  # of the time's features: how many, lowest and highest


@dataclass(frozen=True)
class Training:
    """How a flow was trained."""

    encodings: int  # all, the held-out ones included
    steps: int
    kept: int  # the step after which the held-out loss was lowest; 0: samples are the mixture's
    heldout: float  # loss of held-out encodings then: mean squared error of the velocity per direction
    still: float  # the same of a velocity of zero


class Velocity(nn.Module):
    """Velocity at x [N, F] and times t [N] in [0, 1]: a residual perceptron, zero at first.

    Args:
        dim: F.
        width: of its layers.
        blocks: residual ones.
    """

    frequencies: Tensor

    def __init__(self, dim: int, width: int = WIDTH, blocks: int = BLOCKS):
        super().__init__()
        number, lowest, highest = FREQUENCIES
        spaced = torch.linspace(math.log(lowest), math.log(highest), number).exp()
        self.register_buffer("frequencies", 2 * math.pi * spaced, persistent=False)
        self.enter = nn.Linear(dim, width)
        self.time = nn.Sequential(nn.Linear(2 * number, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )
        last = nn.Linear(width, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.leave = nn.Sequential(nn.LayerNorm(width), last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        when, h = self.time(torch.cat([angles.sin(), angles.cos()], 1)), self.enter(x)
        for block in self.blocks:
            h = h + block(h + when)
        return self.leave(h)


@dataclass(frozen=True)
class Flow:
    """A mixture over flat latents [D] whose draws a flow moves, in float32 on the CPU."""

    base: Mixture
    scales: Tensor  # [F], standard deviations of encodings along the first columns of `base.basis`: the flow's units
    net: Velocity  # in eval mode
    training: Training

    @property
    def name(self) -> str:
        """As results and captions call it: `flow:900`."""
        return f"flow:{self.training.steps}"

    @property
    def about(self) -> str:
        """What it is, for a model card."""
        t = self.training
        return (
            f"the mixture `{self.base.name}`, refined by a flow of {t.steps:,} steps (kept: {t.kept:,}), fitted to "
            f"{t.encodings:,} encodings of training data"
        )

    @property
    def dim(self) -> int:
        """D."""
        return self.base.dim

    def sample(
        self,
        n: int,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Draws n latents of `shape` on the CPU, [n, *shape]; the arguments are those of `Mixture.sample`, whose draws
        are moved.
        """
        return self._moved(self.base.sample(n, shape, generator, temperature, labels))

    def at(self, which: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps fixed draws to latents, see `Mixture.at`."""
        return self._moved(self.base.at(which, noise, labels))

    @torch.no_grad()
    def _moved(self, z: Tensor) -> Tensor:
        if not self.training.kept:
            return z
        columns = self.base.basis[:, : len(self.scales)]
        moved = []
        for part in z.split(CHUNK):
            flat = part.flatten(1)
            x = (flat - self.base.center) @ columns / self.scales
            moved.append((flat + (transported(self.net, x) - x) * self.scales @ columns.T).view(part.shape))
        return torch.cat(moved)

    def save(self, path: Path) -> None:
        """Writes the tensors and, as metadata, the records."""
        tensors = {f"base.{name}": value for name, value in self.base.tensors.items()}
        tensors |= {"scales": self.scales} | {f"net.{name}": value for name, value in self.net.state_dict().items()}
        records = {"record": json.dumps(asdict(self.base.record)), "training": json.dumps(asdict(self.training))}
        write(path, {k: v.contiguous() for k, v in tensors.items()}, format=FORMAT, prior=self.name, **records)

    @classmethod
    def of(cls, tensors: dict[str, Tensor], about: dict[str, str]) -> "Flow":
        """Rebuilds what `save` wrote from its tensors and metadata.

        Raises:
            ValueError, KeyError, IndexError, TypeError: they do not fit together.
        """
        base = {name.removeprefix("base."): value for name, value in tensors.items() if name.startswith("base.")}
        weights = {name.removeprefix("net."): value for name, value in tensors.items() if name.startswith("net.")}
        scales, enter = tensors["scales"], weights["enter.weight"]
        blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        net = Velocity(enter.shape[1], enter.shape[0], blocks)
        try:
            net.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError("its network has other weights") from error
        mixture = Mixture.of(base, about)
        if scales.shape != enter.shape[1:] or len(scales) > mixture.basis.shape[1]:
            raise ValueError(f"scales has the shape {tuple(scales.shape)}, and its network takes {enter.shape[1]}")
        if not all(value.isfinite().all() for value in (scales, *weights.values())):
            raise ValueError("it holds NaN or infinite values")
        return cls(mixture, scales, net.eval().requires_grad_(False), Training(**json.loads(about["training"])))


def transported(net: Velocity, x: Tensor, steps: int = HEUN) -> Tensor:
    """Moves x [N, F] from time 0 to 1 by Heun's method; its last step is Euler's."""
    length, times = 1 / steps, torch.linspace(0, 1, steps + 1, device=x.device).unbind()
    for now, then in pairwise(times):
        first = net(x, now.expand(len(x)))
        second = first if then == 1 else net(x + length * first, then.expand(len(x)))
        x = x + length * (first + second) / 2
    return x


def fit_flow(
    encodings: Tensor,
    base: Mixture,
    steps: int = STEPS,
    seed: int = 0,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    progress: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
) -> Flow:
    """Trains a flow from a mixture to the encodings [N, *latent] that it was fitted to.

    A tenth of the encodings is held out, the one that chose the mixture's number of components: after every tenth of
    the steps its loss decides whether the averaged weights are kept. With few encodings, training ends up copying them,
    and earlier weights are kept.

    Args:
        encodings: on any device.
        base: fitted to them, with the same seed.
        steps: of training.
        seed: of the network and of all draws.
        precision: fp32, or bf16, in which the network runs under autocast.
        device: on which it is trained.
        progress: show a bar.
        interrupted: asked before each step whether to stop.

    Raises:
        UsageError: no encoding can be held out.
        KeyboardInterrupt: it was interrupted.
    """
    x = encodings.detach().flatten(1).float().cpu()
    apart, seen = (x[part] for part in held_out(x, seed))
    if not len(apart):
        raise UsageError(
            f"No flow can be trained: of {len(x):,} encodings too few differ to hold some out: take gmm, or more data."
        )
    size = min(MOST, base.basis.shape[1], max(1, len(seen) // PER_DIRECTION))
    variances = ((seen - base.center) @ base.basis[:, :size]).square().mean(0)
    scales = (variances + FLOOR * variances.mean()).sqrt()  # as the mixture's are
    pairs = _Pairs(seen, base, scales, device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator(seed, "flow weights").initial_seed())
        net = Velocity(size).to(device)
    apart = apart[torch.randperm(len(apart), generator=generator(seed, "flow checks"))[:HELDOUT]]
    checked = next(_Pairs(apart, base, scales, device).batches(generator(seed, "flow checks"), 1, None))
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")

    def loss_of(net: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean squared error of the velocity along the line from `start` to `end`."""
        start, end, t = batch
        with autocast:
            velocity = net(torch.lerp(start, end, t[:, None]), t)
        return (velocity.float() - (end - start)).square().mean()

    average = copy.deepcopy(net)
    averages: list[Tensor] = list(average.parameters())
    values: list[Tensor] = list(net.parameters())
    with torch.no_grad():
        still = loss_of(net, checked).item()
    best, kept, weights = still, 0, copy.deepcopy(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), RATE, betas=BETAS, weight_decay=0.0, fused=True)
    due = {round(steps * i / CHECKS) for i in range(1, CHECKS + 1)}
    batches = pairs.batches(generator(seed, "flow"), steps, BATCH)
    shown = bar(batches, "flow", shown=progress, logged=True, total=steps, leave=False, unit="step")
    for step, batch in enumerate(shown, 1):
        if interrupted():
            raise KeyboardInterrupt
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        with torch.enable_grad():
            loss_of(net, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]  (as in torch's swa_utils)
                averages, values, 1 - min(EMA, step / (step + 9))
            )
            if step in due and (now := loss_of(average, checked).item()) < best:
                best, kept, weights = now, step, copy.deepcopy(average.state_dict())
    net = net.cpu()
    net.load_state_dict(weights)
    record = Training(len(x), steps, kept, round(best, 4), round(still, 4))
    return Flow(base, scales, net.eval().requires_grad_(False), record)


def _rate(step: int, steps: int) -> float:
    """Linear growth, then a cosine to 0."""
    return RATE * min(1.0, step / max(1, min(RAMP, steps // 10))) * 0.5 * (1 + math.cos(math.pi * step / steps))


class _Pairs:
    """Ends of lines, in the flow's units: encodings, and draws of components of the mixture that they belong to."""

    def __init__(self, x: Tensor, base: Mixture, scales: Tensor, device: torch.device | str):
        self._base = replace(base, **{name: value.to(device) for name, value in base.tensors.items()})
        self._scales, self._device, size = scales.to(device), device, len(scales)
        self._ends = ((x - base.center) @ base.basis[:, :size] / scales).to(device)
        self._shares = torch.cat([base.responsibilities(part) for part in x.split(CHUNK)])

    def batches(self, rng: torch.Generator, steps: int, size: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields (start [size, F], end [size, F], t [size]), drawn on the CPU: the same numbers on every device. A size
        of None takes each encoding once.
        """
        n, width = len(self._ends), self._base.basis.shape[1]
        for _ in range(steps):
            chosen = torch.arange(n) if size is None else torch.randint(n, (size,), generator=rng)
            component = torch.multinomial(self._shares[chosen], 1, generator=rng).squeeze(1).to(self._device)
            noise, t = torch.randn(len(chosen), width, generator=rng), torch.rand(len(chosen), generator=rng)
            start = self._base.inside(component, noise.to(self._device))[:, : len(self._scales)] / self._scales
            yield start, self._ends[chosen.to(self._device)], t.to(self._device)
