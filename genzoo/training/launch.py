"""How a run starts, stops and keeps its processes in step: launchers, Ctrl-C, lost processes, averages."""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration
from torch import Tensor, nn

from genzoo.errors import PeerLost, UsageError
from genzoo.launcher import launcher_number, refuse_broken_launch
from genzoo.training.memory import keep_freed_memory

PATIENCE = timedelta(minutes=30)  # gloo's default; nccl's 10 minutes may pass before the data is decoded
TORCHRUN = "torchrun --standalone --nproc_per_node N -m genzoo ..."
SHARDING = {  # variables of `accelerate launch`, and what they ask for
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


class Processes(Accelerator):
    """An Accelerator whose collectives report in one line that another process is gone."""

    def reduce(self, tensor: Tensor, reduction: str = "sum", scale: float = 1.0) -> Tensor:
        with self._peers():
            reduced = super().reduce(tensor, reduction, scale)
        assert isinstance(reduced, Tensor)
        return reduced

    def gather(self, tensor: Tensor) -> Tensor:
        with self._peers():
            gathered = super().gather(tensor)
        assert isinstance(gathered, Tensor)
        return gathered

    def wait_for_everyone(self) -> None:
        with self._peers():
            super().wait_for_everyone()

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        if not self.is_main_process:
            self.wait_for_everyone()
        yield
        if self.is_main_process:
            self.wait_for_everyone()

    @contextmanager
    def _peers(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo and nccl raise nothing more precise
            if self.num_processes == 1:
                raise
            cause = re.search(r"Connection [^.\[]*|[Tt]imed out[^.\[]*", str(error))
            raise PeerLost(
                f"Process {self.process_index} of {self.num_processes} lost another one, which died or stopped first "
                f"({cause[0].strip() if cause else str(error).splitlines()[0]}). What was saved is intact. "
                "To continue from there:\n"
                f"  {resume_command(Path(self.project_dir))}"
            ) from error


def make_accelerator(device: str, precision: str, trackers: Sequence[str], folder: Path) -> Processes:
    """Makes the Accelerator, and refuses what it would silently ignore.

    Raises:
        UsageError: a launcher's mistake (`refuse_broken_launch`, `launch_mistake`), or a tracker that is unknown or not
            installed.
    """
    refuse_broken_launch()
    cpu = device == "cpu" or not torch.accelerator.is_available()
    if mistake := launch_mistake(os.environ, gpus=None if cpu else torch.accelerator.device_count()):
        raise UsageError(mistake)
    if cpu:
        keep_freed_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, by cuBLAS; see `deterministic`
    round_products(precision)
    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "trackers"))
    AcceleratorState._reset_state()  # or a second run of this process could have no other precision than the first
    try:
        acc = Processes(
            cpu=cpu,
            mixed_precision="bf16" if precision == "bf16" else "no",
            log_with=list(trackers) or None,
            project_config=project,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as error:
        raise UsageError(f"train.trackers={','.join(trackers)}: {error}") from error
    missing = set(trackers) - {str(getattr(tracker, "value", tracker)) for tracker in acc.log_with or ()}
    if missing:
        raise UsageError(
            f"Tracker {', '.join(missing)} is not installed: pip install {' '.join(missing)}, "
            "or leave it out of train.trackers."
        )
    announced = launcher_number("WORLD_SIZE")
    if acc.num_processes != announced:
        raise UsageError(
            f"The launcher announced {announced} processes and this one sees {acc.num_processes}: "
            f"start with `{TORCHRUN}`."
        )
    return acc


def round_products(precision: str) -> None:
    """Lets GPUs round what convolutions and matrix products multiply to TF32, or not, in this process from now on.

    PyTorch's own default rounds convolutions and not matrix products.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Makes a GPU compute the same bits from the same numbers, without which no resumed run could be exact.

    An operation that has no deterministic implementation warns and is used.
    """
    if device.type == "cpu":  # always does
        yield
        return
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # nothing here reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


def launch_mistake(env: Mapping[str, str], gpus: int | None) -> str | None:
    """Describes what is wrong with a launch that would silently do something else; None where nothing is.

    Args:
        env: the environment that the launcher left.
        gpus: how many this machine has, or None on CPU.
    """
    for variable, name in SHARDING.items():
        if env.get(variable, "false").lower() == "true":
            return (
                f"{name} would shard nothing here, networks are not wrapped: start with `{TORCHRUN}` "
                "(docs/processes.md lists what saves memory instead)."
            )
    if env.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") != "1":
        return (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS would scale every gradient: unset it, and use "
            "--set train.accumulate=K."
        )
    # `accelerate launch` leaves these without the others when it was asked for several processes and starts one.
    alone = not env.keys() & {"WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}
    if alone and env.keys() >= {"ACCELERATE_USE_CPU", "MASTER_PORT"}:
        return f"`accelerate launch` was asked for several processes and started one: start with `{TORCHRUN}`."
    here = launcher_number("LOCAL_WORLD_SIZE", env=env)
    if gpus is not None and here > gpus:
        return (
            f"{here} processes share {gpus} GPU here: start at most {gpus}, or hide the GPUs with "
            "CUDA_VISIBLE_DEVICES= to run on CPU."
        )
    return None


def agree(flag: bool, acc: Processes) -> bool:
    """Whether any process says yes; a decision by the clock or a signal must be the same on all."""
    if acc.num_processes == 1:
        return flag
    return bool(acc.reduce(torch.tensor(float(flag), device=acc.device), "sum").item())


def alike(values: Sequence[float], acc: Processes) -> list[float]:
    """Means of measured numbers over processes, which must all decide alike."""
    if acc.num_processes == 1:
        return list(values)
    return acc.reduce(torch.tensor(values, device=acc.device), "mean").tolist()


def average_gradients(params: Iterable[nn.Parameter], acc: Processes) -> list[Tensor]:
    """Averages a network's gradients over processes, in place, and returns them.

    A parameter outside of the graph on every process keeps no gradient, so that its optimizer leaves it alone as on one
    process; outside of some graphs it counts as zero there.
    """
    params = [p for p in params if p.requires_grad]
    if acc.num_processes > 1 and params:
        has_gradient = torch.stack([torch.full((), float(p.grad is not None)) for p in params]).to(params[0])
        for p in params:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        _average_in_place([*(p.grad for p in params if p.grad is not None), has_gradient], acc)
        for p, share in zip(params, has_gradient.tolist(), strict=True):
            p.grad = p.grad if share else None
    return [p.grad for p in params if p.grad is not None]


def average_buffers(model: nn.Module, acc: Processes) -> None:
    """Keeps BatchNorm's running statistics equal on all processes: each has seen its own part of the batch."""
    if acc.num_processes > 1:
        _average_in_place([b for b in model.buffers() if b.is_floating_point()], acc)


def _average_in_place(tensors: Sequence[Tensor], acc: Processes) -> None:
    """Averages tensors through one flat message."""
    if not tensors:
        return
    flat = acc.reduce(torch.cat([t.detach().flatten() for t in tensors]), "mean")
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def peak_memory(device: torch.device) -> int | None:
    """The most that this process has held at once, in bytes: of the GPU's memory on a GPU, else resident.

    None where the system does not count it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resume_command(folder: Path) -> str:
    """What to type to resume: the command itself, with its launcher, or the call of a notebook."""
    if Path(sys.argv[0]).parts[-1:] != ("genzoo",) and Path(sys.argv[0]).parts[-2:] != ("genzoo", "__main__.py"):
        return f"Trainer(config, out={str(folder)!r}).fit()"
    world, local = (launcher_number(name) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    command = f"genzoo {shlex.join(sys.argv[1:])}"
    if world == 1:
        return command
    nodes = (
        "--standalone" if world == local else f"--nnodes {world // local} --rdzv_backend c10d --rdzv_endpoint HOST:PORT"
    )
    return f"torchrun {nodes} --nproc_per_node {local} -m {command}"
