"""Networks built without values have the shapes of those that are built with them."""

import pytest
import torch
from torch import nn

from transfer3d.models.factory import create_model
from transfer3d.nn.on_meta import give_memory, on_meta


@pytest.mark.parametrize("name", ["p3d_tiny", "t3d_tiny"])
def test_the_shapes_are_those_of_the_network(name):
    with on_meta():
        shapes = create_model(name, num_classes=3)
    assert all(tensor.is_meta for tensor in shapes.state_dict().values())
    net, given = create_model(name, num_classes=3), give_memory(shapes)
    described = [
        {key: (value.shape, value.dtype, value.device) for key, value in m.state_dict().items()}
        for m in (net, given)
    ]
    assert described[0] == described[1]
    given.load_state_dict(net.state_dict())
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in given.state_dict().items())


def test_values_elsewhere_are_drawn():
    with on_meta():
        weight = torch.zeros(1000, device="cpu")
        nn.init.normal_(weight, std=2.0)
        weight.normal_(std=weight.std().item())
        assert torch.empty(3).normal_().is_meta
        assert nn.init.normal_(torch.empty(3)).is_meta
    assert weight.std().item() == pytest.approx(2, rel=0.1)
