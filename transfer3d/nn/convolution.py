"""3D convolutions with He et al.'s initialisation, alone or followed by BatchNorm and ReLU."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.layout import Triple
from transfer3d.nn.depthwise import convolution
from transfer3d.nn.leaf import leaf

Convolution = Callable[[Tensor, Tensor, Tensor | None, Triple, Triple, Triple, int], Tensor]
"""Of input, weight and bias, with stride, padding, dilation and groups."""


@leaf
def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Triple = (1, 1, 1),
    groups: int = 1,
    padding: tuple[int, int] | None = None,
    dilation: Triple = (1, 1, 1),
    *,
    by: Convolution | None = None,
) -> Tensor:
    """Convolves `B C T H W` with `C' C/groups kt kh kw`; output size is input size / stride, rounded up.

    `padding` in H and W is half the kernel by default. An even temporal depth gets one more frame of zeros
    after the clip than before it. `by` computes the convolution of what is padded, by default
    `depthwise.convolution`.

    In training, a clip shorter than the kernel is padded explicitly before the convolution; in bf16 on a CPU,
    so is any map smaller than the kernel. Otherwise torch 2.15 computes the weights' gradient from
    uninitialised memory, which makes it wrong or infinite (see `tests/nn/test_small_maps.py`).
    """
    depth, before = weight.shape[2], (weight.shape[2] - 1) // 2
    after = before + 1 - depth % 2
    height, width = padding or (weight.shape[3] // 2, weight.shape[4] // 2)
    trains = torch.is_grad_enabled() and not torch.jit.is_tracing()  # traces must not depend on the mode
    if trains and _is_bf16_on_cpu(x) and any(map(operator.lt, x.shape[2:], weight.shape[2:])):
        x, before, height, width = F.pad(x, (width, width, height, height, before, after)), 0, 0, 0
    elif trains and before and x.shape[2] < depth:
        x, before = F.pad(x, (0, 0, 0, 0, before, after)), 0
    elif after > before:
        x = F.pad(x, (0, 0, 0, 0, 0, 1))
    return (by or convolution)(x, weight, bias, stride, (before, height, width), dilation, groups)


def _is_bf16_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and (x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"))


class Conv3d(nn.Conv3d):
    """`convolve` as a layer.

    Attributes:
        convolution: computes it, by default `depthwise.convolution`.
    """

    convolution: Convolution | None = None

    def kernel(self) -> Tensor:
        """Returns the kernel, `O I/groups T H W`: its weights."""
        return self.weight

    def forward(self, input: Tensor) -> Tensor:  # the base class's name for it
        """`B C T H W` to `B C' T' H' W'`."""
        _, height, width = (int(pad) for pad in self.padding)
        stride, dilation = _triple(self.stride), _triple(self.dilation)
        padding, by = (height, width), self.convolution
        return convolve(input, self.kernel(), self.bias, stride, self.groups, padding, dilation, by=by)


def _triple(values: tuple[int, ...]) -> Triple:
    time, height, width = values
    return time, height, width


def conv3d(
    in_channels: int,
    out_channels: int,
    kernel: Triple,
    *,
    stride: Triple = (1, 1, 1),
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv3d:
    """Builds a 3D convolution whose output size is the input size divided by the stride, rounded up.

    A temporal depth d covers (d - 1) // 2 frames before and d // 2 after. Weights are drawn as in He et al.,
    "Delving Deep into Rectifiers" (arXiv:1502.01852), reference [14] of T3D.
    """
    padding = ((kernel[0] - 1) // 2, kernel[1] // 2, kernel[2] // 2)
    conv = Conv3d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ConvNorm(nn.Module):
    """Convolution, BatchNorm and, unless `act` is False, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        *,
        stride: Triple = (1, 1, 1),
        groups: int = 1,
        act: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = conv3d(in_channels, out_channels, kernel, stride=stride, groups=groups)
        self.norm = nn.BatchNorm3d(out_channels, eps)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C' T' H' W'`."""
        return self.act(self.norm(self.conv(x)))
