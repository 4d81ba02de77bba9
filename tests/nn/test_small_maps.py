"""Maps smaller than the kernel: in bf16 on a CPU torch computes the weight gradient from unwritten memory."""

import itertools

import pytest
import torch

from transfer3d.nn.convolution import convolve

KERNELS = [(1, 3, 3), (3, 3, 3), (3, 1, 1), (1, 5, 5), (1, 7, 7), (3, 5, 5), (2, 3, 3)]
SIZES = [(4, 1, 1), (4, 2, 2), (1, 1, 1), (2, 1, 1), (4, 1, 2), (1, 2, 2), (4, 3, 3)]
CELLS = list(itertools.product(KERNELS, (1, 2), SIZES, (1, 16), (1, 4), (False, True)))


def gradients(kernel, stride, size, groups, batch, last, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 16, *size, generator=generator).to(dtype)
    weight = (torch.randn(16, 16 // groups, *kernel, generator=generator) / 10).to(dtype)
    if last:
        x, weight = (tensor.contiguous(memory_format=torch.channels_last_3d) for tensor in (x, weight))
    x.requires_grad_()
    weight.requires_grad_()
    for count in (1 << 10, 1 << 14, 1 << 18):
        torch.full((count,), 3e30)  # what freed memory holds
    y = convolve(x, weight, None, (1, stride, stride), groups)
    return [gradient.float() for gradient in torch.autograd.grad(y.float().square().sum(), (x, weight))]


def check(cells):
    for cell in cells:
        expected = gradients(*cell, torch.float32)
        for _ in range(3):
            for found, exact in zip(gradients(*cell, torch.bfloat16), expected, strict=True):
                error = (found - exact).abs().max() / exact.abs().max().clamp(min=1e-3)
                assert float(error) < 0.1, cell


def test_gradients_of_a_strided_convolution_over_one_pixel_are_those_of_fp32():
    check(cell for cell in CELLS if cell[:2] == ((1, 3, 3), 2) and cell[3] == 1)


@pytest.mark.slow
def test_gradients_over_the_whole_grid_are_those_of_fp32():
    check(CELLS)


def test_the_guard_does_not_change_fp32():
    x, weight = torch.randn(2, 4, 3, 1, 1), torch.randn(4, 4, 1, 3, 3, requires_grad=True)
    plain = torch.nn.functional.conv3d(x, weight, None, (1, 2, 2), (0, 1, 1))
    assert torch.equal(convolve(x, weight, None, (1, 2, 2)), plain)
