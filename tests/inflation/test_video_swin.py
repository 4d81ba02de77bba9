"""Swin transformers over clips: the still-clip proof, torchvision's Video Swin as an oracle, and refusals."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models.video import SwinTransformer3d, swin3d_b, swin3d_s, swin3d_t

import transfer3d
from transfer3d import inflate
from transfer3d.errors import UsageError
from transfer3d.inflation.parity import relative_difference
from transfer3d.models.factory import create_model
from transfer3d.models.measure import count_parameters
from transfer3d.nn.joint_windows import JointWindows

SMALL = {"img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
KINDS = {
    "swin_tiny_patch4_window7_224": SMALL,
    "swinv2_tiny_window8_256": SMALL,
    "swin_s3_tiny_224": SMALL | {"window_size": ((4, 4), (4, 8))},
    "swin_base_patch4_window12_384": SMALL | {"window_size": 7},  # which does not divide the maps
    "swinv2_base_window12to16_192to256": SMALL | {"pretrained_window_sizes": (3, 3)},
}
WHOLE = ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swin_s3_tiny_224")
CLIPS = {
    "one window": {"frames": 4},
    "shifted windows": {"frames": 16, "window": 4},
    "windows that do not divide the clip": {"frames": 10, "window": 3},
    "one step": {"frames": 4, "tubelet": 1, "window": 1},
}
QUICK = {*zip(KINDS, CLIPS, strict=False)}
"""The others are slow."""


def swin(name, seed=0, **arguments):
    """A Swin transformer whose every parameter is at work: strong attention, random norms and tables."""
    torch.manual_seed(seed)
    return awake(timm.create_model(name, **(arguments or KINDS[name])))


@torch.no_grad()
def awake(model):
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "table" in name or "cpb_mlp" in name:
            parameter += 0.5 * torch.randn(parameter.shape)
        elif ".attn." in name and parameter.ndim == 2:
            parameter *= 5
    return model.eval()


def clips_of(student, batch=2, frames=None):
    shape = (batch, 3, frames or student.clip.frames, student.clip.size, student.clip.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name, clip",
    [
        pytest.param(name, clip, marks=() if (name, clip) in QUICK else pytest.mark.slow)
        for name in KINDS
        for clip in CLIPS
    ],
)
def test_on_a_still_clip_the_student_is_the_image_model(name, clip):
    model = swin(name)
    done = inflate(model, "video_swin", **CLIPS[clip])
    assert done.proof.verdict == "proved"
    assert done.proof.precision == "fp32"
    rows = done.weight_report.rows
    assert {row.source for row in rows} == set(model.state_dict())
    assert sorted(row.target for row in rows) == sorted(done.student.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = done.student(image[:, :, None].expand(-1, -1, done.student.clip.frames, -1, -1))
        assert relative_difference(logits, model(image)) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_whole_networks(name, image_model):
    assert inflate(image_model(name), "video_swin", frames=32).proof.verdict == "proved"


def torchvision_names(stages):
    """From torchvision's modules to timm's: it merges patches after a stage, timm before the next."""
    pairs = [("patch_embed.", "patch_embed."), ("norm.", "norm."), ("head.", "")]
    for stage in range(stages):
        pairs.append((f"features.{2 * stage}.", f"layers.{stage}.blocks."))
        pairs.append((f"features.{2 * stage + 1}.", f"layers.{stage + 1}.downsample."))
    return dict(pairs)


def filled_from_torchvision(student, theirs):
    names, state = torchvision_names(len(student.trunk.net.layers)), {}
    for name, tensor in theirs.state_dict().items():
        old = next(old for old in names if name.startswith(old))
        new = name.replace(old, names[old], 1).replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
        new = new.replace(".attn.", ".attn.spatial.").replace("patch_embed.proj", "patch_embed.proj.conv")
        if not name.endswith("relative_position_index"):
            state[f"head.{new}" if old == "head." else f"trunk.net.{new}"] = tensor
    student.load_state_dict(state, strict=True)
    return student.eval()


@pytest.mark.parametrize(
    "frames, window, size",
    [
        (8, 4, 64),  # one window in time
        (16, 4, 64),  # two, shifted
        (24, 3, 64),  # an odd one
        (8, 4, 32),  # the last stage is one window in space, and still shifted in time
    ],
)
@torch.no_grad()
def test_torchvision_s_video_swin_gives_the_same(frames, window, size):
    """Also for a clip that is shorter than a window, which torchvision cuts."""
    torch.manual_seed(0)
    theirs = awake(SwinTransformer3d([2, 4, 4], 24, [2, 2], [2, 4], [window, 4, 4], num_classes=5))
    spec = {"architecture": "swin_tiny_patch4_window7_224", "img_size": size}
    overrides = {key: list(v) if isinstance(v, tuple) else v for key, v in SMALL.items() if key != "img_size"}
    ours = create_model("video_swin", 5, spec={**spec, "overrides": overrides}, frames=frames, window=window)
    filled_from_torchvision(ours, theirs)
    for length in (frames, 2 * window - 2):
        clips = torch.randn(2, 3, length, size, size)
        assert relative_difference(ours(clips), theirs(clips)) <= 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_torchvision_s_swin3d_t_gives_the_same():
    torch.manual_seed(0)
    theirs = swin3d_t().eval()
    ours = filled_from_torchvision(create_model("video_swin_t", 400), theirs)
    clips = torch.randn(1, 3, 32, 224, 224)
    assert relative_difference(ours(clips), theirs(clips)) <= 1e-5


@pytest.mark.parametrize("letter, make", [("t", swin3d_t), ("s", swin3d_s), ("b", swin3d_b)])
def test_the_papers_networks_have_as_many_parameters(letter, make):
    with torch.device("meta"):
        assert count_parameters(create_model(f"video_swin_{letter}", 400)) == count_parameters(make())


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
@torch.no_grad()
def test_order_counts_and_clips_of_a_batch_do_not_see_each_other(name):
    student = inflate(swin(name), "video_swin", frames=12, window=4, temporal_init="mean").student
    awake(student)  # so that offsets in time differ
    clips = clips_of(student)
    both = student(clips)
    assert relative_difference(both[1:], student(clips[1:])) <= 1e-5
    assert relative_difference(student(clips[:, :, [2, 3, 0, 1, *range(4, 12)]]), both) > 1e-4


@torch.no_grad()
def test_shifted_windows_carry_a_step_to_the_other_window_and_no_window_wraps():
    """A block that is shifted sees across the border of the windows; the last step never sees the first."""
    student = inflate(swin("swin_tiny_patch4_window7_224"), "video_swin", frames=16, window=4).student
    count, blocks = student.trunk.count, student.trunk.net.layers[0].blocks
    count.clips, count.frames = 1, 8
    x = torch.randn(8, 8, 8, 24)
    changed = torch.cat((torch.randn(1, 8, 8, 24), x[1:]))
    seen = [(block(x) - block(changed)).flatten(1).abs().amax(1) > 1e-4 for block in blocks]
    assert seen[0].tolist() == [True] * 4 + [False] * 4
    assert seen[1].tolist() == [True] * 2 + [False] * 6


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_after_two_steps_no_parameter_is_dead(name):
    student = inflate(swin(name), "video_swin", frames=4, num_classes=4).student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(clips_of(student)), torch.tensor([0, 1])).backward()
        optimizer.step()
    for parameter_name, parameter in student.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


def test_the_account_says_what_became_of_positions():
    done = inflate(swin("swin_tiny_patch4_window7_224"), "video_swin", frames=8, size=16)
    notes = {row.source: (row.how, row.note) for row in done.weight_report.rows}
    table = "layers.{}.blocks.0.attn.relative_position_bias_table"
    assert notes[table.format(0)] == ("inflated", "repeated for 7 offsets in time")
    assert notes[table.format(1)] == (
        "inflated",
        "windows 4x4 to 2x2, as timm; repeated for 7 offsets in time",
    )
    second = inflate(swin("swinv2_tiny_window8_256"), "video_swin", frames=8)
    notes = {row.source: (row.how, row.note) for row in second.weight_report.rows}
    assert notes["layers.0.blocks.0.attn.cpb_mlp.0.weight"] == ("inflated", "zero for offsets in time")
    first = second.student.trunk.net.layers[0].blocks[0].attn.spatial.cpb_mlp[0].weight
    assert not first[:, 0].any()
    assert first[:, 1:].any()


@pytest.mark.parametrize("size", [32, 96])
@torch.no_grad()
def test_another_size_keeps_the_windows(size):
    model = swin("swin_tiny_patch4_window7_224")
    done = inflate(model, "video_swin", frames=4, size=size)
    assert (done.proof.verdict, done.student.clip.size) == ("proved", size)
    assert model.patch_embed.img_size == (64, 64)  # the given model is not changed
    theirs = swin("swin_tiny_patch4_window7_224")
    theirs.set_input_size(img_size=(size, size), window_size=(4, 4))
    images = torch.randn(1, 3, size, size)
    logits = done.student(images[:, :, None].expand(-1, -1, 4, -1, -1))
    assert relative_difference(logits, theirs(images)) <= 1e-5


@pytest.mark.parametrize("name", ["swin_s3_tiny_224", "swinv2_base_window12to16_192to256"])
@torch.no_grad()
def test_a_checkpoint_gives_the_same_answers(name, tmp_path):
    """Indices and coordinates are not in the file: they must be computed again."""
    student = inflate(swin(name), "video_swin", frames=12, window=4).student
    transfer3d.save(student, tmp_path / "a.safetensors")
    again = transfer3d.load(tmp_path / "a.safetensors")
    clips = clips_of(student)
    assert torch.equal(student(clips), again(clips))
    assert again.model_args == student.model_args


@torch.no_grad()
def test_a_student_takes_other_sizes_and_lengths():
    student = create_model("video_swin_tiny", 3).eval()
    clips = torch.randn(2, 3, 7, 45, 38)
    filled = torch.cat((clips, clips[:, :, -1:]), 2)[..., :44, :36]
    assert torch.equal(student(clips), student(filled))
    assert student.forward_features(torch.randn(1, 3, 22, 64, 32)).shape == (1, 96, 11, 4, 2)
    with pytest.raises(UsageError, match="frames of 3x32 are smaller than a patch of 4x4"):
        student(torch.randn(1, 3, 8, 3, 32))


def test_positions_do_not_decay_and_layers_are_groups():
    student = create_model("video_swin_tiny", 3)
    tables = {name for name, _ in student.named_parameters() if name.endswith("relative_position_bias_table")}
    assert len(tables) == 6
    assert student.no_weight_decay() == tables
    assert sum(isinstance(module, JointWindows) for module in student.modules()) == 6
    assert [info["module"] for info in student.feature_info] == ["layers.0", "layers.1", "layers.2"]
    assert [info["reduction"] for info in student.feature_info] == [4, 8, 16]
    assert {info["temporal_reduction"] for info in student.feature_info} == {2}


@pytest.mark.parametrize(
    "name, arguments, to, message",
    [
        ("swin_tiny_patch4_window7_224", {}, "i3d", r"i3d takes .*swin_tiny\w+ can be inflated to .*_swin"),
        ("swin_tiny_patch4_window7_224", {"img_size": (64, 96)}, "video_swin", "64x96, which are not square"),
        ("swin_tiny_patch4_window7_224", {"global_pool": ""}, "video_swin", "has no pooling"),
        ("swin_tiny_patch4_window7_224", {"head_dim": 8}, "video_swin", "does not record: tensors"),
        (
            "test_vit",
            {},
            "video_swin",
            "video_swin takes timm's SwinTransformer and SwinTransformerV2 networks",
        ),
    ],
)
def test_what_cannot_be_taken_is_named(name, arguments, to, message):
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    with pytest.raises(UsageError, match=message):
        inflate(model, to)


@pytest.mark.parametrize(
    "overrides, options, message",
    [
        ({"depths": "2"}, {}, "override depths='2'"),
        ({"depths": [2, True]}, {}, "cannot be recorded"),
        ({"checkpoint_path": "x"}, {}, "cannot be recorded"),
        ({"depths": [2]}, {"window": 0}, "windows of 0 time steps"),
        ({"depths": [2]}, {"frames": 3}, "at least two time steps"),
        ({"window_size": [[0, 4]] * 4}, {}, "cannot be built"),
    ],
)
def test_arguments_that_are_wrong(overrides, options, message):
    spec = {"architecture": "swin_tiny_patch4_window7_224", "img_size": 32, "overrides": overrides}
    with pytest.raises(UsageError, match=message):
        create_model("video_swin", spec=spec, **options)
