"""Any two options of an introspective model go together: they train, and a run resumes to the same bits.

Each pair is tested in the company of others, in sets of GROUP options that together hold every pair.
"""

import copy
import shutil
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
import torch
from helpers import TINY, same, tiny_run, weights
from torch import Tensor, nn

from genzoo import Trainer, resolve
from genzoo.factory import build, build_objective
from genzoo.items import Items
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, phases
from genzoo.spec import RunConfig

pytestmark = pytest.mark.usefixtures("one_thread")
SHARED = (
    "objective.diffaug=true",
    "objective.r1=0.01 objective.penalty_every=2",
    "objective.r2=0.01 objective.penalty_every=2",
    "objective.encoder_steps=2",
    "objective.recompute=true",
    "objective.form=official",
    "arch.spectral_norm=true",
    "arch.encoder=shuffle",
    "arch.conditional=concat",
    "arch.prior=mog:2",
    "train.accumulate=2",
)
DISTANCE = "objective.distance=as objective.form=official"
OPTIONS = {
    "introvae": (*SHARED, "objective.reconstruction_branch=false"),
    "softintrovae": (
        *SHARED,
        "objective.economy=true",
        "objective.units=image",
        "objective.bootstrap=true",
        "objective.feature_loss=0.1",
        "arch.prior=mog:2 objective.prior_samples=3",
        "arch.prior=mog:2 objective.prior_entropy=1",
        "arch.prior=mog:2 arch.prior_clip=true",
        DISTANCE,
    ),
}
GROUP, BATCH, STEPS = 5, 4, 3


def together(one: str, other: str) -> bool:
    """Whether two options can be combined: the distance is not defined for learned priors."""
    return not (DISTANCE in (one, other) and "arch.prior" in one + other)


def groups(options: Sequence[str]) -> list[list[str]]:
    """Sets of GROUP options that can be combined, and that hold every pair of such options."""
    found = list[list[str]]()
    wanted = [{one, other} for one, other in combinations(options, 2) if together(one, other)]
    while wanted:
        group = sorted(wanted[0])
        while len(group) < GROUP:
            more = [o for o in options if o not in group and all(together(o, other) for other in group)]
            group.append(max(more, key=lambda o: sum({o, other} in wanted for other in group)))
        wanted = [pair for pair in wanted if not pair <= set(group)]
        found.append(group)
    return found


GROUPS = [pytest.param(model, group, id=model) for model, options in OPTIONS.items() for group in groups(options)]


class Players:
    """The networks of a run, its objective, and two optimizers."""

    def __init__(self, run: RunConfig):
        torch.manual_seed(0)
        self.run, self.nets = run, build(run, (3, 8, 8), ("a", "b")).train()
        self.objective: Objective = build_objective(run, self.nets.spaces)
        self.optimizers = {name: torch.optim.Adam(net.parameters()) for name, net in self.nets.named_children()}

    def parts(self) -> list[Any]:
        own = [self.objective] if isinstance(self.objective, nn.Module) else []
        return [self.nets, *self.optimizers.values(), *own]

    def train(self, steps: Sequence[int]) -> None:
        for step in steps:
            parts = 1 + self.objective.fresh
            progress = Progress(
                step=step, batch=BATCH, total_nimg=STEPS * BATCH * parts, epoch_nimg=2 * BATCH, parts=parts
            )
            for phase in phases(self.objective, self.nets, self.batches(step), progress):
                for key in phase.keys:
                    self.optimizers[key].step()
                    self.optimizers[key].zero_grad()

    def batches(self, step: int) -> list[list[Any]]:
        size, parts = BATCH // self.run.train.accumulate, range(1 + self.objective.fresh)
        return [[self._drawn(step, part, start, size) for part in parts] for start in range(0, BATCH, size)]

    def _drawn(self, step: int, part: int, start: int, size: int) -> Any:
        x = torch.rand(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(100 * step + part))
        noise = Noise(seed=1, step=step, batch=BATCH, start=start, stop=start + size, like=x, part=part)
        return self.objective.draw(Items(x[start : start + size], torch.arange(size) % 2), noise)

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.nets.state_dict().items()}


@pytest.mark.parametrize(("model", "group"), GROUPS)
def test_options_train_together_and_resume(model: str, group: list[str]):
    """A warm-up of one step, and two steps more; these once more from the state after it."""
    settings = dict.fromkeys([*TINY, "objective.warmup=1it", *" ".join(group).split()])
    run = resolve(model, settings=list(settings))
    whole, resumed = Players(run), Players(run)
    start = whole.state()
    whole.train(range(1))
    middle = [copy.deepcopy(part.state_dict()) for part in whole.parts()]
    for part, state in zip(resumed.parts(), middle, strict=True):
        part.load_state_dict(state)
    whole.train(range(1, STEPS))
    resumed.train(range(1, STEPS))
    assert same(whole.state(), resumed.state())
    assert all(value.isfinite().all() for value in whole.state().values())
    for name in dict(whole.nets.named_children()):
        assert any(not torch.equal(start[key], value) for key, value in whole.state().items() if key.startswith(name))


@pytest.mark.parametrize("model", list(OPTIONS))
def test_a_run_with_every_option_resumes_to_the_same_bits(model: str, tmp_path):
    """Every one but the distance; its last four steps once more, from the checkpoint before them."""
    settings = dict.fromkeys(part for option in OPTIONS[model] if option != DISTANCE for part in option.split())
    short = ("data.labels=glasses", "train.snapshot_every=4it", "train.duration=8it")
    run, out = tiny_run(model, *settings, *short), tmp_path / "run"
    whole = weights(Trainer(run, out=out, progress=False).fit())
    shutil.rmtree(out / "checkpoints" / f"{8:09d}")
    assert same(weights(Trainer(run, out=out, progress=False).fit()), whole)
