"""Convolutions of clips that are shorter than the kernel."""

import pytest
import torch
from torch.nn import functional

from transfer3d.nn.convolution import conv3d


def litter() -> None:
    """Leaves infinities in the memory that the next allocations get."""
    for count in torch.randint(100, 200_000, (20,)).tolist():
        torch.full((count,), float("inf"))


@pytest.mark.parametrize("kernel", [(3, 1, 1), (3, 3, 3), (4, 3, 3), (6, 3, 3)])
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_gradients_depend_on_nothing_but_weights_and_input(kernel, frames):
    torch.manual_seed(0)
    conv = conv3d(8, 16, kernel).to(memory_format=torch.channels_last_3d)
    clips = torch.randn(4, 8, frames, 4, 4)
    gradients = []
    for _ in range(8):
        litter()
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = conv(clips)
        out.float().square().sum().backward()
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad.clone())
    assert all(torch.equal(gradients[0], gradient) for gradient in gradients)
    assert torch.isfinite(gradients[0]).all()


@pytest.mark.parametrize("kernel", [(3, 3, 3), (4, 3, 3), (6, 1, 1), (1, 3, 3)])
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize("grad", [True, False])
def test_the_result_is_that_of_a_valid_convolution_of_the_padded_clip(kernel, frames, grad):
    torch.manual_seed(0)
    conv, clips = conv3d(2, 3, kernel, stride=(1, 2, 2)), torch.randn(2, 2, frames, 6, 5)
    (depth, height, width) = kernel
    pad = (width // 2,) * 2 + (height // 2,) * 2 + ((depth - 1) // 2, depth // 2)
    expected = functional.conv3d(functional.pad(clips, pad), conv.weight, stride=(1, 2, 2))
    with torch.set_grad_enabled(grad):
        actual = conv(clips)
    torch.testing.assert_close(actual, expected)
    assert actual.shape[2] == frames
