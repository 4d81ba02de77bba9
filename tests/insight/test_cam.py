"""Class activation maps: they sum to the logit, agree with gradients, and lie where evidence was planted."""

import sys
from dataclasses import replace

import pytest
import torch
from sweeps import sweep
from torch import nn

import transfer3d
from transfer3d.errors import NonFiniteError, SetupError, UsageError
from transfer3d.insight.cam import ClassMap, class_map, layer_sizes
from transfer3d.layout import ClipSpec
from transfer3d.nn.conv4d import Conv4d
from transfer3d.nn.pixels import normalise

FAMILIES = ("p3d", "t3d", "i3d", "i3ds", "r3d", "densenet3d", "v4d", "f4d")
SIZE = 64
TIMM = {"name": "i3d", "spec": {"architecture": "test_resnet"}}


def make(family, *, frames=16, size=SIZE):
    """A tiny student with a head to speak of, and a clip of noise."""
    student = transfer3d.create_model(f"{family}_tiny", num_classes=3, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    student.head.weight.data = torch.randn(student.head.weight.shape, generator=generator)
    student.head.bias.data = torch.randn(3, generator=generator)
    for name, parameter in student.named_parameters():
        if name.endswith("scale.weight"):  # 4D blocks begin as the identity
            parameter.data.fill_(0.1)
    shape = (4, 3, 4, size, size) if student.clip.units > 1 else (3, frames, size, size)
    return student, torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def timm_student():
    clip = ClipSpec(frames=4, size=SIZE, crop=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    student = transfer3d.create_model(**TIMM, num_classes=3, clip=clip, seed=1).eval()
    nn.init.normal_(student.head.weight)
    generator = torch.Generator().manual_seed(0)
    return student, torch.randint(0, 256, (3, 4, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def forward(student, clip_u8):
    with torch.no_grad():
        return student(normalise(clip_u8[None], student.clip.mean, student.clip.std))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_evidence_and_bias_add_up_to_the_logit(family):
    student, clip = make(family)
    logits = forward(student, clip)
    for target in range(3):
        found = class_map(student, clip, target=target, method="classifier")
        torch.testing.assert_close(found.evidence.mean() + student.head.bias[target], logits[target])
    assert found.scores_K.tolist() == pytest.approx(logits.softmax(-1).tolist(), rel=1e-4)
    assert found.predicted == int(logits.argmax())
    assert class_map(student, clip, method="classifier").target == int(logits.argmax())


@pytest.mark.parametrize("family", FAMILIES)
def test_grad_cam_of_the_last_layer_is_the_classifiers_map(family):
    student, clip = make(family)
    exact = class_map(student, clip, target=1, method="classifier")
    captum = class_map(student, clip, target=1, method="gradcam")
    assert (exact.layer, captum.layer) == ("last", "last")
    torch.testing.assert_close(captum.evidence * exact.evidence.numel(), exact.evidence, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(captum.heat, exact.heat, rtol=1e-3, atol=1e-3)


def test_a_network_of_timm_that_averages_has_the_same_map_by_gradients():
    student, clip = timm_student()
    found = class_map(student, clip, target=2, method="gradcam")
    with torch.no_grad():
        maps = student.forward_features(normalise(clip[None], student.clip.mean, student.clip.std))
    expected = (maps[0] * student.head.weight[2][:, None, None, None]).sum(0)
    torch.testing.assert_close(found.evidence * expected.numel(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family, layer", [("p3d", "res3"), ("v4d", "res4"), ("t3d", "blocks.1")])
def test_grad_cam_of_an_inner_layer_is_its_definition(family, layer):
    student, clip = make(family)
    found = class_map(student, clip, target=0, layer=layer)
    kept = []
    module = student.trunk.get_submodule(layer)
    hook = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    logit = student(normalise(clip[None], student.clip.mean, student.clip.std))[0, 0]
    hook.remove()
    (maps,) = kept
    (gradient,) = torch.autograd.grad(logit, maps)
    expected = (maps * gradient.mean((2, 3, 4), keepdim=True)).sum(1).detach()
    torch.testing.assert_close(found.evidence, expected if family == "v4d" else expected[0])
    assert found.method == "gradcam"


def test_a_layer_that_sees_frames_as_a_batch_has_its_times_back():
    student, clip = timm_student()
    found = class_map(student, clip, layer="layer2")
    assert (
        tuple(found.evidence.shape)
        == layer_sizes(student, normalise(clip[None], (0.5,) * 3, (0.5,) * 3))["layer2"]
    )
    assert found.heat.shape == (4, SIZE, SIZE)
    kept = []
    hook = student.trunk.net.layer2.register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    logit = student(normalise(clip[None], student.clip.mean, student.clip.std))[0, found.target]
    hook.remove()
    (maps_TCHW,) = kept
    (gradient,) = torch.autograd.grad(logit, maps_TCHW)
    expected = (maps_TCHW * gradient.mean((2, 3), keepdim=True)).sum(1).detach()
    torch.testing.assert_close(found.evidence, expected)
    assert not torch.allclose(expected, expected.flip(0))


def plant(clip, *, frames=slice(None), unit=None):
    """A grey clip with noise in the upper right quadrant, at some frames, of one unit."""
    planted = torch.full_like(clip, 128)
    where = planted if unit is None else planted[unit]
    source = clip if unit is None else clip[unit]
    middle = clip.shape[-1] // 2
    where[:, frames, :middle, middle:] = source[:, frames, :middle, middle:]
    return planted


def look_straight(student):
    """Makes a student see with its kernels' centres alone: untrained ones spread over maps of 2x2."""
    for name, module in student.trunk.named_modules():
        if isinstance(module, nn.Conv3d | Conv4d):
            straight = torch.zeros_like(module.weight)
            if ".branch4." not in name:  # an inception's pool looks around, nine times one after the other
                centre = (slice(None), slice(None), *((size - 1) // 2 for size in module.weight.shape[2:]))
                straight[centre] = module.weight.detach()[centre].abs()
            module.weight.data = straight


PLANTED = [(f, m) for f in ("p3d", "t3d", "i3d", "r3d", "v4d", "f4d") for m in ("classifier", "auto")]


@pytest.mark.parametrize("family, method", sweep(PLANTED, [*PLANTED[::2], ("p3d", "auto")]))
def test_heat_lies_where_and_when_the_evidence_was_planted(family, method):
    """Class 1 is recognised by the difference between the features of noise and those of grey."""
    # The pools of a GoogLeNet look to the right: they are given more room.
    student, clip = make(family, size=128) if family == "i3d" else make(family, frames=32)
    look_straight(student)
    with torch.no_grad():
        noise, grey = (
            student.forward_features(normalise(c[None], student.clip.mean, student.clip.std)).mean(
                (0, 2, 3, 4)
            )
            for c in (clip, torch.full_like(clip, 128))
        )
    student.head.weight.data[1] = (noise - grey) / (noise - grey).norm()
    units, half, middle = student.clip.units > 1, clip.shape[-3] // 2, clip.shape[-1] // 2
    planted = plant(clip, unit=2) if units else plant(clip, frames=slice(half, None))
    found = class_map(student, planted, target=1, method=method)
    inside = torch.zeros(found.heat.shape, dtype=torch.bool)
    (inside[2] if units else inside[half:])[..., :middle, middle:] = True
    assert found.heat[inside].max() == 1
    assert found.heat[inside].mean() > 5 * found.heat[~inside].mean()
    assert found.heat.min() >= 0
    assert found.heat.max() == 1


def test_auto_takes_the_deepest_layer_that_tells_places_and_times_apart():
    student, clip = make("p3d")
    sizes = layer_sizes(student, normalise(clip[None], (0.5,) * 3, (0.5,) * 3))
    assert (sizes["res4"], sizes["res4_pool"], sizes["last"]) == ((2, 4, 4), (1, 4, 4), (1, 2, 2))
    assert class_map(student, clip).layer == "res4"
    student, clip = make("i3ds", frames=2)
    large = clip.repeat_interleave(2, -1).repeat_interleave(2, -2)
    found = class_map(student, large)
    assert (found.method, found.layer, tuple(found.evidence.shape)) == ("classifier", "last", (2, 4, 4))


def test_a_headline_names_true_predicted_and_shown_class():
    heat = torch.ones(4, 2, 1, 1)
    found = ClassMap(heat, heat, torch.tensor([0.625, 0.25, 0.125]), 2, "gradcam", "last")
    names = ["run", "walk", "sit"]
    assert found.headline(names) == "predicted run (62.5%), heat for sit (12.5%)"
    cold = replace(found, evidence=torch.zeros(4, 2, 1, 1))
    assert cold.headline(names).endswith("heat for sit (12.5%), no evidence for sit in the clip")
    assert replace(found, target=0).headline(names, "walk") == "true walk, predicted run (62.5%)"
    one_cell = replace(found, target=0, evidence=torch.ones(4, 1, 1, 1))
    assert one_cell.headline(names).endswith(
        "(62.5%), the layer has a single cell: no resolution in space or time"
    )


def test_what_only_speaks_against_the_class_is_cold():
    student, clip = make("p3d")
    student.head.weight.data.fill_(-1)  # feature maps are not negative
    found = class_map(student, clip, method="classifier")
    assert found.evidence.max() < 0
    assert found.heat.abs().max() == 0


def test_the_student_keeps_its_mode_and_gets_no_gradient():
    student, clip = make("p3d")
    student.train()
    class_map(student, clip)
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())
    assert not any(module._forward_hooks for module in student.modules())


def test_what_cannot_be_shown_is_refused():
    student, clip = make("p3d")
    with pytest.raises(UsageError, match="no class 3: the student has 3"):
        class_map(student, clip, target=3)
    with pytest.raises(UsageError, match="did you mean 'res4'"):
        class_map(student, clip, layer="ress4")
    with pytest.raises(UsageError, match="Use --method gradcam"):
        class_map(student, clip, method="classifier", layer="res4")
    with pytest.raises(UsageError, match="does not pool by averaging"):
        class_map(*timm_student(), method="classifier")
    student.head.weight.data.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="not finite"):
        class_map(student, clip)
    student.reset_classifier(0)
    with pytest.raises(UsageError, match="no classifier"):
        class_map(student, clip)


def test_without_captum_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    student, clip = make("p3d")
    with pytest.raises(SetupError, match=r"pip install 'transfer3d\[cam\]'"):
        class_map(student, clip, method="gradcam")
    assert class_map(student, clip, method="classifier").layer == "last"
