"""Depthwise convolutions: torch's values and gradients; and torch's own code where graphs are recorded."""

import itertools
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from transfer3d.models.trunks.timm3d import Conv2dSame
from transfer3d.nn.depthwise import Depthwise, convolution, input_gradient, weight_gradient
from transfer3d.nn.depthwise2d import DepthwiseConv2d, give_fast_gradients

KERNELS = [(3, 3), (5, 4), (1, 7), (3, 3, 3), (3, 5, 5), (4, 1, 1), (1, 3, 3)]
PLACES = [(1, 1), (2, 1), (3, 1), (1, 2)]  # stride, dilation
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def case(kernel, stride, dilation, *, dtype, last, seed=0):
    """Input, weight, bias, and the geometry: the first axis has no stride, H and W have."""
    generator = torch.Generator().manual_seed(seed)
    dims = len(kernel)
    sizes = (9, 8, 7)[-dims:]
    x = torch.randn(3, 6, *sizes, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(6, 1, *kernel, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(6, generator=generator, dtype=torch.float64).to(dtype)
    if last:
        x, weight = (tensor.contiguous(memory_format=FORMATS[x.ndim]) for tensor in (x, weight))
    strides = (stride,) * dims if stride < 3 else (1, *(2,) * (dims - 1))
    return (x, weight, bias), (strides, tuple(size // 2 for size in kernel), (dilation,) * dims)


def plain(*arguments):
    x, weight, bias, stride, padding, dilation = arguments
    apply = F.conv2d if x.ndim == 4 else F.conv3d
    return apply(x, weight, bias, stride, padding, dilation, len(weight))


def ours(*arguments):
    x, weight, bias, stride, padding, dilation = arguments
    return convolution(x, weight, bias, stride, padding, dilation, len(weight))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_are_those_of_torch(kernel, dtype, tolerance):
    for (stride, dilation), last in itertools.product(PLACES, (False, True)):
        (x, weight, bias), geometry = case(kernel, stride, dilation, dtype=dtype, last=last)
        exact = [tensor.double().requires_grad_() for tensor in (x, weight)]
        y = plain(*exact, bias.double(), *geometry)
        gradient = torch.randn_like(y)
        expected = torch.autograd.grad(y, exact, gradient)
        mine = (input_gradient, weight_gradient)
        for function, right in zip(mine, expected, strict=True):
            found = function(gradient.to(dtype), x, weight, *geometry)
            assert found.dtype == dtype
            assert (found - right).norm() <= tolerance * right.norm(), (stride, dilation, last, function)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 3, 3), (3, 1, 1)])
def test_gradcheck(kernel):
    for stride, dilation in PLACES:
        (x, weight, bias), geometry = case(kernel, stride, dilation, dtype=torch.float64, last=True)
        inputs = [tensor.requires_grad_() for tensor in (x[:2, :2, ..., :5], weight[:2], bias[:2])]
        call = lambda *tensors: Depthwise.apply(*tensors, *geometry)  # noqa: B023, E731 - called here
        assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 5, 5), (3, 3, 3), (3, 1, 1)])
@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_is_as_near_to_fp32_as_torch_is(kernel, autocast):
    for stride, last in itertools.product((1, 2, 3), (False, True)):
        dtype = torch.float32 if autocast else torch.bfloat16
        (x, weight, bias), geometry = case(kernel, stride, 1, dtype=dtype, last=last)
        results = []
        for function in (ours, plain):
            inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y = function(*inputs, *geometry)
            assert y.dtype == torch.bfloat16
            results.append((y, *torch.autograd.grad(y.float().sin().sum(), inputs)))
        assert torch.equal(results[0][0], results[1][0])
        for found, other in zip(*results, strict=True):
            assert found.dtype == other.dtype
            assert (found.float() - other.float()).norm() <= 2e-2 * other.float().norm()


def test_only_the_gradients_that_are_asked_for_are_computed():
    (x, weight, _), geometry = case((3, 3, 3), 1, 1, dtype=torch.float32, last=True)
    y = convolution(x, weight.requires_grad_(), None, *geometry, 6)
    assert y.grad_fn is not None
    assert y.grad_fn.name() == "DepthwiseBackward"
    (found,) = torch.autograd.grad(y.square().sum(), weight)
    (right,) = torch.autograd.grad(plain(x, weight, None, *geometry).square().sum(), weight)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def test_nothing_of_ours_runs_without_gradients_or_where_a_graph_is_recorded(monkeypatch):
    (x, weight, _), geometry = case((3, 3, 3), 1, 1, dtype=torch.float32, last=False)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(weight)

        def forward(self, x):
            return convolution(x, self.weight, None, *geometry, 6)

    net = Net()
    expected = net(x).detach()

    def fail(*_):
        raise AssertionError("called")

    monkeypatch.setattr(Depthwise, "apply", fail)
    with torch.no_grad():
        net(x)
    for record in (torch.jit.trace, lambda net, _: fx.symbolic_trace(net)):
        recorded = cast(nn.Module, record(net, x))
        assert torch.equal(recorded(x), expected)
    assert torch.equal(torch.compile(net, fullgraph=True, backend="eager")(x), expected)
    program = torch.export.export(net, (x,), strict=False)
    assert torch.equal(program.module()(x), expected)
    torch.func.grad(lambda x: net(x).sum())(x)
    with pytest.raises(AssertionError, match="called"):
        net(x)


@pytest.mark.parametrize("same", [False, True])
def test_a_layer_that_takes_the_place_of_another_is_that_layer(same):
    kind = Conv2dSame if same else nn.Conv2d
    net = nn.Sequential(
        kind(6, 6, 5, 2, 2, groups=6), kind(6, 6, 3, groups=2), nn.Conv2d(6, 6, 3, groups=6, padding="same")
    )
    x = torch.randn(4, 6, 12, 11)
    state, random = net.state_dict(keep_vars=True), torch.get_rng_state()
    expected = net(x)
    give_fast_gradients(net, Conv2dSame)
    assert torch.equal(torch.get_rng_state(), random)
    assert [type(layer) for layer in net] == [DepthwiseConv2d, kind, nn.Conv2d]
    after = net.state_dict(keep_vars=True)
    assert list(after) == list(state)
    assert all(after[name] is state[name] for name in state)
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_maps_smaller_than_the_kernel_have_the_gradients_of_fp32(size):
    layer = DepthwiseConv2d(nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), same=False)
    x = torch.randn(2, 8, size, size)
    for count in (1 << 10, 1 << 14):
        torch.full((count,), 3e30)  # what freed memory holds
    (right,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    (found,) = torch.autograd.grad(y.float().square().sum(), layer.weight)
    assert (found - right).norm() <= 0.02 * right.norm()
