"""What several test modules use: paths, tiny runs, and comparisons of what runs leave."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from genzoo import list_models
from genzoo.registry import get_spec
from genzoo.runs.folder import run_log
from genzoo.spec import RunConfig

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"  # real images beside the checkout; tests that need them skip without it
MISSING = {"vae", "introvae", "softintrovae"} - set(list_models())  # built-in models that have been removed

TINY = (
    "arch.channels=8",
    "arch.z_dim=4",
    "train.batch=8",
    "train.duration=96",
    "data.limit=64",
    "data.size=16x16",
    "train.ema=0.9",
    "train.snapshot_every=50%",
)
ONCE = ("train.snapshot_every=100%", "train.prior=normal")  # one snapshot, for which no prior is fitted
CLASSIFIER_IMAGES = 150 * 128  # that the tests' classifier of digits is trained on: 150 steps


def tiny_run(model: str = "introvae", *settings: str) -> RunConfig:
    """A run of 12 steps on 16x16 faces: seconds."""
    from genzoo import resolve

    warmup = ("objective.warmup=2it",) if hasattr(get_spec(model.partition(".")[0]).config, "warmup") else ()
    return resolve(model, settings=[*TINY, *warmup, *settings])


def as_options(*settings: str) -> list[str]:
    """Returns the settings as command-line options: `--set a.b=1 --set ...`."""
    return [part for setting in settings for part in ("--set", setting)]


def environment(*paths: Path, **changes: str) -> dict[str, str]:
    """Returns this process's environment, in which a child process imports genzoo from this checkout, the modules of
    these tests, and what lies in `paths`.
    """
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT, ROOT / "tests")))} | changes


def weights(run: Path, folder: str = "model") -> dict[str, torch.Tensor]:
    """Returns the weights and buffers of a run's model, by name."""
    return load_file(run / folder / "diffusion_pytorch_model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two dictionaries of tensors are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def read_log(run: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's log.jsonl."""
    return run_log(run).read()
