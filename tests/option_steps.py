"""Steps with each option of the built-in models, driven as the trainer drives them, on as many processes as there are.

Run by `-c` in several processes, `save_all` leaves the networks of every case in the current folder.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from genzoo import list_models, resolve
from genzoo.factory import build, build_objective
from genzoo.items import Items
from genzoo.objective import Progress
from genzoo.training.iteration import Iteration
from genzoo.training.launch import Processes, make_accelerator
from genzoo.training.optim import make_optimizers
from genzoo.training.recovery import Ladder

BATCH, STEPS, SHAPE, CLASSES = 8, 3, (3, 8, 8), ("a", "b", "c")
TINY = ("arch.channels=4,8", "arch.z_dim=4", f"train.batch={BATCH}", "train.ema=0", "train.device=cpu")
PRIORS = {"classes": "arch.prior=classes data.labels=hair_style", "mog": "arch.prior=mog:3"}
SHARED = PRIORS | {
    "diffaug": "objective.diffaug=true",
    "r1": "objective.r1=100 objective.penalty_every=2",
    "r2": "objective.r2=100 objective.penalty_every=2",
    "encoder_steps": "objective.encoder_steps=2",
    "spectral_norm": "arch.spectral_norm=true",
    "recompute": "objective.recompute=true",
    "conditional": "arch.conditional=concat data.labels=hair_style",
}
OPTIONS = {  # of each model: a line of settings by the name of the case
    "vae": {**PRIORS, "spectral_norm": "arch.spectral_norm=true"},
    "introvae": {**SHARED, "reconstruction_branch": "objective.reconstruction_branch=false"},
    "softintrovae": {
        **SHARED,
        "economy": "objective.economy=true",
        "units": "objective.units=image",
        "bootstrap": "objective.bootstrap=true objective.gamma_r=1",
        "feature_loss": "objective.feature_loss=0.1",
        "prior_samples": "arch.prior=mog:3 objective.prior_samples=4",
        "prior_entropy": "arch.prior=mog:3 objective.prior_entropy=1",
        "prior_clip": "arch.prior=mog:3 arch.prior_clip=true",
    },
}
OPTIONS = {model: options for model, options in OPTIONS.items() if model in list_models()}
PLAIN, ALL, ALL_NORMALIZED = "plain", "all", "all, BatchNorm"


def settings(model: str, case: str) -> list[str]:
    """The settings of a case: an option, none, or all that go together."""
    options = OPTIONS[model] | {PLAIN: ""}
    several = [line for name, line in OPTIONS[model].items() if name != "classes"]  # there is one prior
    chosen = " ".join(several) if case.startswith(ALL) else options[case]
    warmup = () if model == "vae" else ("objective.warmup=1it",)
    norm = "batch" if case == ALL_NORMALIZED else "none"  # which sees its process's part of a batch only
    return list(dict.fromkeys([*TINY, *warmup, f"arch.norm={norm}", *chosen.split()]))


def trained(model: str, case: str, acc: Processes) -> dict[str, Tensor]:
    """Runs STEPS steps in float64; returns the networks' weights and buffers."""
    run = resolve(model, settings=settings(model, case))
    torch.manual_seed(0)
    nets = build(run, SHAPE, CLASSES).double().train()
    objective = build_objective(run, nets.spaces)
    optimizers = make_optimizers(dict(nets.named_children()), objective.optimizers, run.train)
    iteration = Iteration(objective, nets, None, optimizers, run.train, Ladder(), acc)
    parts, own = 1 + objective.fresh, BATCH // acc.num_processes
    for step in range(STEPS):
        at = Progress(step, BATCH, STEPS * BATCH * parts, epoch_nimg=2 * BATCH * parts, parts=parts)
        iteration([list(items(step, part).split(own))[acc.process_index] for part in range(parts)], at)
    return {name: value.clone() for name, value in nets.state_dict().items()}


def items(step: int, part: int) -> Items:
    """A global batch, as a function of its place."""
    rng = torch.Generator().manual_seed(100 * step + part)
    x = torch.rand(BATCH, *SHAPE, generator=rng, dtype=torch.float64)
    return Items(x, torch.randint(len(CLASSES), (BATCH,), generator=rng))


def cases(*more: str) -> list[tuple[str, str]]:
    """Each option of each model, and `more` cases of each."""
    return [(model, case) for model, options in OPTIONS.items() for case in (*options, *more)]


def accelerator() -> Processes:
    return make_accelerator("cpu", "fp32", (), Path())


def save_all() -> None:
    acc = accelerator()
    for model, case in cases(ALL, ALL_NORMALIZED):
        save_file(trained(model, case, acc), f"{model}-{case}-rank{acc.process_index}.safetensors")
