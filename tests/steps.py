"""Tiny networks, data and objectives, and a driver of training steps on them, shared by the tests of objectives."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.items import Items
from genzoo.nn import build_decoder, build_encoder
from genzoo.noise import Noise
from genzoo.objective import Objective, Phase, Progress, Spaces, phases
from genzoo.registry import get_spec, list_models
from genzoo.spec import ArchConfig

N, Z, STEPS, LR = 6, 3, 5, 5e-3
# Absolute, on weights and buffers after STEPS of Adam. Measured: 1e-14, as the transcriptions round in other places.
TOLERANCE = 1e-12
SHAPES = {"conv": (3, 8, 4), "mlp": (2,)}
SCALE = {"conv": 1 / (3 * 8 * 4), "mlp": 0.5}  # Soft-IntroVAE's s
MARGIN = {  # in the midst of these networks' KLs, so that some hinges are active and some are not
    ("introvae-paper", "conv"): 4.0,
    ("introvae-paper", "mlp"): 0.14,
    ("introvae-official", "conv"): 7.0,
    ("introvae-official", "mlp"): 0.12,
}
PLACE = {"vae": "before", "introvae": "after", "softintrovae": "before"}  # of the residual blocks' second norm

BETAS = {"beta_kl": 0.7, "beta_rec": 1.3, "beta_neg": 2.0, "gamma_r": 0.4}  # gamma_r large enough to be seen
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {"beta": 0.7, "beta_rec": 0.4}),
    "introvae-paper": ("introvae", {"form": "paper", "alpha": 0.25, "beta": 0.3, "warmup": "0"}),
    "introvae-official": (
        "introvae",
        {"form": "official", "alpha": 0.25, "alpha_decoder": 0.6, "beta": 0.3, "warmup": "0"},
    ),
    "softintrovae-paper": ("softintrovae", {"form": "paper", **BETAS}),
    "softintrovae-official": ("softintrovae", {"form": "official", **BETAS}),
}
FORMS = {form: (model, options) for form, (model, options) in FORMS.items() if model in list_models()}
TWO_PLAYERS = [form for form in FORMS if form != "vae"]


def objective_of(form: str, kind: str = "conv", **more: Any) -> Objective:
    model, config = FORMS[form]
    spec = get_spec(model)
    margin = {"margin": MARGIN[form, kind]} if model == "introvae" else {}
    return spec.objective(spec.config(**(margin | config | more)), Spaces(SHAPES[kind], (Z,)))


def networks(form: str, kind: str = "conv", norm: str = "batch", hidden: tuple[int, ...] = (16, 16)) -> nn.ModuleDict:
    """A tiny encoder and decoder; their last layers are enlarged so that KLs of several nats occur, and differ between
    images.
    """
    sizes = {"z_dim": Z, "channels": (4, 8), "hidden": hidden}
    shape, arch = (
        SHAPES[kind],
        ArchConfig(encoder=kind, decoder=kind, norm=norm, norm_place=PLACE[FORMS[form][0]], **sizes),
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        nets = nn.ModuleDict({"encoder": build_encoder(shape, arch), "decoder": build_decoder(shape, arch)})
        for net in nets.values():
            list(net.parameters())[-2].mul_(4)  # the last layer's weight
    return nets.double()


def data(step: int, kind: str = "conv") -> Tensor:
    """A new batch for every step: images in [0, 1] or points in [-2, 2]."""
    x = torch.rand(N, *SHAPES[kind], generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return x if kind == "conv" else 4 * x - 2


def draw(objective: Objective, step: int, x: Tensor, start: int = 0, stop: int = N) -> Any:
    noise = Noise(seed=7, step=step, batch=N, start=start, stop=stop, like=x)
    return objective.draw(Items(x[start:stop]), noise)


def micro_batches(objective: Objective, step: int, x: Tensor, micro: int = 1) -> list[list[Any]]:
    """What `phases` takes: `micro` equal parts of a batch."""
    size = N // micro
    return [[draw(objective, step, x, i * size, (i + 1) * size)] for i in range(micro)]


def at(step: int) -> Progress:
    return Progress(step=step, batch=N, total_nimg=STEPS * N)


def adams(nets: nn.ModuleDict) -> dict[str, torch.optim.Adam]:
    return {name: torch.optim.Adam(net.parameters(), lr=LR) for name, net in nets.items()}


def move(phase: Phase, optimizers: dict[str, torch.optim.Adam]) -> None:
    for key in phase.keys:
        optimizers[key].step()
        optimizers[key].zero_grad()


def run_step(
    objective: Objective,
    nets: nn.ModuleDict,
    optimizers: dict[str, torch.optim.Adam],
    step: int,
    x: Tensor,
    micro: int = 1,
) -> Iterator[Phase]:
    """One iteration; yields each phase between its backward passes and the optimizers' steps."""
    for phase in phases(objective, nets, micro_batches(objective, step, x, micro), at(step)):
        yield phase
        move(phase, optimizers)


def train(
    objective: Objective, nets: nn.ModuleDict, kind: str = "conv", steps: int = STEPS, micro: int = 1
) -> list[dict[str, float]]:
    """Trains in place and returns the logged curves of each step."""
    optimizers, curves = adams(nets), []
    for step in range(steps):
        curves.append({})
        for phase in run_step(objective, nets, optimizers, step, data(step, kind), micro):
            curves[-1] |= {name: value.item() for name, value in phase.logs.items()}
    return curves


def distance(ours: nn.Module, theirs: nn.Module, buffers: bool = True) -> float:
    """Largest absolute difference of any weight or, with `buffers`, BatchNorm buffer."""
    a, b = ((net.state_dict() if buffers else dict(net.named_parameters())) for net in (ours, theirs))
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def recorded(function: Callable[..., Any], inputs: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
    """Stands in for a CUDA graph: the results' memory is taken from a call that leaves the inputs as they are."""
    results = [torch.zeros_like(result) for result in function(*(x.clone() for x in inputs))]

    def replay() -> None:
        for place, result in zip(results, function(*inputs), strict=True):
            place.copy_(result)

    return results, replay
