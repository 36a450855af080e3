"""`genzoo train --fast`: the fast settings for this device. The default is exact: fp32, uncompiled."""

import os
import shutil

import torch
from torch import nn

from genzoo.configure import data_shape, planned_classes
from genzoo.errors import UsageError
from genzoo.factory import build, build_objective
from genzoo.spec import RunConfig


def fast_settings(run: RunConfig) -> dict[str, str]:
    """Returns option -> value. What pays where was measured: see benchmarks/speed.

    On a GPU: bf16 networks, and the step compiled. On a CPU: bf16 only where it has matrix units for it (AMX), and
    compiled only for multi-layer perceptrons, since convolutions gain nothing there, and a C++ compiler is at hand.
    What a compiled step cannot do (several processes, checkpointing, an objective with state) runs uncompiled.
    """
    on_gpu = run.train.device == "auto" and torch.cuda.is_available()
    settings = {}
    if on_gpu or torch.cpu._is_amx_tile_supported():
        settings["train.precision"] = "bf16"
    pays = on_gpu or (run.arch.perceptrons and shutil.which(os.environ.get("CXX", "c++")) is not None)
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1 and not run.train.checkpointing
    if pays and alone and not _has_state(run):
        settings["train.compile"] = "true"
    return settings


def _has_state(run: RunConfig) -> bool:
    """Whether the objective has controllers or networks of its own, or may have: its data is known too little."""
    try:
        shape, classes = data_shape(run), planned_classes(run)
    except UsageError:
        return True
    with torch.device("meta"):
        spaces = build(run, shape, classes).spaces
    objective = build_objective(run, spaces, "meta")
    return bool(objective.controllers) or isinstance(objective, nn.Module)
