"""`genzoo train --fast`: the fast settings for this device. The default is exact: fp32, uncompiled."""

import os
import shutil

import torch

from genzoo.spec import RunConfig


def fast_settings(run: RunConfig) -> dict[str, str]:
    """Returns option -> value. What pays where was measured: see benchmarks/speed.

    On a GPU: bf16 networks, and the step compiled. On a CPU: bf16 only where it has matrix units for it (AMX), and
    compiled only for multi-layer perceptrons, since convolutions gain nothing there, and a C++ compiler is at hand.
    What a compiled step cannot do (several processes, checkpointing, a setting that is auto) runs uncompiled.
    """
    on_gpu = run.train.device == "auto" and torch.cuda.is_available()
    settings = {}
    if on_gpu or torch.cpu._is_amx_tile_supported():
        settings["train.precision"] = "bf16"
    pays = on_gpu or (run.arch.perceptrons and shutil.which(os.environ.get("CXX", "c++")) is not None)
    moves = "auto" in vars(run.objective).values()
    if pays and int(os.environ.get("WORLD_SIZE", 1)) == 1 and not run.train.checkpointing and not moves:
        settings["train.compile"] = "true"
    return settings
