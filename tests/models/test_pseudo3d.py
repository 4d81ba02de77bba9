"""Pseudo-3D units and P3D nets against the paper's equations, computed by other means."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from transfer3d.models.factory import create_model
from transfer3d.models.trunks.resnet3d import RESNET50, ResNetSpec
from transfer3d.nn.convolution import conv3d
from transfer3d.nn.pooling import TemporalMaxPool, halve
from transfer3d.nn.pseudo3d import Pseudo3d

X = torch.randn(2, 4, 5, 7, 6, generator=torch.Generator().manual_seed(0))


def by_hand(unit, x):
    """S and T as a 2D convolution of every frame and a 1D convolution of every pixel's time line."""
    spatial, temporal = unit.spatial, unit.temporal

    def bn(norm, y):
        shape = (1, -1, 1, 1, 1)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return (y - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)

    def s(y):
        frames = [F.conv2d(y[:, :, t], spatial.conv.weight[:, :, 0], padding=1) for t in range(y.shape[2])]
        return bn(spatial.norm, torch.stack(frames, 2)).relu()

    def t(y):
        lines = y.permute(0, 3, 4, 1, 2).flatten(0, 2)
        lines = F.conv1d(lines, temporal.conv.weight[..., 0, 0], padding=1)
        return bn(temporal.norm, lines.unflatten(0, (y.shape[0], *y.shape[3:])).permute(0, 3, 4, 1, 2))

    return {"A": t(s(x)).relu(), "B": (s(x) + t(x)).relu(), "C": (s(x) + t(s(x))).relu()}


def randomised(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var") or name.endswith("norm.weight"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize("kind", "ABC")
def test_equations_3_to_5(kind):
    unit = randomised(Pseudo3d(4, 4, kind=kind))
    torch.testing.assert_close(unit(X), by_hand(unit, X)[kind])


def test_the_releases_weight_of_c():
    unit, halved = randomised(Pseudo3d(4, 4, kind="C")), randomised(Pseudo3d(4, 4, kind="C", c_scale=0.5))
    torch.testing.assert_close(halved(X), unit(X) / 2)


def test_the_ports_wiring_rectifies_t_before_the_sum():
    unit = randomised(Pseudo3d(4, 4, kind="B", wiring="port"))
    t_alone = unit.temporal.norm(unit.temporal.conv(X)).relu()
    torch.testing.assert_close(unit(X), unit.spatial(X) + t_alone)


def test_kinds_cycle_through_the_stages_without_restarting():
    with torch.device("meta"):
        student = create_model("p3d_resnet50")
    kinds = [m.kind for m in student.modules() if isinstance(m, Pseudo3d)]
    assert kinds == list(itertools.islice(itertools.cycle("ABC"), 3 + 4 + 6))


@pytest.mark.parametrize("blocks", ["A", "B", "C", "AB"])
def test_pure_and_other_nets(blocks):
    with torch.device("meta"):
        student = create_model("p3d_tiny", blocks=blocks)
    kinds = [m.kind for m in student.modules() if isinstance(m, Pseudo3d)]
    assert kinds == list(itertools.islice(itertools.cycle(blocks), 3))


def test_res5_is_2d():
    with torch.device("meta"):
        student = create_model("p3d_resnet50")
    kernels = {m.kernel_size[0] for m in student.trunk.res5.modules() if isinstance(m, torch.nn.Conv3d)}
    assert kernels == {1}


def test_longer_clips_pass_res5_frame_by_frame_and_are_averaged():
    student = randomised(create_model("p3d_tiny", num_classes=5))
    maps = {}
    student.trunk.res5.register_forward_pre_hook(lambda module, args: maps.update(into=args[0]))
    logits = student(torch.randn(2, 3, 32, 32, 32))
    assert maps["into"].shape[2] == 2
    alone = [student.forward_head(student.trunk.res5(frame)) for frame in maps["into"].split(1, dim=2)]
    torch.testing.assert_close(logits, torch.stack(alone).mean(0))


@pytest.mark.parametrize(
    "stride_in, first, spatial", [("reduce", (1, 2, 2), (1, 1, 1)), ("spatial", (1, 1, 1), (1, 2, 2))]
)
def test_where_a_bottleneck_strides(stride_in, first, spatial):
    with torch.device("meta"):
        student = create_model("p3d_resnet50", stride_in=stride_in, blocks="B")
    units = student.trunk.get_submodule("res3.0.units")
    assert units[0].conv.stride == first
    assert units[1].spatial.conv.stride == units[1].temporal.conv.stride == spatial


@pytest.mark.parametrize("kind", "AC")
def test_t_that_follows_s_has_no_stride(kind):
    unit = Pseudo3d(2, 2, kind=kind, stride=(1, 2, 2))
    assert unit.temporal.conv.stride == (1, 1, 1)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_temporal_padding_keeps_the_number_of_frames_and_looks_ahead(depth):
    conv = conv3d(1, 1, (depth, 1, 1))
    torch.nn.init.ones_(conv.weight)
    clip = torch.zeros(1, 1, 9, 1, 1)
    clip[0, 0, 4] = 1  # a frame is seen by every output up to depth // 2 before it, (depth - 1) // 2 after it
    seen = conv(clip)[0, 0, :, 0, 0].nonzero().flatten().tolist()
    assert seen == list(range(4 - depth // 2, 4 + (depth - 1) // 2 + 1))


@pytest.mark.parametrize("frames", [2, 4, 8])
def test_split_pools_are_the_joint_pools(frames):
    x = torch.randn(1, 2, frames, 7, 9)
    torch.testing.assert_close(halve(x), F.avg_pool3d(x, 2))
    spatial = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    torch.testing.assert_close(TemporalMaxPool()(spatial), F.max_pool3d(x, (2, 3, 3), 2, (0, 1, 1)))


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_split_pools_keep_an_odd_last_frame(frames):
    x = torch.randn(1, 2, frames, 4, 4)
    torch.testing.assert_close(TemporalMaxPool()(x)[:, :, -1], x[:, :, -1])
    torch.testing.assert_close(halve(x)[:, :, -1], F.avg_pool2d(x[:, :, -1], 2))


def test_a_spec_survives_json():
    assert ResNetSpec.from_dict(RESNET50.to_dict()) == RESNET50
