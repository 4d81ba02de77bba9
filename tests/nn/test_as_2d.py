"""2D forms of 3D convolutions: torch's `conv3d`, in numbers and in memory."""

import itertools

import pytest
import torch
from torch.nn import functional

from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models
from transfer3d.nn.as_2d import convolve_as_2d, use_2d_convolutions
from transfer3d.nn.convolution import Conv3d

KERNELS = [(1, 1, 1), (1, 3, 3), (1, 5, 3), (3, 1, 1), (2, 1, 1), (5, 1, 1), (3, 3, 3)]
STRIDES = [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 2)]


def halves(kernel):
    depth, height, width = kernel
    return depth // 2, height // 2, width // 2


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), itertools.product(KERNELS, STRIDES))
def test_values_and_gradients_are_those_of_conv3d(kernel, stride, groups, channels_last):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, 6, 7, dtype=torch.float64, generator=random)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    weight = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64, generator=random)
    bias = torch.randn(6, dtype=torch.float64, generator=random)
    padding, dilation = halves(kernel), (2 if kernel[0] == 3 else 1, 1, 2 if kernel[1] == 3 else 1)
    found = []
    for convolve in (convolve_as_2d, functional.conv3d):
        a, b, c = (tensor.clone().requires_grad_() for tensor in (x, weight, bias))
        y = convolve(a, b, c, stride, padding, dilation, groups)
        found.append((y, *torch.autograd.grad(y.sin().sum(), (a, b, c))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [(1, 1, 1), (1, 3, 3), (3, 1, 1)])
def test_nothing_is_copied_in_channels_last(kernel, monkeypatch):
    x = torch.randn(2, 4, 5, 6, 7).contiguous(memory_format=torch.channels_last_3d)
    seen = []
    for name in ("conv2d", "linear"):
        called = getattr(functional, name)
        monkeypatch.setattr(
            functional, name, lambda x, *rest, called=called: (seen.append(x.data_ptr()), called(x, *rest))[1]
        )
    padding = halves(kernel)
    y = convolve_as_2d(x, torch.randn(6, 4, *kernel), None, (1, 1, 1), padding, (1, 1, 1), 1)
    assert seen == [x.data_ptr()]
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("name", list_models("*_tiny"))
def test_a_student_answers_and_learns_alike(name):
    found = []
    for change in (lambda student: None, use_2d_convolutions):
        student = create_model(name, num_classes=3, seed=1).double().train()
        change(student)
        clips = torch.randn((*student.clip.shape(2)[:-2], 32, 32), generator=torch.Generator().manual_seed(0))
        logits = student(clips.double())
        gradients = torch.autograd.grad(logits.sin().sum(), list(student.parameters()))
        found.append([logits, *gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_it_is_kept_to_the_network_that_asked():
    student = create_model("p3d_tiny")
    use_2d_convolutions(student)
    taken = [part.convolution for part in student.modules() if isinstance(part, Conv3d)]
    assert set(taken) == {convolve_as_2d}
    assert Conv3d(1, 1, 1).convolution is not convolve_as_2d
