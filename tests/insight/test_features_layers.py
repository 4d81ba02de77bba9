"""Layers against the trunks' own parts, run one after the other by hand."""

import pytest
import torch

from transfer3d.errors import UsageError
from transfer3d.insight.features.layers import LayerReader
from transfer3d.models.factory import create_model
from transfer3d.models.trunks.timm_spec import TimmSpec
from transfer3d.models.trunks.trunk import run


def student_of(name, **options):
    """A student whose answers depend on its input: its zero branches are awake."""
    student = create_model(name, num_classes=5, seed=1, **options)
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in student.named_parameters():
        if parameter_name.endswith("scale") or parameter_name.startswith("head"):
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return student.eval()


def clips_of(student, size=64):
    clip = student.clip
    shape = (
        (2, 3, clip.frames, size, size) if clip.units == 1 else (2, clip.units, 3, clip.frames, size, size)
    )
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def mean_of(maps, units=1):
    """In float64, over units, time and picture."""
    return maps.double().mean((2, 3, 4)).unflatten(0, (-1, units)).mean(1)


def resnet_maps(student, clips, last):
    """The output of a stage: of all its blocks, and of what a family puts behind them."""
    trunk, units = student.trunk, student.clip.units
    steps = trunk.steps()
    inside = [number for number, (name, _) in enumerate(steps) if name == last or name.startswith(f"{last}.")]
    folded = clips if units == 1 else clips.flatten(0, 1)
    return run(folded, steps[: inside[-1] + 1], units)


@pytest.mark.parametrize("name", ["p3d_tiny", "i3ds_tiny", "r3d_tiny", "v4d_tiny", "f4d_tiny"])
@torch.no_grad()
def test_stages_of_the_resnet_families(name):
    student = student_of(name)
    clips = clips_of(student)
    layers = ["stem", "res2", "res3", "res4", "res5", "pool5", "prob"]
    vectors = LayerReader(student, layers).read(clips)
    assert list(vectors) == layers
    for layer in layers[:5]:
        expected = mean_of(resnet_maps(student, clips, layer), student.clip.units)
        torch.testing.assert_close(vectors[layer].double(), expected, atol=1e-5, rtol=1e-5)
        assert vectors[layer].std(0).max() > 1e-3
    torch.testing.assert_close(vectors["pool5"], vectors["res5"])
    torch.testing.assert_close(vectors["prob"], student(clips).softmax(-1))
    torch.testing.assert_close(student.head(vectors["pool5"]).softmax(-1), vectors["prob"])


@torch.no_grad()
def test_blocks_by_number_and_by_the_papers_letters():
    student = student_of("p3d_resnet18")
    clips = clips_of(student, 32)[:, :, :4]
    layers = ["res4.0", "res4a", "res4.1", "res4b", "res4b1", "res4"]
    vectors = LayerReader(student, layers).read(clips)
    assert torch.equal(vectors["res4.0"], vectors["res4a"])
    assert torch.equal(vectors["res4.1"], vectors["res4b"])
    assert torch.equal(vectors["res4b"], vectors["res4b1"])
    assert torch.equal(vectors["res4"], vectors["res4b"])  # the last block ends the stage
    assert not torch.equal(vectors["res4a"], vectors["res4b"])


