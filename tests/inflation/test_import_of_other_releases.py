"""V4D's released ResNet-18 and T3D's DenseNet3D, against networks written by hand in the released names."""

import pytest
import torch
from inflation.released import densenet3d_shapes, v4d_basic_shapes, values, zeros
from inflation.released_nets import densenet3d, v4d_basic

from transfer3d.errors import WeightsError
from transfer3d.inflation.importers.import_state import import_state

TOLERANCE = 1e-5


def difference(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def test_v4d_resnet18_of_the_release():
    state = values(v4d_basic_shapes())
    for name in state:
        if name.endswith("tsa.weight"):
            state[name] *= 0.1
    done = import_state("v4d-release", state, {})
    student = done.student
    assert (student.model_name, student.model_args["stages"]) == ("v4d_resnet18", ["res3.1", "res4.1"])
    assert sum(done.weight_report.counts().values()) == len(state) == len(student.state_dict())
    units = torch.randn(4, 3, 4, 48, 48)
    with torch.no_grad():
        assert difference(student(units[None]), v4d_basic(state, units)) < TOLERANCE


def test_the_densenet3d_of_t3ds_authors():
    shapes = densenet3d_shapes()
    assert len(shapes) == 606
    state = values(shapes)
    done = import_state("t3d-densenet3d", state, {})
    assert (done.student.model_name, done.student.num_classes) == ("densenet3d_densenet121", 17)
    assert done.weight_report.counts()["copied"] == 606
    clips = torch.randn(1, 3, 32, 64, 64)
    with torch.no_grad():
        assert difference(done.student(clips), densenet3d(state, clips)) < TOLERANCE


def test_a_densenet3d_of_no_known_depth_is_refused():
    with pytest.raises(WeightsError, match="dense blocks have 6, 12, 24, 15 layers, which no depth has"):
        import_state("t3d-densenet3d", zeros(densenet3d_shapes(depths=(6, 12, 24, 15))), {})
