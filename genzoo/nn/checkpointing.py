"""Gradient checkpointing: a stack keeps the inputs of its parts, and backward recomputes what lies inside them
(arXiv 1604.06174).
"""

from contextlib import nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genzoo.nn.batchnorm import batchnorms


def cut_where_small(stack: nn.Sequential) -> list[nn.Sequential]:
    """Cuts a stack of layers, or of sequences of layers, after each pooling and before each layer that upsamples: the
    tensors there are the smallest to keep.
    """
    parts: list[list[nn.Module]] = [[]]
    for entry in stack:
        for layer in entry if isinstance(entry, nn.Sequential) else (entry,):
            if getattr(layer, "upsamples", False):
                parts.append([])
            parts[-1].append(layer)
            if isinstance(layer, nn.AvgPool2d):
                parts.append([])
    return [nn.Sequential(*part) for part in parts if part]


def checkpointed(part: nn.Module, x: Tensor) -> Tensor:
    """Returns part(x), and keeps only x for backward: the same gradients, and the same BatchNorm statistics.

    `part` draws no randomness.
    """
    return checkpoint(
        part, x, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), StatisticsKept(part))
    )


class StatisticsKept:
    """Within it, BatchNorm counts on copies of its running statistics: backward repeats images that have been counted.

    The statistics themselves are not written to, as a graph that is still to be walked may hold them. A class instead
    of a generator, because a graph that is walked twice enters it twice.
    """

    def __init__(self, net: nn.Module):
        self._layers = batchnorms(net)

    def __enter__(self) -> None:
        self._own = [dict(layer.named_buffers()) for layer in self._layers]
        self._set([{name: buffer.clone() for name, buffer in buffers.items()} for buffers in self._own])

    def __exit__(self, *_: object) -> None:
        self._set(self._own)

    def _set(self, of_layers: list[dict[str, Tensor]]) -> None:
        for layer, buffers in zip(self._layers, of_layers, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)
