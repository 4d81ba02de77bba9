"""Depthwise convolutions, 2D and 3D, whose gradients are fast on a CPU.

In oneDNN, torch's CPU library, the forward pass of a depthwise convolution is fast, but its gradients can
take a hundred times as long: in 3D, in bf16, and for the weights of large kernels. Both gradients are
depthwise convolutions themselves: the input's uses the flipped kernel, the weight's uses the output's
gradient as its kernel. `backward` computes them so wherever that was measured to be faster, else by torch's
own code.
"""

from __future__ import annotations

import itertools
import operator
import platform
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.nn.memory_format import FORMATS

DTYPES = (torch.float32, torch.bfloat16)
FLAT = 4  # axes of a 2D convolution's kernel
FEW_TAPS, MANY_TAPS = 11, 25  # kernel sizes from which the weight gradient is faster here


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """`F.conv2d` or `F.conv3d`, by the number of axes, with fast gradients if it is depthwise on a CPU.

    Args:
        x: `B C H W` or `B C T H W`.
        weight: `C' C/groups kh kw` or `C' C/groups kt kh kw`.
        bias: `C'`.
        stride: per axis.
        padding: rows of zeros on both sides, per axis.
        dilation: per axis.
        groups: 1 to C.
    """
    if _has_slow_gradients(x, weight, groups):
        if torch.is_autocast_enabled("cpu"):
            low = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(low), weight.to(low), None if bias is None else bias.to(low)
        return Depthwise.apply(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation))
    return _convolve(x, weight, bias, stride, padding, dilation, groups)


class Depthwise(torch.autograd.Function):
    """A convolution of every channel by its own kernel; arguments as for `convolution`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> Tensor:
        """`B C ...` to `B C ...'`."""
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation
        return _convolve(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of `x`, `weight` and `bias`, where they are needed."""
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        by_input, by_weight, by_bias, *_ = ctx.needs_input_grad
        theirs = [by_input, by_weight, False]
        of_input = of_weight = None
        with torch.autocast("cpu", enabled=False):  # the tensors have the forward's type
            if by_input and _input_gradient_is_faster(x, weight, stride, padding, dilation):
                of_input, theirs[0] = input_gradient(gradient, x, weight, *ctx.geometry), False
            if by_weight and _weight_gradient_is_faster(x, weight, stride, dilation):
                of_weight, theirs[1] = weight_gradient(gradient, x, weight, *ctx.geometry), False
            if any(theirs):
                still = (False, (0,) * len(stride), len(weight), theirs)  # False: not transposed
                left = torch.ops.aten.convolution_backward(
                    gradient, x, weight, None, stride, padding, dilation, *still
                )
                of_input = left[0] if theirs[0] else of_input
                of_weight = left[1] if theirs[1] else of_weight
            of_bias = gradient.sum((0, *range(2, gradient.ndim))) if by_bias else None
        return of_input, of_weight, of_bias, None, None, None


def input_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Convolves the output's gradient, dilated by the stride, with the flipped kernel.

    Padding must be below a kernel's extent on every axis.
    """
    axes = range(2, weight.ndim)
    around = [
        step * (size - 1) - pad for step, size, pad in zip(dilation, weight.shape[2:], padding, strict=True)
    ]
    spread = _spread(gradient, x, weight, stride, padding, dilation)
    ones = (1,) * len(around)
    return _convolve(spread, weight.flip(tuple(axes)), None, ones, around, dilation, len(weight))


def weight_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Convolves each sample with its output's gradient as the kernel; sums the samples in fp32 or higher.

    With channels last, every sample is a view. In 2D a stride becomes a dilation. In 3D, where oneDNN has no
    fast dilation, the taps are computed in groups that read every stride-th value of the input.
    """
    gradient = gradient.contiguous(memory_format=FORMATS[x.ndim])
    if weight.ndim == FLAT or max(stride) == 1:
        return _taps(gradient, x, stride, padding, dilation, weight.shape[2:]).to(weight.dtype)
    x = F.pad(x, [rows for pad in reversed(padding) for rows in (pad, pad)])
    result = weight.new_zeros(weight.shape)
    for first in itertools.product(*map(range, stride)):
        mine = (..., *map(slice, first, (None,) * len(first), stride))
        sizes = result[mine].shape[2:]
        if min(sizes):
            result[mine] = _taps(gradient, x[mine], (1,) * len(first), (0,) * len(first), dilation, sizes)
    return result


