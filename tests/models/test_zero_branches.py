"""Blocks that a family adds to I3D-S: nothing at first, and alive after two steps."""

import itertools

import pytest
import torch
from sweeps import sweep
from torch import nn

from transfer3d.models.factory import create_model
from transfer3d.models.v4d import earlier_options
from transfer3d.nn.residual4d import Residual4d

BRANCHES = {
    "v4d": ("v4d_tiny", {}),
    "v4d, every place and axis": ("v4d_tiny", {"stages": ["res2", "res4.0"], "kernel": [3, 3, 3, 3]}),
    "v4d, released": ("v4d_tiny", {"norm_act": False}),
    "i3ds ++": ("i3ds_tiny", {"extra": True}),
    "f4d": ("f4d_tiny", {}),
    "f4d, conv1 to conv5": ("f4d_tiny", {"stages": ["conv1", "conv2", "conv3", "conv4", "conv5"]}),
    "f4d, full width": ("f4d_tiny", {"width": None, "stages": ["conv3"], "attention": "none"}),
    "f4d, se": ("f4d_tiny", {"attention": "se"}),
    "f4d, cbam": ("f4d_tiny", {"attention": "cbam"}),
}


def clips_for(student, batch=4):
    units = (student.clip.units,) if student.clip.units > 1 else ()
    shape = (batch, *units, 3, student.clip.frames, 32, 32)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def i3ds_like(student):
    """The I3D-S of the same weights."""
    plain = create_model("i3ds_tiny", num_classes=student.num_classes)
    kept = {key: value for key, value in student.state_dict().items() if ".after" not in key}
    plain.load_state_dict(kept, strict=True)
    return plain.eval()


@pytest.mark.parametrize("name, options", BRANCHES.values(), ids=BRANCHES)
def test_a_new_block_is_the_identity(name, options):
    """So the video's logits are those of TSN: the mean over its units (V4D, section 3.5)."""
    student = create_model(name, num_classes=5, **options).eval()
    clips = clips_for(student)
    with torch.no_grad():
        found = student(clips)
        plain = i3ds_like(student)
        units = plain(clips.flatten(0, -5)).unflatten(0, (len(clips), -1))
    torch.testing.assert_close(found, units.mean(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm_act", [True, False])
def test_4d_blocks_of_zeros_make_tsn(norm_act):
    student = create_model("v4d_tiny", num_classes=5, norm_act=norm_act).eval()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if ".after" in name:
                parameter.zero_()
        clips = clips_for(student)
        logits = i3ds_like(student)(clips.flatten(0, 1)).unflatten(0, (-1, student.clip.units))
        torch.testing.assert_close(student(clips), logits.mean(1), rtol=0, atol=1e-6)


def test_an_awake_4d_block_lets_units_hear_each_other():
    student = create_model("v4d_tiny", num_classes=5).eval()
    clips = clips_for(student)
    with torch.no_grad():
        torch.testing.assert_close(student(clips.flip(1)), student(clips), rtol=1e-4, atol=1e-6)
        student.trunk.get_submodule("res3.after0.scale").weight.fill_(1.0)
        assert (student(clips.flip(1)) - student(clips)).norm() > 1e-3 * student(clips).norm()


BOTTLENECKS = {"kinds": ["bottleneck"] * 4, "widths": [4, 4, 8, 8], "stem": [4]}


@pytest.mark.parametrize(
    "name, options, places",
    [
        ("v4d_tiny", {}, ["res3.after0", "res4.after0"]),
        ("v4d_tiny", {"stages": ["res3"]}, ["res3.after0"]),
        ("v4d_tiny", {"stages": ["res4"]}, ["res4.after0"]),  # the paper's table 2d has it
        ("v4d_tiny", {"stages": ["res5"]}, ["res5.after0"]),
        ("v4d_tiny", {"stages": []}, []),
        ("v4d", {"spec": {"depths": [1, 1, 1, 1], **BOTTLENECKS}}, ["res3.after0", "res4.after0"]),
        ("v4d", {"spec": {"depths": [1, 3, 4, 1], **BOTTLENECKS}},
         ["res3.after1", "res4.after1", "res4.after3"]),
        ("v4d_resnet50", {}, ["res3.after1", "res3.after3", "res4.after1", "res4.after3", "res4.after5"]),
        ("v4d_resnet18", {}, ["res3.after1", "res4.after1"]),
        ("v4d_resnet34", {"stages": ["res5"]}, ["res5.after2"]),
    ],
)  # fmt: skip
def test_a_stage_that_is_named_gets_a_4d_block(name, options, places):
    """Every other bottleneck, the last basic block (V4D, section 4.2), the only block of a stage of one."""
    with torch.device("meta"):
        trunk = create_model(name, num_classes=0, **options).trunk
    assert [key for key, module in trunk.named_modules() if isinstance(module, Residual4d)] == places


@pytest.mark.parametrize(
    ("name", "options", "places"),
    [
        ("v4d_resnet50", {}, ["res3.1", "res3.3", "res4.1", "res4.3", "res4.5"]),
        ("v4d_resnet34", {"stages": ["res5.0", "res5"], "norm_act": False}, ["res5.0", "res5.2"]),
        ("v4d_tiny", {}, ["res3.0"]),  # not that of res4, after a single bottleneck
    ],
)
def test_options_of_old_files_name_the_places_of_the_4d_blocks(name, options, places):
    with torch.device("meta"):
        trunk = create_model(name, num_classes=0, **options).trunk
    assert earlier_options(trunk, options)["stages"] == places


@pytest.mark.parametrize(
    ("branch", "frozen_bn"),
    sweep(
        itertools.product(BRANCHES, (False, True)),
        [(branch, number % 2 == 1) for number, branch in enumerate(BRANCHES)],
    ),
)
def test_after_two_steps_every_parameter_of_a_branch_learns(branch, frozen_bn):
    name, options = BRANCHES[branch]
    student = create_model(name, num_classes=4, **options).train()
    if frozen_bn:
        for module in student.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval().requires_grad_(False)
    branch = {n: p for n, p in student.named_parameters() if ".after" in n and p.requires_grad}
    assert branch
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=0.01)
    clips, labels = clips_for(student), torch.arange(4)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(clips), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    nn.functional.cross_entropy(student(clips), labels).backward()
    for parameter_name, parameter in branch.items():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("v4d_tiny", {"stages": ["res6"]}, "res6"),
        ("v4d_tiny", {"stages": ["res3.7"]}, "res3.7"),
        ("v4d_tiny", {"stages": ["res4.1"]}, "res4.1"),
        ("v4d_tiny", {"kernel": [3, 3]}, "four numbers"),
        ("v4d_tiny", {"kernel": [2, 3, 1, 1]}, "odd"),
        ("f4d_tiny", {"stages": ["res3"]}, "conv1"),
        ("f4d_tiny", {"attention": "ca+ta"}, "attention="),
    ],
)
def test_wrong_options_are_usage_errors(name, options, said):
    from transfer3d.errors import UsageError

    with pytest.raises(UsageError) as caught:
        create_model(name, **options)
    assert said in str(caught.value)
