"""BatchNorm folded in other people's networks, found by watching one pass: the same outputs, fewer norms."""

import pytest
import timm
import torch
from batch_norms import train_norms
from torch import nn
from torch.nn import functional

from transfer3d.models import tiny_densenet  # noqa: F401 - importing registers it
from transfer3d.models.fold import fold

SHAPE = (3, 32, 32)


def with_statistics(network):
    """The network, frozen, with BatchNorms as after training."""
    return train_norms(network).requires_grad_(False)


def timm_network(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return with_statistics(timm.create_model(name))


def norms(network):
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


def outputs(network, frames):
    maps = network.forward_features(frames)
    layers = network.forward_intermediates(frames, intermediates_only=True, norm=True)
    return [maps, network.forward_head(maps, pre_logits=True), network.forward_head(maps), *layers]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("test_resnet", 0),
        ("test_efficientnet", 0),
        ("test_byobnet", 0),
        ("resnet10t", 0),
        ("mobilenetv3_small_050", 0),
        # A norm after a concatenation stays: of every layer, of every transition, and the last one.
        ("test_densenet", 3 + 3 + 3 + 3 + 3 + 1),
    ],
)
def test_timms_networks_give_the_same_answers_with_fewer_norms(name, left):
    network = timm_network(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network, SHAPE)
    assert (norms(folded), norms(network) > left) == (left, True)
    frames = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(outputs(folded, frames), outputs(network, frames), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
        assert value.is_contiguous()
    known = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    tensors = (*folded.named_parameters(), *folded.named_buffers())
    own = {name.rpartition(".")[0] for name, tensor in tensors if id(tensor) not in known}
    parts = [folded.get_submodule(part) for part in own]
    assert all(isinstance(part, nn.Conv2d) for part in parts)
    assert all(part.weight.is_contiguous(memory_format=torch.channels_last) for part in parts)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_nfnet"])
def test_a_network_without_such_norms_is_used_as_it_is(name):
    network = timm_network(name)
    assert fold(network, (3, 160, 160) if name == "test_vit" else SHAPE) is network


class Net(nn.Module):
    """A convolution and a BatchNorm, applied as `order` says."""

    def __init__(self, order, conv=nn.Conv2d):
        super().__init__()
        self.conv, self.norm, self.order = conv(3, 3, 3, padding=1), nn.BatchNorm2d(3), order

    def forward_features(self, frames):
        return self.order(frames, self.conv, self.norm)

    def forward_head(self, maps, pre_logits=False):
        return maps.mean((2, 3))


class Standardised(nn.Conv2d):
    """Its kernel is not its weight."""

    def forward(self, input):
        return functional.conv2d(input, self.weight - self.weight.mean(), self.bias, padding=1)


def joined(frames, conv, norm):
    maps = conv(frames)
    return norm(maps) + maps


def in_place(frames, conv, norm):
    return norm(functional.relu(conv(frames), inplace=True))


def hidden(frames, conv, norm):
    """Reads what a fold takes away, in no operator of torch."""
    return norm(conv(frames)) * float(norm.weight[0])


ORDERS = {
    "followed": (lambda frames, conv, norm: norm(conv(frames)), nn.Conv2d, 0),
    "with zeros around": (
        lambda frames, conv, norm: norm(conv(functional.pad(frames, (1, 1)))),
        nn.Conv2d,
        0,
    ),
    "taken twice": (joined, nn.Conv2d, 1),
    "with a ReLU between": (in_place, nn.Conv2d, 1),
    "norm first": (lambda frames, conv, norm: conv(norm(frames)), nn.Conv2d, 1),
    "convolved twice": (lambda frames, conv, norm: norm(conv(conv(frames))), nn.Conv2d, 1),
    "normed twice": (lambda frames, conv, norm: norm(norm(conv(frames))), nn.Conv2d, 1),
    "another kernel": (lambda frames, conv, norm: norm(conv(frames)), Standardised, 1),
    "read elsewhere": (hidden, nn.Conv2d, 1),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_only_what_a_norm_alone_takes_is_folded(kind):
    order, conv, left = ORDERS[kind]
    torch.manual_seed(0)
    network = with_statistics(Net(order, conv))
    folded = fold(network, SHAPE)
    assert norms(folded) == left
    frames = torch.randn(2, *SHAPE)
    torch.testing.assert_close(
        folded.forward_features(frames), network.forward_features(frames), rtol=1e-5, atol=1e-5
    )


def test_a_fold_that_changes_an_output_is_not_used():
    """Maps that are handed out beside the graph: no operator takes them."""

    class Leaks(Net):
        def forward_features(self, frames):
            self.maps = self.conv(frames)
            return self.norm(self.maps)

        def forward_intermediates(self, frames, norm=False):
            return self.forward_features(frames), [self.maps]

    network = with_statistics(Leaks(None))
    assert fold(network, SHAPE) is network


def test_in_bf16_the_folded_network_is_no_further_from_fp32():
    network = timm_network("resnet10t")
    frames = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    expected = network.forward_features(frames)
    with torch.autocast("cpu", torch.bfloat16):
        errors = [
            float((net.forward_features(frames) - expected).norm() / expected.norm())
            for net in (fold(network, SHAPE), network)
        ]
    assert errors[0] <= 1.1 * errors[1] < 0.05