def _taps(
    gradient: Tensor,
    x: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    sizes: Sequence[int],
) -> Tensor:
    """Returns the first `sizes` taps of the weight's gradient, `C 1 ...`, in fp32 or higher."""
    x = x.contiguous(memory_format=FORMATS[x.ndim])
    wide = torch.promote_types(x.dtype, torch.float32)
    total = torch.zeros((), dtype=wide)
    for sample in range(len(x)):
        kernel = gradient[sample, :, None]
        taps = _convolve(x[sample, None], kernel, None, dilation, padding, stride, x.shape[1])
        total = total + taps.to(wide)
    for axis, size in enumerate(sizes, 2):  # the input may extend past the kernel's last position
        total = total.narrow(axis, 0, size)
    return total.transpose(0, 1)


def _spread(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Inserts zeros between the values, so that the result has the size of a stride-1 output."""
    if max(stride) == 1:
        return gradient
    sizes = [
        size + 2 * pad - step * (taps - 1)
        for size, pad, step, taps in zip(x.shape[2:], padding, dilation, weight.shape[2:], strict=True)
    ]
    zeros = gradient.new_zeros((*gradient.shape[:2], *sizes)).contiguous(memory_format=FORMATS[x.ndim])
    zeros[(..., *(slice(None, None, step) for step in stride))] = gradient
    return zeros


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    apply = F.conv2d if len(stride) == 2 else F.conv3d  # torch.fx proxies have no ndim
    return apply(x, weight, bias, stride, padding, dilation, groups)


def _has_slow_gradients(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether a slow gradient is needed; always False in compiled or exported code."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not torch.is_grad_enabled():
        return False
    if type(x) not in (Tensor, nn.Parameter) or torch._C._are_functorch_transforms_active():
        return False  # a proxy of torch.fx, or a transform of torch.func
    if not (groups == len(weight) == x.shape[1] > 1 and x.device.type == "cpu" and x.numel()):
        return False
    low = torch.is_autocast_enabled("cpu")
    dtypes = {torch.get_autocast_dtype("cpu")} if low else {x.dtype, weight.dtype}
    known = len(dtypes) == 1 and dtypes <= {*DTYPES} and {x.dtype, weight.dtype} <= {*DTYPES}
    return known and (x.requires_grad or weight.requires_grad) and _has_onednn()


def _has_onednn() -> bool:
    """Whether torch uses oneDNN's own kernels, which were measured; on ARM it uses others."""
    on = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return bool(on) and platform.machine().lower() in ("x86_64", "amd64")


def _input_gradient_is_faster(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    kernel, low, strided = weight.shape[2:], x.dtype == torch.bfloat16, max(stride) > 1
    if max(dilation) > 1 or any(map(operator.ge, padding, kernel)):
        return False
    if weight.ndim == FLAT:
        return low and (strided or (_has_channels_last(x) and min(kernel) > 1))
    return low or all(map(operator.ge, kernel, stride))


def _weight_gradient_is_faster(
    x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int]
) -> bool:
    low, fast = x.dtype == torch.bfloat16, x.dtype == torch.bfloat16 and _has_channels_last(x)
    if max(dilation) > 1:
        return False
    if weight.ndim == FLAT and low and any(map(operator.lt, x.shape[2:], weight.shape[2:])):
        return True  # there torch computes it from uninitialised memory, see `convolution.convolve`
    if max(stride) > 1 and not fast:
        return False
    few = 0 if weight.ndim > FLAT else FEW_TAPS
    return weight[0].numel() >= (few if fast else MANY_TAPS)


def _has_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=FORMATS[x.ndim])
