"""BatchNorm folded away: fewer layers, the same answers."""

import pytest
import torch
from batch_norms import train_norms
from torch import nn

import transfer3d
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models


def trained(name):
    """A student whose BatchNorms and branches are as after training."""
    student = train_norms(create_model(name, num_classes=5))
    for parameter_name, parameter in student.named_parameters():
        if ".scale." in parameter_name:
            nn.init.ones_(parameter)
    return student


@pytest.mark.parametrize("name", [*list_models("*_tiny"), "i3ds_resnet18_extra"])
def test_gives_the_same_answers_with_fewer_norms(name):
    student = trained(name)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    fused = transfer3d.fuse(student)
    units = (student.clip.units,) if student.clip.units > 1 else ()
    clips = torch.randn(2, *units, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = student(clips)
        assert (fused(clips) - wanted).norm() <= 1e-5 * wanted.norm()
    norms = [sum(isinstance(m, nn.BatchNorm3d) for m in net.modules()) for net in (fused, student)]
    dense = student.num_features and ("densenet" in name or "t3d" in name)
    assert (0 < norms[0] < norms[1]) if dense else norms[0] == 0
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_width_none_has_no_convolution_in_front_of_its_last_norm():
    student = create_model("f4d_tiny", width=None, num_classes=2).eval()
    clips = torch.randn(1, 4, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(transfer3d.fuse(student)(clips), student(clips))
