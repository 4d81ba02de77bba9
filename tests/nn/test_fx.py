"""Students recorded by `torch.fx.symbolic_trace` answer and learn as before."""

import copy

import pytest
import torch
from torch import fx, nn

import transfer3d
from transfer3d.errors import UsageError
from transfer3d.nn.convolution import ConvNorm, conv3d
from transfer3d.nn.pooling import TemporalMaxPool, halve

UNTRACEABLE = ("timesformer_tiny", "video_swin_tiny", "vivit_tiny")
"""Patches and windows are checked against the clip's size, by timm's code too: fx has no numbers for it."""
TRACEABLE = sorted({*transfer3d.list_models("*_tiny")} - {*UNTRACEABLE})


def clips_of(student, batch, frames=0):
    shape = list(student.clip.shape(batch))
    shape[-3] += frames
    return torch.randn(shape, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("grad", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("name", TRACEABLE)
def test_a_symbolic_trace_of_a_student_answers_alike(name, grad):
    student = transfer3d.create_model(name, num_classes=5).eval()
    with torch.set_grad_enabled(grad):
        traced = fx.symbolic_trace(student)
        for clips in (clips_of(student, 2), clips_of(student, 3, frames=1)):
            torch.testing.assert_close(traced(clips), student(clips), rtol=0, atol=1e-6)
    pixels = torch.randint(0, 256, student.clip.shape(1), dtype=torch.uint8)
    torch.testing.assert_close(traced(pixels), student(pixels), rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match=r"takes B .*C T H W"):
        traced(clips_of(student, 1)[0])


@pytest.mark.parametrize("name", ["p3d_tiny", "v4d_tiny"])
def test_a_symbolic_trace_of_a_student_learns_alike(name):
    student = transfer3d.create_model(name, num_classes=5).train()
    traced = fx.symbolic_trace(copy.deepcopy(student))
    for module in (student, traced):
        module(clips_of(student, 2)).square().mean().backward()
    for (key, ours), theirs in zip(student.named_parameters(), traced.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad, msg=key)


@pytest.mark.parametrize(
    "layer",
    [
        conv3d(3, 4, (3, 3, 3)),
        conv3d(3, 4, (2, 3, 3)),
        conv3d(3, 3, (3, 3, 3), groups=3),
        ConvNorm(3, 4, (3, 1, 1), stride=(2, 1, 1)),
        TemporalMaxPool(),
        nn.Sequential(conv3d(3, 4, (1, 3, 3)), TemporalMaxPool(3, 1)),
    ],
)
def test_layers_by_themselves(layer):
    traced = fx.symbolic_trace(layer)
    for frames in (1, 2, 5):  # shorter than a kernel, even, odd
        clips = torch.randn(2, 3, frames, 8, 8)
        assert torch.equal(traced(clips), layer(clips))
        assert torch.equal(fx.symbolic_trace(halve)(clips), halve(clips))


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_transformers_cannot_be_traced(name):
    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(transfer3d.create_model(name, num_classes=5))
