"""BatchNorm in training on a CPU, and the statistics that it uses when a trained network is run: running averages, the
batch's own, or recomputed averages.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import TracingContext
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

# Pixels of one channel in a batch, up to which PyTorch's sums in channels_last keep enough digits for the type.
MANY = {torch.float32: 2**14, torch.bfloat16: 2**20}
LONG = 2**12  # pixels that one sum adds up at most, where a batch can be cut into groups


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's layer, [N, C, H, W] -> [N, C, H, W], as exact for large images as for small ones.

    In channels_last on a CPU, PyTorch adds up the pixels of a channel one by one in float32: the more there are, the
    more digits mean, variance and gradients lose. From more than MANY pixels on, groups of them are added up.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self._loses_digits(input):
            return super().forward(input)
        if input.numel() > MANY[torch.float32] * self.num_features * _groups(input):  # few powers of 2 divide it
            return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)
        mean, var = _statistics(input)
        self._count(mean, var, input.numel() // self.num_features)
        return _Normalize.apply(input, self.weight, self.bias, mean, var, self.eps)

    def _loses_digits(self, x: Tensor) -> bool:
        if not (self.training and self.affine and x.device.type == "cpu"):
            return False
        if torch.compiler.is_compiling() or TracingContext.try_get() is not None:
            return False  # a compiler makes its own sums of PyTorch's layer, and may not know the size of a batch
        many = x.numel() > MANY.get(x.dtype, math.inf) * self.num_features
        return many and x.is_contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _count(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Moves the running averages as PyTorch's layer does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (n / (n - 1)), share)


def _groups(x: Tensor) -> int:
    """Into how many groups of equal size the pixels of a channel are cut: a power of 2, as far as it divides them."""
    pixels = x.numel() // x.shape[1]
    return math.gcd(pixels, 1 << (pixels // LONG).bit_length())


def _grouped(x: Tensor) -> Tensor:
    """Views [N, C, H, W] in channels_last as [P, G C, 1, 1]: each of G neighboring pixels gets channels of its own."""
    return x.permute(0, 2, 3, 1).reshape(-1, _groups(x) * x.shape[1], 1, 1)


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel: [N, C, H, W] -> two [C]. Those of groups are merged in float64."""
    pixels = _grouped(x)
    averages = torch.zeros(2, pixels.shape[1])  # nobody's; float32, as the results then are for bfloat16, too
    of_groups = torch.batch_norm_update_stats(pixels, averages[0], averages[1], 0.0)
    means, variances = (part.view(-1, x.shape[1]).double() for part in of_groups)
    return means.mean(dim=0).float(), (variances.mean(dim=0) + means.var(dim=0, correction=0)).float()


class _Normalize(torch.autograd.Function):
    """Batch normalization by statistics that were computed from its input, which gradients pass through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative will be asked for
            found = _differentiable_gradients(grads[0], x, weight, ctx.eps)
        else:
            found = _gradients(grads[0].contiguous(memory_format=torch.channels_last), x, weight, mean, var, ctx.eps)
        return (*found, None, None, None)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias, from sums over groups of pixels: [N, C, H, W], [C] and [C]."""
    of_output, pixels, groups = _grouped(grad), _grouped(x), _groups(x)
    statistics = (mean.repeat(groups), var.repeat(groups))
    sums = torch.ops.aten.native_batch_norm_backward(
        of_output, pixels, None, *statistics, None, None, False, eps, [False, True, True]
    )
    of_weight, of_bias = (part.view(groups, -1).double().sum(dim=0) for part in sums[1:])
    scale = (var.double() + eps).rsqrt()
    n, on_grad = x.numel() // len(mean), weight.double() * scale
    on_input = -on_grad * scale * of_weight / n
    shift = -on_grad * of_bias / n - on_input * mean.double()
    each = [factor.float().repeat(groups).view(1, -1, 1, 1) for factor in (shift, on_input, on_grad)]
    of_input = torch.addcmul(each[0], pixels, each[1]).addcmul_(of_output, each[2]).to(x.dtype)
    return of_input.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), of_weight.float(), of_bias.float()


def _differentiable_gradients(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same in operations that have derivatives: slower, and with more memory."""
    pixels = (0, 2, 3)
    var, mean = torch.var_mean(x, pixels, correction=0, keepdim=True)
    scale = (var + eps).rsqrt()
    normalized = (x - mean) * scale
    of_bias, of_weight = (each.sum(pixels, keepdim=True) for each in (grad, grad * normalized))
    n = x.numel() // x.shape[1]
    of_input = weight.view(1, -1, 1, 1) * scale * (grad - (of_bias + normalized * of_weight) / n)
    return of_input, of_weight.flatten(), of_bias.flatten()


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