@pytest.mark.parametrize("name", ["t3d_tiny", "densenet3d_tiny"])
@torch.no_grad()
def test_blocks_of_the_dense_families(name):
    student = student_of(name)
    trunk, clips = student.trunk, clips_of(student)
    layers = ["stem", "blocks.0", "transitions.0", "blocks.1", "pool5"]
    vectors = LayerReader(student, layers).read(clips)
    x = trunk.stem(clips)
    expected = {"stem": mean_of(x)}
    x = trunk.blocks[0](trunk.stem_pool(x))
    expected["blocks.0"] = mean_of(x)
    x = trunk.transitions[0](x)
    expected["transitions.0"] = mean_of(x)
    expected["blocks.1"] = mean_of(trunk.blocks[1](x))
    expected["pool5"] = mean_of(trunk(clips))
    for layer in layers:
        torch.testing.assert_close(vectors[layer].double(), expected[layer], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_inceptions():
    student = student_of("i3d_tiny")
    clips = clips_of(student)
    vectors = LayerReader(student, ["inception4c", "inception5b", "pool5"]).read(clips)
    names = [name for name, _ in student.trunk.named_children()]
    maps = clips
    for name in names[: names.index("inception4c") + 1]:
        maps = student.trunk.get_submodule(name)(maps)
    torch.testing.assert_close(vectors["inception4c"].double(), mean_of(maps), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vectors["inception5b"], vectors["pool5"])


@pytest.mark.parametrize(("net", "last"), [("test_convnext", "stages.3"), ("test_efficientnet", "blocks.4")])
@torch.no_grad()
def test_stages_that_timm_names(net, last):
    """A still clip through a net that sees single frames: timm's own intermediates of the image."""
    student = create_model("i3d", num_classes=5, spec=TimmSpec(architecture=net).to_dict(), depths=[1] * 6)
    names = list(student.eval().trunk.layers())
    assert last in names
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    vectors = LayerReader(student, names).read(images[:, :, None].expand(-1, -1, 3, -1, -1))
    intermediates = student.trunk.net.forward_intermediates(images, intermediates_only=True)
    for name, maps in zip(names, intermediates, strict=True):
        torch.testing.assert_close(vectors[name], maps.mean((2, 3)), atol=1e-5, rtol=1e-4)
    moving = LayerReader(student, [last]).read(torch.stack([images, -images], 2))
    both = vectors[last] + LayerReader(student, [last]).read(-images[:, :, None])[last]
    torch.testing.assert_close(moving[last], both / 2, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_cells_keep_the_places():
    student = student_of("p3d_tiny")
    clips = clips_of(student)
    vectors = LayerReader(student, ["res3", "res3@2"]).read(clips)
    maps = resnet_maps(student, clips, "res3").mean(2)
    half = maps.shape[-1] // 2
    assert maps.shape[-1] == 2 * half
    corner = vectors["res3@2"].unflatten(1, (-1, 2, 2))[:, :, 1, 0]
    torch.testing.assert_close(corner, maps[:, :, half:, :half].mean((2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vectors["res3@2"].unflatten(1, (-1, 4)).mean(-1), vectors["res3"])


@torch.no_grad()
def test_maps_of_half_precision_are_averaged_in_float32():
    student = student_of("p3d_tiny").bfloat16()
    clips = clips_of(student).bfloat16()
    vectors = LayerReader(student, ["res3", "pool5", "prob"]).read(clips)
    assert {vector.dtype for vector in vectors.values()} == {torch.float32}
    maps = resnet_maps(student, clips, "res3")
    assert maps.dtype == torch.bfloat16
    torch.testing.assert_close(vectors["res3"].double(), mean_of(maps), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_works_in_place_behind_a_layer_does_not_reach_back():
    student = student_of("p3d_tiny")
    stem, clips = student.trunk.stem, clips_of(student)
    expected = mean_of(stem(clips))
    student.trunk.stem_pool.register_forward_pre_hook(lambda module, inputs: inputs[0].zero_())
    vectors = LayerReader(student, ["stem"]).read(clips)
    torch.testing.assert_close(vectors["stem"].double(), expected, atol=1e-5, rtol=1e-5)
    assert not stem._forward_hooks  # nothing stays behind


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        (
            "p3d_tiny",
            ["pol5"],
            r"p3d_tiny has no layer 'pol5' \(did you mean 'pool5'\?\): it has pool5, prob, stem",
        ),
        ("p3d_tiny", ["res5c"], "p3d_tiny has no layer 'res5c'"),
        ("t3d_tiny", ["res4"], "it has .*blocks.0, transitions.0, blocks.1"),
        ("t3d_tiny", ["blocks"], "no layer 'blocks'"),
        ("p3d_tiny", ["res4@0"], "layer 'res4@0': @ needs a number of cells"),
        ("p3d_tiny", ["res4@x"], "layer 'res4@x'"),
        ("p3d_tiny", ["pool5@2"], "layer 'pool5@2'"),
        ("p3d_tiny", [""], "no layer ''"),
    ],
)
def test_layers_that_there_are_not(name, layers, message):
    with pytest.raises(UsageError, match=message):
        LayerReader(create_model(name, num_classes=3), layers)


def test_scores_need_a_classifier():
    with pytest.raises(UsageError, match="no classifier, so it has no 'prob'"):
        LayerReader(create_model("p3d_tiny", num_classes=0), ["prob"])
