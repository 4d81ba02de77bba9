"""An inflated student must be able to learn: nothing in it is dead."""

import pytest
import torch
from sweeps import sweep
from torch import nn

from transfer3d import inflate
from transfer3d.inflation.rules import WeightInflator
from transfer3d.nn.pseudo3d import Pseudo3d

SOURCES = [
    ("test_resnet", "p3d"),
    ("test_resnet", "v4d"),
    ("test_resnet", "f4d"),
    ("test_resnet", "i3ds"),
    ("test_resnet", "r3d"),
    ("test_googlenet", "i3d"),
    ("test_densenet", "densenet3d"),
    ("test_densenet", "t3d"),
]


def freeze_batch_norm(student):
    for module in student.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("source", "family", "frozen_bn"),
    sweep(
        [(*pair, frozen_bn) for pair in SOURCES for frozen_bn in (False, True)],
        [(*pair, number % 2 == 1) for number, pair in enumerate(SOURCES)],
    ),
)
def test_after_two_steps_no_parameter_is_dead(source, family, frozen_bn, image_model):
    student = inflate(image_model(source), family, num_classes=4, frozen_bn=frozen_bn).student.train()
    if frozen_bn:
        freeze_batch_norm(student)
    learning = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01)
    generator = torch.Generator().manual_seed(0)
    units = (student.clip.units,) if student.clip.units > 1 else ()
    clips, labels = torch.randn(8, *units, 3, 8, 32, 32, generator=generator), torch.arange(8) % 4
    for step in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(clips), labels).backward()
        if step < 2:
            optimizer.step()
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


@pytest.mark.parametrize("frozen_bn", [False, True])
def test_zero_branches_are_zero_where_they_can_learn(frozen_bn, image_model):
    student = inflate(image_model("test_resnet"), "p3d", blocks="BC", frozen_bn=frozen_bn).student
    units = [m for m in student.modules() if isinstance(m, Pseudo3d)]
    assert len(units) == 3
    for unit in units:
        assert bool(unit.temporal.conv.weight.any()) != frozen_bn
        assert bool(unit.temporal.norm.weight.any()) == frozen_bn


def test_the_identity_of_a_survives_a_live_batch_norm():
    """Monte Carlo: S's rectified output passes T's BatchNorm in training mode nearly unchanged."""
    generator = torch.Generator().manual_seed(0)
    unit = Pseudo3d(6, 6, kind="A")
    nn.init.uniform_(unit.spatial.norm.weight, -1.5, 1.5, generator=generator)
    nn.init.normal_(unit.spatial.norm.bias, 0, 0.5, generator=generator)
    inflator = WeightInflator({}, {}, "fc", temporal_init="center", frozen_bn=False)
    with torch.no_grad():
        list(inflator._temporal("unit.temporal", unit))
    noise = torch.randn(64, 6, 4, 16, 16, generator=generator)
    features = unit.spatial.norm(noise).relu()  # live: noise is normal, whatever its statistics
    torch.testing.assert_close(unit.temporal.eval()(features), features, rtol=1e-5, atol=1e-6)
    passed = unit.temporal.train()(features)
    assert (passed - features).norm() / features.norm() < 0.02
