"""Pools as 2D pools on a view, against torch's 3D ones."""

import pytest
import torch
import torch.nn.functional as F

from transfer3d.nn.pooling import SpatialMaxPool, TemporalMaxPool, average_frames, average_pairs, halve

FORMATS = [torch.contiguous_format, torch.channels_last_3d]
SIZES = [(1, 8, 8), (2, 7, 5), (5, 6, 9), (8, 3, 4)]


def clips(size, memory_format, **kwargs):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), **kwargs)
    return x.to(memory_format=memory_format).requires_grad_()


def assert_same(pool, reference, x):
    """Values, gradients and, where they can differ, the layout in memory."""
    actual, expected = pool(x), reference(x)
    assert torch.equal(actual, expected)
    upstream = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad(y, x, upstream)[0] for y in (actual, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])
    if min(actual.shape) > 1:
        last = x.is_contiguous(memory_format=torch.channels_last_3d)
        assert actual.is_contiguous(memory_format=torch.channels_last_3d) == last


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pool", [(3, 2, 1, False), (3, 2, 0, True), (3, 1, 1, True), (2, 2, 0, True)])
def test_spatial_max_pool(size, pool, memory_format):
    kernel, stride, padding, ceil_mode = pool

    def reference(x):
        return F.max_pool3d(
            x, (1, kernel, kernel), (1, stride, stride), (0, padding, padding), ceil_mode=ceil_mode
        )

    ours = SpatialMaxPool(kernel, stride, padding, ceil_mode=ceil_mode)
    assert_same(ours, reference, clips(size, memory_format))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride", [(2, 2), (3, 2), (3, 1)])
def test_temporal_max_pool(size, kernel, stride, memory_format):
    padding = kernel // 2 if kernel % 2 else 0

    def reference(x):
        x = F.pad(x, (0, 0, 0, 0, padding, padding + kernel), value=-torch.inf)
        frames = -(-size[0] // stride)
        return F.max_pool3d(x, (kernel, 1, 1), (stride, 1, 1))[:, :, :frames]

    assert_same(TemporalMaxPool(kernel, stride), reference, clips(size, memory_format))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_averages(size, memory_format):
    x = clips(size, memory_format)
    frames = x.transpose(1, 2).flatten(0, 1)

    def of_frames(**kwargs):
        return F.avg_pool2d(frames, 2, **kwargs).unflatten(0, (2, -1)).transpose(1, 2)

    exact = of_frames(ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(average_frames(x, 2, ceil_mode=True), exact)
    torch.testing.assert_close(average_frames(x, 2, ceil_mode=False), of_frames())
    pairs = [x[:, :, start : start + 2].mean(2) for start in range(0, size[0], 2)]
    torch.testing.assert_close(average_pairs(x), torch.stack(pairs, 2))
    torch.testing.assert_close(halve(x), average_pairs(of_frames()))


@pytest.mark.parametrize("pool", [SpatialMaxPool(3, 2, 1), TemporalMaxPool(), halve])
def test_autocast_stays_in_bf16(pool):
    with torch.autocast("cpu", torch.bfloat16):
        assert pool(clips((4, 8, 8), torch.channels_last_3d).bfloat16()).dtype == torch.bfloat16
