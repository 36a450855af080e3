"""BatchNorm in training on a CPU, and the statistics that it uses when a trained network is run: running averages, the
batch's own, or recomputed averages.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MANY = 2**17  # pixels of one channel in a batch; published batches of 28 and 32 pixels a side have fewer


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's layer, [N, C, H, W] -> [N, C, H, W], as exact for large images as for small ones.

    In channels_last on a CPU, PyTorch adds up the pixels of a channel one by one in float32: the more there are, the
    more digits mean, variance and gradients lose. A batch of more than MANY pixels a channel is normalized in the
    contiguous layout, where partial sums keep them.
    """

    def forward(self, input: Tensor) -> Tensor:
        many = self.training and input.device.type == "cpu" and input.numel() > MANY * self.num_features
        if not many or input.is_contiguous():
            return super().forward(input)
        return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)


def batchnorms(net: nn.Module) -> list[_BatchNorm]:
    """Returns the BatchNorm layers of a network, in order."""
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Normalizes every batch by its own mean and variance; on exit, the network and its averages are as before."""
    layers = batchnorms(net)
    flags = [layer.training for layer in layers]
    with restored(layers):
        try:
            for layer in layers:
                layer.train()
            yield
        finally:
            for layer, flag in zip(layers, flags, strict=True):
                layer.train(flag)


@contextmanager
def restored(layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Restores running averages on exit."""
    buffers = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@torch.no_grad()
def recalibrate(net: nn.Module, run: Callable[[], object]) -> None:
    """Replaces the running averages by plain averages over the batches that `run` passes through the network."""
    layers = batchnorms(net)
    momenta, flags = [layer.momentum for layer in layers], [layer.training for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
        layer.train()
    try:
        run()
    finally:
        for layer, momentum, flag in zip(layers, momenta, flags, strict=True):
            layer.momentum = momentum
            layer.train(flag)


@torch.no_grad()
def disagreement(net: nn.Module, x: Tensor, batches: Sequence[Tensor] = ()) -> float:
    """Root mean square difference of net(x) between running averages and recomputed ones, in units of the output.

    Averages are recomputed over `batches`, or over x.
    """
    running = net(x)
    with restored(batchnorms(net)):
        recalibrate(net, lambda: [net(batch) for batch in batches or (x,)])
        recomputed = net(x)
    return (running - recomputed).square().mean().sqrt().item()
