"""Class activation maps of vision transformers: Grad-CAM by its definition, and where heat lies."""

import copy
from typing import Any

import pytest
import torch
from media import encode
from torch import nn
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import UsageError
from transfer3d.insight.cam import class_map
from transfer3d.layout import ClipSpec
from transfer3d.nn.pixels import normalise

KINDS: dict[str, tuple[str, Any]] = {
    "vivit": ("vivit_tiny", {}),
    "joint table": ("vivit_tiny", {"positions": "joint"}),
    "timesformer": ("timesformer_tiny", {}),
    "factorised encoder": ("timesformer_tiny", {"encoder_depth": 1}),
    "of units": ("vivit_tiny", {"clip": ClipSpec(frames=8, size=32, crop=32, units=2)}),
}
AVERAGING = {"architecture": "test_vit", "img_size": 32, "overrides": {"global_pool": "avg"}}
PATCH = 16
BLOCK = 4
"""The deepest of 6 blocks whose patches the class token still sees."""


def make(kind):
    name, options = KINDS[kind]
    student = transfer3d.create_model(name, 3, seed=0, **options).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in student.parameters():  # what starts as zero would hide what it does
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    shape = (2, 3, 8, 32, 32) if student.clip.units > 1 else (3, 8, 32, 32)
    return student, torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def slopes_of(student, clip, target, tokens, directions, step=1e-4):
    """By how much the score grows along directions [n, ... L D] of a block's tokens: central differences."""
    clips = normalise(clip[None], student.clip.mean, student.clip.std, torch.float64)
    slopes = []
    for direction in directions:
        scores = []
        for sign in (1, -1):
            moved = student.trunk.net.blocks[BLOCK].register_forward_hook(
                lambda _module, _inputs, _output, to=tokens + sign * step * direction: to
            )
            scores.append(student(clips)[0, target])
            moved.remove()
        slopes.append((scores[0] - scores[1]) / (2 * step))
    return torch.stack(slopes)


@pytest.mark.parametrize(
    "kind",
    ["vivit", "joint table", *(pytest.param(kind, marks=pytest.mark.slow) for kind in list(KINDS)[2:])],
)
@torch.no_grad()
def test_evidence_is_grad_cam_of_the_patches_by_finite_differences(kind):
    """Equation (1): a channel's weight is the mean over places of the score's slope, which is the slope along
    the direction that moves the channel at every place at once. Equation (2): channels, weighed and added."""
    student, clip = make(kind)
    found = class_map(student, clip, target=1)
    assert (found.method, found.layer) == ("gradcam", f"blocks.{BLOCK}")
    units, exact, kept = student.clip.units, copy.deepcopy(student).double(), []
    hook = exact.trunk.net.blocks[BLOCK].register_forward_hook(lambda _module, _inputs, y: kept.append(y))
    exact(normalise(clip[None], student.clip.mean, student.clip.std, torch.float64))
    hook.remove()
    (tokens,) = kept
    expected = torch.zeros(units, found.evidence.numel() // units, dtype=torch.float64)
    for unit in range(units):
        rows = slice(unit * len(tokens) // units, (unit + 1) * len(tokens) // units)
        patches = tokens[rows, 1:].flatten(0, 1)  # each step's rows, or the whole clip's
        directions = torch.zeros(tokens.shape[-1], *tokens.shape, dtype=torch.float64)
        for channel, direction in enumerate(directions):
            direction[rows, 1:, channel] = 1 / len(patches)
        expected[unit] = patches @ slopes_of(exact, clip, 1, tokens, directions)
    torch.testing.assert_close(found.evidence.flatten(), expected.flatten().float(), rtol=1e-3, atol=1e-6)
    assert found.heat.shape == clip[..., 0, :, :, :].shape


def planted_student(name, *, class_token):
    """A transformer whose blocks mix no patches, but for the last one: it reads them all alike."""
    options: Any = {} if class_token else {"spec": AVERAGING}
    name = name if class_token else name.removesuffix("_tiny")
    clip = ClipSpec(frames=8, size=64, crop=64)
    student = transfer3d.create_model(name, 2, seed=0, clip=clip, frames=8, **options).eval()
    last = len(student.trunk.net.blocks) - 1
    for path, module in student.trunk.named_modules():
        if path.endswith("attn.proj") and f"blocks.{last}." not in path:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif path.endswith("attn.qkv"):
            nn.init.zeros_(module.weight[: 2 * module.in_features])
    return student


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("name", ["vivit_tiny", "timesformer_tiny"])
@pytest.mark.parametrize("place", [(0, 0), (1, 3)])
def test_heat_follows_the_place_of_the_evidence(name, class_token, place):
    """Class 1 is recognised by the difference between the features of noise and those of grey."""
    student = planted_student(name, class_token=class_token)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 8, 64, 64), generator=generator, dtype=torch.uint8)
    grey = torch.full_like(noise, 128)
    row, column = (PATCH * index for index in place)
    where = (slice(None), slice(4, None), slice(row, row + PATCH), slice(column, column + PATCH))
    planted = grey.clone()
    planted[where] = noise[where]
    with torch.no_grad():
        seen, unseen = (
            student.forward_head(student.forward_features(clip[None]), True)[0] for clip in (planted, grey)
        )
    student.head.weight.data[1] = (seen - unseen) / (seen - unseen).norm()
    found = class_map(student, planted, target=1)
    assert found.layer == ("blocks.4" if class_token else "blocks.5")
    steps = found.evidence.shape[0]
    relative = found.evidence - class_map(student, grey, target=1).evidence
    hottest = relative.flatten().argmax()
    assert tuple(int(i) for i in torch.unravel_index(hottest, relative.shape))[1:] == place
    assert hottest // 16 >= steps // 2


def test_what_cannot_be_shown_is_refused():
    student, clip = make("vivit")
    with pytest.raises(
        UsageError, match=r"do not depend on the patch tokens of layer 'blocks\.5'.*Use blocks\.4"
    ):
        class_map(student, clip, layer="blocks.5")
    with pytest.raises(UsageError, match=r"no layer 'block\.4'.*did you mean 'blocks\.4'"):
        class_map(student, clip, layer="block.4")
    with pytest.raises(UsageError, match="Use --method gradcam"):
        class_map(student, clip, method="classifier")
    student.head.weight.data.zero_()
    found = class_map(student, clip)
    assert not found.has_evidence


def test_the_student_keeps_its_mode_and_gets_no_gradient():
    student, clip = make("timesformer")
    student.train()
    student.set_grad_checkpointing()
    class_map(student, clip)
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())
    assert not any(module._forward_hooks for module in student.modules())


@pytest.mark.slow
@pytest.mark.parametrize("format", ["gif", "mp4"])
def test_the_command_draws_them(format, tmp_path):
    student, _ = make("vivit")
    transfer3d.save(student, tmp_path / "s.safetensors", class_names=["a", "b", "c"])
    pixels = torch.randint(0, 256, (12, 32, 32, 3), dtype=torch.uint8).numpy()
    (tmp_path / "v.mp4").write_bytes(encode(pixels))
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        ["cam", str(tmp_path / "s.safetensors"), str(tmp_path / "v.mp4"), "--format", format, "-o", str(out)],
    )
    assert done.exit_code == 0, done.output
    assert "gradcam, blocks.4 4x2x2" in done.output
    assert sorted(path.name for path in out.iterdir()) == [f"v.{format}", "v.png"]
