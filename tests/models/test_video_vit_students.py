"""ViViT and TimeSformer as students: the papers' sizes, timm's interface, and what positions in time do."""

from typing import Any

import pytest
import torch
from torch import nn

from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model
from transfer3d.models.measure import count_parameters
from transfer3d.nn.time_positions import TimePositions
from transfer3d.recipes.load import load_recipe
from transfer3d.run.training.students import check_recipe

TINY = ("vivit_tiny", "timesformer_tiny")
DIM, MLP, DEPTH, PATCHES, CLASSES = 768, 3072, 12, 14 * 14, 400


def linear(inputs, outputs):
    return inputs * outputs + outputs


BLOCK = linear(DIM, 3 * DIM) + linear(DIM, DIM) + linear(DIM, MLP) + linear(MLP, DIM) + 2 * 2 * DIM
ENDS = DIM + 2 * DIM + linear(DIM, CLASSES)  # class token, last norm, classifier


def base(name, **options):
    with torch.device("meta"):
        return create_model(name, CLASSES, **options)


def test_vivit_b_16x2_has_the_papers_tensors():
    """ViViT, sections 3.1 to 3.3: tubelets of 2x16x16; a position for each, and for the class token."""
    expected = ENDS + linear(3 * 2 * 16 * 16, DIM) + (16 * PATCHES + 1) * DIM + DEPTH * BLOCK
    assert count_parameters(base("vivit_base", positions="joint")) == expected == 88_954_000


def test_timesformer_b_has_the_papers_tensors():
    """TimeSformer, section 3: positions of frames and patches; an attention and a linear layer for time."""
    time = 2 * DIM + linear(DIM, 3 * DIM) + 2 * linear(DIM, DIM)
    expected = ENDS + linear(3 * 16 * 16, DIM) + (PATCHES + 1 + 8) * DIM + DEPTH * (BLOCK + time)
    assert count_parameters(base("timesformer_base")) == expected == 121_566_352


def test_transformers_counts_the_same():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    with torch.device("meta"):
        vivit = transformers.VivitForVideoClassification(transformers.VivitConfig(num_labels=CLASSES))
        config = transformers.TimesformerConfig(num_labels=CLASSES)
        timesformer = transformers.TimesformerForVideoClassification(config)
    assert count_parameters(vivit) == count_parameters(base("vivit_base", positions="joint"))
    assert count_parameters(timesformer) == count_parameters(base("timesformer_base"))


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_intermediates_are_the_patches_that_the_blocks_give(name):
    student = create_model(name, 3).eval()
    clips, given, infos = torch.randn(2, 3, 8, 32, 48), {}, student.feature_info
    for info in infos:
        block = student.get_submodule(f"trunk.net.{info['module']}")
        block.register_forward_hook(lambda _, x, y, key=info["module"]: given.update({key: y}))
    final, maps = student.forward_intermediates(clips)
    assert torch.equal(final, student.forward_features(clips))
    for info, layer in zip(infos, maps, strict=True):
        steps = 8 // info["temporal_reduction"]
        assert layer.shape == (2, info["num_chs"], steps, 2, 3)
        assert info["reduction"] == 16
        tokens = given[info["module"]].unflatten(0, (2, steps))
        for row in range(2):
            for column in range(3):
                assert torch.equal(
                    layer[:, :, :, row, column], tokens[:, :, 1 + 3 * row + column].transpose(1, 2)
                )


@pytest.mark.parametrize("name", TINY)
def test_checkpointed_activations_give_the_same_gradients(name):
    student = create_model(name, 3).train()
    for parameter in student.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    clips = torch.randn(2, 3, 8, 32, 32)
    gradients = []
    for enable in (False, True):
        student.set_grad_checkpointing(enable)
        student.zero_grad()
        student(clips).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in student.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_positions_of_other_lengths_lie_between_those_that_were_learned():
    student = create_model("timesformer_tiny", 0)
    positions = next(module for module in student.modules() if isinstance(module, TimePositions))
    positions.weight[:] = torch.arange(8.0)[:, None]
    positions.count.frames = 4
    tokens = positions(torch.zeros(8, 3, 64)).view(2, 4, 3, 64)
    assert tokens[0, :, 1, 0].tolist() == [0.5, 2.5, 4.5, 6.5]  # means of two neighbours each
    assert torch.equal(tokens[0], tokens[1])
    assert not tokens[:, :, 0].any()  # the class token has no place in time
    assert "trunk.net.norm_pre.temporal.weight" in student.no_weight_decay()


@torch.no_grad()
def test_a_frame_that_fills_no_tubelet_is_repeated_and_pixels_that_fill_no_patch_are_left_out():
    student = create_model("vivit_tiny", 3).eval()
    clips = torch.randn(1, 3, 7, 45, 32)
    filled = torch.cat((clips, clips[:, :, -1:]), 2)[..., :32, :]
    assert torch.equal(student(clips), student(filled))
    with pytest.raises(UsageError, match="frames of 32x8 are smaller than a patch of 16x16"):
        student(clips[..., :32, :8])


def test_the_published_vivit_takes_its_own_clips_alone():
    student = create_model("vivit_tiny", 3, positions="joint").eval()
    clips = torch.randn(2, 3, 8, 32, 32)
    maps = student.forward_features(clips)
    assert maps.shape == (2, 64, 4, 1 + 4, 1)
    assert torch.equal(maps[:, :, 0, 0], maps[:, :, 3, 0])  # one class token
    with pytest.raises(UsageError, match="takes clips of 8x32x32, not 4x32x32"):
        student(clips[:, :, :4])


@pytest.mark.parametrize(
    "name, numbers",
    [("vivit/sec4.1-training", (64, 30, 0.1)), ("timesformer/sec4-training", (16, 15, 0.005))],
)
def test_the_papers_recipes(name, numbers):
    recipe: Any = load_recipe(name)
    assert (recipe.batch_size, recipe.epochs, recipe.lr) == numbers
    assert recipe.source.upper().startswith(name.split("/")[0].upper())
    if recipe.schedule.kind == "step":
        assert [round(share * recipe.epochs) for share in recipe.schedule.milestones] == [11, 14]
        assert (recipe.optimizer.weight_decay, recipe.clip.frames, recipe.clip.stride) == (1e-4, 8, 32)
        assert [factor * recipe.clip.crop for factor in recipe.augment.scale] == [256, 320]
    else:
        assert round(recipe.schedule.warmup * recipe.epochs, 2) == 2.5
        assert (recipe.optimizer.weight_decay, recipe.optimizer.clip_grad_norm) == (0, 1)
        assert (recipe.clip.frames, recipe.clip.stride, recipe.augment.scale) == (32, 2, (0.9, 1.33))
    assert (recipe.optimizer.name, recipe.optimizer.momentum, recipe.clip.size) == ("momentum", 0.9, 224)
    check_recipe(recipe)
