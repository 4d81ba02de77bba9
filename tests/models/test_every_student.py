"""Every registered name at its full width, on clips of two small frames; most of the large ones are slow."""

import pytest
import torch
from sweeps import sweep
from torch import nn

from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models


def small_clips(student):
    units = (2,) if student.clip.units > 1 else ()
    return torch.randn(2, *units, 3, 2, 32, 32, generator=torch.Generator().manual_seed(0))


NAMES = sweep(list_models(), [*list_models("*_tiny"), "p3d_resnet18"])


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name):
    student = create_model(name, num_classes=3).train()
    logits = student(small_clips(student))
    assert logits.shape == (2, 3)
    nn.functional.cross_entropy(logits, torch.arange(2)).backward()
    for parameter_name, parameter in student.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # a branch that starts at zero learns from its second step on: see test_zero_branches.py
        zero_branch = ".after" in parameter_name or ".temporal." in parameter_name
        assert parameter.grad.any() or zero_branch, parameter_name


@pytest.mark.parametrize("name", list_models("*_tiny"))
def test_training_differs_from_evaluation_in_batch_norm_and_dropout_alone(name):
    student = create_model(name, num_classes=3, drop_rate=0.5)
    clips = small_clips(student)
    with torch.no_grad():
        evaluated = student.eval()(clips)
        trained = student.train()(clips)
        for module in student.modules():
            if isinstance(module, (nn.BatchNorm3d, nn.Dropout)):
                module.eval()
        before = {key: value.clone() for key, value in student.state_dict().items()}
        student.load_state_dict(create_model(name, num_classes=3).state_dict())
        torch.testing.assert_close(student(clips), evaluated)
    assert not torch.allclose(trained, evaluated)
    moved = {key for key, value in student.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if "running_" in key or "num_batches" in key}


@pytest.mark.parametrize("name", NAMES)
def test_sizes_that_no_stride_divides_and_timm_s_manners(name):
    with torch.device("meta"):
        student = create_model(name, num_classes=3).eval()
        units = (2,) if student.clip.units > 1 else ()
        for frames, height, width in ((1, 32, 32), (5, 47, 61), (7, 64, 33)):
            clips = torch.empty(2, *units, 3, frames, height, width)
            maps = student.forward_features(clips)
            assert maps.shape[:2] == (2, student.num_features)
            assert student.forward_head(maps, pre_logits=True).shape == (2, student.num_features)
            assert student(clips).shape == (2, 3)
        student.reset_classifier(0)
        assert student(clips).shape == (2, student.num_features)
        again = create_model(name, num_classes=0)
    assert {key: value.shape for key, value in student.state_dict().items()} == {
        key: value.shape for key, value in again.state_dict().items()
    }
