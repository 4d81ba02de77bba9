"""Weight-standardised convolutions over clips: timm's own layers, on still clips and whatever the weights."""

import pytest
import torch
from timm import layers

from transfer3d.nn.framewise import FrameCount, TemporalConv
from transfer3d.nn.standardised import STANDARDISED


def make(kind, depth, **options):
    flat = getattr(layers, kind)(4, 6, 3, **{"eps": 1e-5, **options})
    for parameter in flat.parameters():
        torch.nn.init.normal_(parameter)
    count = FrameCount()
    count.frames = 5
    temporal = TemporalConv(flat, depth, count, same=getattr(flat, "same_pad", False))
    torch.nn.init.normal_(temporal.conv.weight)
    temporal.conv.load_state_dict({**flat.state_dict(), "weight": temporal.conv.weight})
    return flat, temporal


KINDS = [kind.__name__ for kind in STANDARDISED]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 2, "bias": True}])
@torch.no_grad()
def test_on_a_still_clip_it_is_timms_layer_with_the_sum_of_its_taps(kind, options):
    """Away from the ends of the clip, where zeros are padded; for weights of any values."""
    flat, temporal = make(kind, 3, **options)
    flat.weight[:] = temporal.conv.weight.sum(2)
    frame = torch.randn(1, 4, 7, 8)
    torch.testing.assert_close(
        temporal(frame.expand(5, -1, -1, -1))[1:-1], flat(frame).expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_one_tap_of_many_is_timms_layer_at_the_ends_of_a_clip_too(kind):
    flat, temporal = make(kind, 3)
    temporal.conv.weight.zero_()
    temporal.conv.weight[:, :, 1] = flat.weight
    frames = torch.randn(5, 4, 7, 8)
    torch.testing.assert_close(temporal(frames), flat(frames), rtol=1e-4, atol=1e-5)


def test_the_scale_is_that_of_the_2d_fan_in_and_every_weight_learns():
    _, temporal = make("ScaledStdConv2d", 3, gamma=1.7)
    assert temporal.conv.scale == pytest.approx(1.7 / 36**0.5)
    temporal(torch.randn(5, 4, 7, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in temporal.parameters())
    assert {name for name, _ in temporal.conv.named_parameters()} == {"weight", "bias", "gain"}
