"""CUDA graphs: functions whose kernels are recorded once and then launched together.

A step of small networks is thousands of kernels that a GPU finishes sooner than the host launches them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genzoo.errors import UsageError

Function = Callable[..., Sequence[Tensor]]
Record = Callable[[Function, Sequence[Tensor]], tuple[Sequence[Tensor], Callable[[], None]]]


class Captured:
    """A function of tensors that runs from a recording, once that exists.

    The first calls run the function itself, which loads libraries. The call after them records it: inputs that are the
    same objects as in the call before, such as weights, are read and written where they are; all others are copied
    into memory of the recording. So a function whose inputs another one gives must be recorded later than that one.

    Results are memory of the recording, which the next call overwrites.

    Args:
        function: tensors -> tensors, the same operations in every call; not under autograd.
        calls: how many run the function itself, at least 1.
        record: (function, inputs) -> its results, and what computes them again from the same inputs in place.
    """

    def __init__(self, function: Function, calls: int, record: Record):
        self._function, self._calls, self._record = function, calls, record
        self._inputs, self._results = list[Tensor](), list[Tensor]()
        self._replay: Callable[[], None] | None = None

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        if self._replay is None:
            if self._calls:
                self._calls -= 1
                self._inputs = list(inputs)
                return self._function(*inputs)
            self._inputs = [new if new is old else new.clone() for new, old in zip(inputs, self._inputs, strict=True)]
            results, self._replay = self._record(self._function, self._inputs)
            self._results = list(results)
        moved = [(place, x) for place, x in zip(self._inputs, inputs, strict=True) if place is not x]
        if moved:
            torch._foreach_copy_(  # pyright: ignore[reportPrivateImportUsage]
                [place for place, _ in moved], [x for _, x in moved]
            )
        self._replay()
        return self._results


def recorder(device: torch.device) -> Record:
    """Returns what records CUDA graphs that share their memory, for functions that are always run in the same order.

    Raises:
        UsageError: the device has none.
    """
    if device.type != "cuda":
        raise UsageError(f"train.compile=cudagraphs is for GPUs, and this run is on {device.type}: leave it out.")
    return partial(_record, torch.cuda.graph_pool_handle())


def _record(pool: Any, function: Function, inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Callable[[], None]]:
    graph = torch.cuda.CUDAGraph()
    # other threads, which load batches, may go on meanwhile
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        results = function(*inputs)
    return results, graph.replay
