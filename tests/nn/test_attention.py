"""The attention of F4D, equation by equation, in plain loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from transfer3d.nn.attention import (
    Attention,
    ChannelAttention,
    ConvBlockAttention,
    SpatioTemporalAttention,
    SqueezeAttention,
    TemporalAttention,
)

UNITS, FRAMES, CHANNELS = 3, 4, 32
KINDS = ["none", "ta", "ca", "sta", "ta+ca", "ta+sta", "ca+sta", "ta+ca+sta"]


@pytest.fixture
def maps() -> Tensor:
    """Two videos' feature maps, rectified as in the block."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2 * UNITS, CHANNELS, FRAMES, 9, 8, generator=generator).relu()


def awake(module):
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return module.eval()


def dilated(sequence: Tensor, kernel: Tensor, dilation: int) -> Tensor:
    """A convolution of size 3 along the last axis, zeros around it, tap by tap."""
    length, result = sequence.shape[-1], torch.zeros_like(sequence)
    for at in range(length):
        for tap in range(3):
            seen = at + (tap - 1) * dilation
            if 0 <= seen < length:
                result[..., at] += kernel[tap] * sequence[..., seen]
    return result


def test_temporal_attention_is_equations_4_to_6(maps):
    module = awake(TemporalAttention())
    expected = maps.clone()
    for video in range(2):
        frames = [maps[video * UNITS + unit, :, frame] for unit in range(UNITS) for frame in range(FRAMES)]
        described = torch.stack([frame.mean() + frame.max() for frame in frames])
        paths = [dilated(described, p.weight[0, 0], d) for p, d in zip(module.paths, (2, 3), strict=True)]
        weights = torch.sigmoid(paths[0] + paths[1])
        for at, (unit, frame) in enumerate(itertools.product(range(UNITS), range(FRAMES))):
            expected[video * UNITS + unit, :, frame] *= 1 + weights[at]
    torch.testing.assert_close(module(maps, UNITS), expected)


def test_channel_attention_is_equations_7_to_9(maps):
    module = awake(ChannelAttention(CHANNELS))
    w0, w1 = module.squeeze.weight[:, :, 0, 0, 0], module.excite.weight[:, :, 0, 0, 0]
    assert w0.shape == (4, CHANNELS)
    expected = []
    for unit in maps:
        mlp = [w1 @ (w0 @ described).relu() for described in (unit.mean((1, 2, 3)), unit.amax((1, 2, 3)))]
        expected.append(unit + unit * torch.sigmoid(mlp[0] + mlp[1]).view(-1, 1, 1, 1))
    torch.testing.assert_close(module(maps, UNITS), torch.stack(expected))


def test_channel_attention_reduces_by_16():
    assert ChannelAttention(256).squeeze.out_channels == 16


def test_spatio_temporal_attention_is_equations_10_to_12(maps):
    module = awake(SpatioTemporalAttention())
    described = torch.stack((maps.mean(1), maps.amax(1)), 1)
    spatial = torch.zeros_like(described[:, 0])
    for path, dilation in zip(module.spatial, (2, 3), strict=True):
        padded = F.pad(described, (dilation,) * 4)
        height, width = maps.shape[-2:]
        for channel, row, column in itertools.product(range(2), range(3), range(3)):
            rows = slice(row * dilation, row * dilation + height)
            columns = slice(column * dilation, column * dilation + width)
            spatial += path.weight[0, channel, 0, row, column] * padded[:, channel, :, rows, columns]
    sequence = spatial.relu().movedim(1, -1)
    temporal = [
        dilated(sequence, p.weight[0, 0, :, 0, 0], d) for p, d in zip(module.temporal, (2, 3), strict=True)
    ]
    weights = torch.sigmoid(temporal[0] + temporal[1]).movedim(-1, 1)
    torch.testing.assert_close(module(maps, UNITS), maps * (1 + weights[:, None]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_spatio_temporal_attention_is_never_born_dead(maps, seed):
    torch.manual_seed(seed)
    module = SpatioTemporalAttention()
    module(maps, UNITS).square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_squeeze_and_excitation_weighs_channels_and_keeps_no_residual(maps):
    module = awake(SqueezeAttention(CHANNELS))
    fc1, fc2 = module.excite.fc1, module.excite.fc2
    hidden = (maps.mean((2, 3, 4)) @ fc1.weight.flatten(1).T + fc1.bias).relu()
    weights = torch.sigmoid(hidden @ fc2.weight.flatten(1).T + fc2.bias)
    torch.testing.assert_close(module(maps, UNITS), maps * weights[..., None, None, None])


def test_cbam_weighs_channels_then_places(maps):
    module = awake(ConvBlockAttention(CHANNELS))
    w0, w1 = module.channel.squeeze.weight.flatten(1), module.channel.excite.weight.flatten(1)
    channels = sum((d @ w0.T).relu() @ w1.T for d in (maps.mean((2, 3, 4)), maps.amax((2, 3, 4))))
    weighed = maps * torch.sigmoid(channels)[..., None, None, None]
    frames = torch.stack((weighed.mean(1), weighed.amax(1)), 1).transpose(1, 2).flatten(0, 1)
    places = F.conv2d(frames, module.spatial.weight.squeeze(2), padding=3).unflatten(0, (-1, FRAMES))
    torch.testing.assert_close(module(maps, UNITS), weighed * torch.sigmoid(places).transpose(1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_all_eight_combinations_apply_their_parts_in_order(maps, kind):
    module = awake(Attention(CHANNELS, kind))
    expected = maps
    for name in [] if kind == "none" else kind.split("+"):
        expected = module.parts[name](expected, UNITS)
    torch.testing.assert_close(module(maps, UNITS), expected)
    assert len(module.parts) == (0 if kind == "none" else kind.count("+") + 1)


@pytest.mark.parametrize("kind", ["", "ca+ta", "ta+ta", "se+ca", "attention"])
def test_other_combinations_are_refused(kind):
    with pytest.raises(ValueError, match="attention="):
        Attention(CHANNELS, kind)
