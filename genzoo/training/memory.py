"""Memory of a step: how much it needs, counted tensor by tensor while each lives, and who keeps it for the next."""

import ctypes
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

# glibc's names and values, see mallopt(3)
MMAP_THRESHOLD, LARGEST_OF_HEAP = -3, 32 * 2**20
TRIM_THRESHOLD, NEVER = -1, -1


def keep_freed_memory() -> None:
    """Lets this process keep what a step frees for the next one, where the system's allocator is glibc's.

    By default it gives memory back to the kernel in a step and fetches it page by page in the next one, with thousands
    of page faults. A user's own settings of the allocator in the environment are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    own = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if mallopt is None or own:
        return
    mallopt(MMAP_THRESHOLD, LARGEST_OF_HEAP)  # else setting the other threshold would fix it at 128 KiB
    mallopt(TRIM_THRESHOLD, NEVER)


class LiveBytes(TorchDispatchMode):
    """Within it, counts the bytes of all tensors that operations make, each storage once, from its making to its
    release.

    `now` and `peak` are in bytes. What a kernel takes for itself and gives back before it returns is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: weakref.WeakSet = weakref.WeakSet()

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that were made outside, such as weights."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage not in self._alive:
                self._alive.add(storage)
                self._move(storage.nbytes())
                weakref.finalize(storage, self._move, -storage.nbytes())

    def _move(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, lambda tensor: self.count([tensor]), out)
        return out
