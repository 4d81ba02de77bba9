"""Conv4d against equation (1) of V4D, summed directly, and against the identities that the paper states."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from transfer3d.nn.conv4d import Conv4d, conv4d
from transfer3d.nn.units import fold_units, unfold_units

KERNELS = (
    (3, 1, 1, 1), (3, 3, 1, 1), (3, 3, 3, 3),  # the paper's forms
    (5, 1, 1, 1), (5, 3, 1, 1), (3, 1, 3, 3), (1, 3, 3, 3), (1, 3, 1, 1), (3, 3, 1, 3), (5, 5, 3, 1),
    (1, 1, 1, 1),
)  # fmt: skip
SIZES = ((4, 4, 5, 6), (1, 3, 2, 4), (2, 1, 3, 3), (5, 2, 1, 4))


def direct_sum(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Equation (1), one tap (s, p, q, r) after the other, on an input with zeros around it."""
    kernel, sizes = weight.shape[2:], x.shape[2:]
    padding = [extent // 2 for extent in reversed(kernel) for _ in range(2)]
    padded = F.pad(x, padding)
    y = bias.view(1, -1, 1, 1, 1, 1).expand(x.shape[0], -1, *sizes).clone()
    for tap in itertools.product(*map(range, kernel)):
        window = padded[(..., *(slice(at, at + size) for at, size in zip(tap, sizes, strict=True)))]
        y += torch.einsum("oc,bcuthw->bouthw", weight[(..., *tap)], window)
    return y


def random_case(
    kernel: tuple[int, ...], size: tuple[int, ...], *, batch: int, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(sum(kernel) * 100 + sum(size))

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    x = draw(batch, *size, 3).movedim(-1, 1) if channels_last else draw(batch, 3, *size)
    return x.requires_grad_(), draw(4, 3, *kernel).requires_grad_(), draw(4).requires_grad_()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", SIZES)
def test_equals_equation_1_forward_and_backward(kernel, size, channels_last, batch):
    x, weight, bias = random_case(kernel, size, batch=batch, channels_last=channels_last)
    ours, reference = conv4d(x, weight, bias), direct_sum(x, weight, bias)
    assert ours.shape == reference.shape
    assert torch.allclose(ours, reference, rtol=0, atol=1e-12)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = torch.autograd.grad(ours, (x, weight, bias), upstream)
    expected = torch.autograd.grad(reference, (x, weight, bias), upstream)
    for mine, true in zip(got, expected, strict=True):
        assert (mine - true).norm() <= 1e-12 * max(float(true.norm()), 1.0)


@pytest.mark.parametrize(("extent", "units", "frames"), [(3, 4, 4), (5, 4, 2), (3, 2, 3)])
def test_a_kernel_over_units_alone_is_a_dilated_3d_convolution(extent, units, frames):
    """Section 3.5: of dilation T over the U*T frames, one unit after the other."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, units, frames, 4, 5, generator=random, dtype=torch.float64)
    weight = torch.randn(6, 3, extent, 1, 1, 1, generator=random, dtype=torch.float64)
    dilated = F.conv3d(
        x.flatten(2, 3),
        weight.squeeze(3),
        dilation=(frames, 1, 1),
        padding=(frames * (extent // 2), 0, 0),
    )
    assert torch.allclose(conv4d(x, weight).flatten(2, 3), dilated, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [(3, 3, 1, 1), (3, 1, 3, 3), (3, 3, 3, 3), (5, 1, 1, 1)])
@pytest.mark.parametrize(("units", "frames"), [(1, 2), (2, 4), (3, 1), (4, 2)])
def test_bf16_gradients_are_those_of_double_precision(kernel, units, frames):
    """Also where there are fewer units or frames than taps, and the memory is littered with infinities."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, units, frames, 4, 4, generator=random)
    layer = Conv4d(8, 8, kernel)
    expected = torch.autograd.grad(
        direct_sum(x.double(), weight := layer.weight.double(), torch.zeros(8).double()).square().sum(),
        weight,
    )[0]
    for _ in range(5):
        for count in torch.randint(100, 100_000, (20,), generator=random).tolist():
            torch.full((count,), float("inf"))
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        (got,) = torch.autograd.grad(y.float().square().sum(), layer.weight)
        assert (got - expected).norm() < 0.02 * expected.norm()


def test_weight_has_the_paper_s_axes_and_count():
    layer = Conv4d(8, 16, (3, 5, 1, 1), bias=True)
    assert layer.weight.shape == (16, 8, 3, 5, 1, 1)
    assert sum(p.numel() for p in layer.parameters()) == 16 * 8 * 15 + 16


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd"):
        Conv4d(3, 3, (2, 3, 1, 1))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_units_go_out_of_the_batch_and_back(memory_format):
    clips = torch.randn(6, 4, 2, 3, 5).to(memory_format=memory_format)
    units = unfold_units(clips, 3)
    assert torch.equal(units[1, :, 2], clips[5])
    assert torch.equal(fold_units(units), clips)


def test_channels_last_clips_are_folded_without_a_copy():
    clips = torch.randn(6, 4, 2, 3, 5).to(memory_format=torch.channels_last_3d)
    units = unfold_units(clips, 3)
    assert units.flatten(4).data_ptr() == clips.data_ptr()
    assert fold_units(units).data_ptr() == clips.data_ptr()
    assert conv4d(units, torch.randn(4, 4, 3, 3, 1, 1)).stride(1) == 1
