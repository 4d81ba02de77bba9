"""The factorised 4D convolution of F4D: its size, and that it is what it says."""

from math import prod

import pytest
import torch

from transfer3d.nn.conv4d import conv4d
from transfer3d.nn.factorised4d import Factorised4d, FactorisedBlock, intermediate_channels
from transfer3d.nn.units import fold_units, unfold_units


@pytest.mark.parametrize("kernel", [(3, 3, 3, 3), (3, 1, 3, 3), (5, 3, 1, 1)])
@pytest.mark.parametrize("in_channels, out_channels", [(24, 24), (48, 96), (192, 192), (5, 64)])
def test_holds_as_much_as_the_full_kernel_to_within_one_filter(kernel, in_channels, out_channels):
    """Section 3.3."""
    layer = Factorised4d(in_channels, out_channels, kernel)
    factors = layer.spatial.weight.numel() + layer.temporal.weight.numel()
    full = prod(kernel) * in_channels * out_channels
    one_filter = kernel[0] * kernel[2] * kernel[3] * in_channels + kernel[1] * out_channels
    assert full - one_filter < factors <= full


def test_widths_of_resnet50_s_blocks():
    """3C/32 channels inside; M by the paper's formula, written out."""
    for channels, inner in ((256, 24), (512, 48), (1024, 96), (2048, 192)):
        block = FactorisedBlock(channels, attention="none")
        assert block.reduce.out_channels == block.expand.in_channels == inner
        expected = (81 * inner * inner) // (27 * inner + 3 * inner)
        assert intermediate_channels(inner, inner, (3, 3, 3, 3)) == expected
        assert block.factorised.spatial.weight.shape[0] == expected


def test_is_a_convolution_over_units_and_space_then_one_over_time():
    layer = Factorised4d(4, 6).double().eval()
    clips = torch.randn(2 * 3, 4, 5, 4, 4, dtype=torch.float64)
    between = conv4d(unfold_units(clips, 3), layer.spatial.weight)
    between = layer.norm(fold_units(between)).relu()
    expected = conv4d(unfold_units(between, 3), layer.temporal.weight[:, :, None])
    torch.testing.assert_close(layer(clips, 3), fold_units(expected), rtol=0, atol=1e-12)


def test_full_width_has_no_reduction():
    block = FactorisedBlock(8, width=None, attention="none")
    assert not isinstance(block.reduce, torch.nn.Conv3d)
    assert block.factorised.spatial.weight.shape[1] == 8
