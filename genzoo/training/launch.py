"""How a run starts, stops and keeps its processes alike: the Accelerator, Ctrl-C, averages over processes."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration
from torch import Tensor

from genzoo.errors import UsageError


def make_accelerator(device: str, precision: str, trackers: Sequence[str], folder: Path) -> Accelerator:
    """Makes the Accelerator, and refuses what it would pass over in silence.

    Raises:
        UsageError: the launcher announced more processes than Accelerate sees, or a tracker is unknown or not installed.
    """
    cpu = device == "cpu" or not torch.accelerator.is_available()
    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "trackers"))
    AcceleratorState._reset_state()  # or a second run of this process could have no other precision than the first
    try:
        acc = Accelerator(
            cpu=cpu, mixed_precision={"fp32": "no", "bf16": "bf16"}[precision], log_with=list(trackers) or None, project_config=project
        )
    except ValueError as error:
        raise UsageError(f"train.trackers={','.join(trackers)}: {error}") from error
    missing = set(trackers) - {str(getattr(tracker, "value", tracker)) for tracker in acc.log_with or ()}
    if missing:
        raise UsageError(
            f"Tracker {', '.join(missing)} is not installed: pip install {' '.join(missing)}, or leave it out of train.trackers."
        )
    announced = int(os.environ.get("WORLD_SIZE", 1))
    if acc.num_processes != announced:
        raise UsageError(
            f"The launcher announced {announced} processes and this one sees {acc.num_processes}: "
            "start with `torchrun --standalone --nproc_per_node N -m genzoo train ...`."
        )
    return acc


class StopFlag:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that the step is finished and saved; a second Ctrl-C interrupts at once."""

    def __enter__(self) -> "StopFlag":
        self.is_set = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            self._before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _set(self, number: int, _: Any) -> None:
        if self.is_set and number == signal.SIGINT:  # a launcher follows the terminal's Ctrl-C with a SIGTERM of its own
            raise KeyboardInterrupt
        self.is_set = True

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def average_in_place(tensors: Sequence[Tensor], acc: Accelerator) -> None:
    """Averages tensors over processes through one flat message."""
    if not tensors:
        return
    flat = acc.reduce(torch.cat([t.detach().flatten() for t in tensors]), "mean")
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def peak_memory(device: torch.device) -> int:
    """The most that this process has held at once, in bytes: of the GPU's memory on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on every platform

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resume_command(folder: Path) -> str:
    """What to type to resume: the command itself, or the call of a notebook."""
    if Path(sys.argv[0]).parts[-1:] == ("genzoo",) or Path(sys.argv[0]).parts[-2:] == ("genzoo", "__main__.py"):
        return f"genzoo {shlex.join(sys.argv[1:])}"
    return f"Trainer(config, out={str(folder)!r}).fit()"
