"""How much memory a step needs: every tensor of a step is counted while it lives."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


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
