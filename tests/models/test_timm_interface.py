"""timm's interface, against hooks, timm's own functions and plain autograd."""

import copy

import pytest
import timm
import torch
from sweeps import sweep
from timm.optim import param_groups_layer_decay
from torch import nn

from transfer3d.engine.parameter_groups import parameter_groups
from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models

VITS = ("vivit_tiny", "timesformer_tiny")
"""Their layers give tokens, not maps: see test_video_vits.py."""
TINY = list_models("*_tiny")
NETS = ("test_resnet", "test_convnext", "test_efficientnet")
ALL = [*TINY, *NETS]
SOME = ("p3d_tiny", "v4d_tiny", "t3d_tiny", "i3d_tiny", "video_swin_tiny", "vivit_tiny", "test_convnext")
"""One of each kind, which runs in every test run."""
FOLDED = (*NETS, "video_swin_tiny")
"""timm's modules run over the frames as a batch."""


def student_of(name, num_classes=3, **options):
    """A tiny student or a tiny timm network over clips, with every zero branch awake."""
    if name in NETS:
        options["spec"] = {"architecture": name}
    student = create_model("i3d" if name in NETS else name, num_classes, **options)
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in student.named_parameters():
        if parameter_name.endswith("scale.weight"):
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return student


def clips_of(student, batch=2):
    clip = student.clip
    units = (clip.units,) if clip.units > 1 else ()
    shape = (batch, *units, 3, min(clip.frames, 8), 32, 32)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", sweep([name for name in ALL if name not in VITS], SOME))
@torch.no_grad()
def test_intermediates_are_the_outputs_of_the_modules(name):
    student = student_of(name).eval()
    clips, units, recorded = clips_of(student), student.clip.units, {}
    infos = student.feature_info
    prefix = "trunk.net." if name in FOLDED else "trunk."
    for info in infos:
        module = student.get_submodule(prefix + info["module"])
        module.register_forward_hook(
            lambda module, inputs, output, key=info["module"]: recorded.update({key: output.clone()})
        )
    expected = student.forward_features(clips)
    final, maps = student.forward_intermediates(clips)
    assert torch.equal(final, expected)
    assert len(maps) == len(recorded) == len(infos)
    for info, layer in zip(infos, maps, strict=True):
        output = recorded[info["module"]]
        if name in FOLDED:
            output = output if name in NETS else output.permute(0, 3, 1, 2)  # channels are last
            output = output.unflatten(0, (2, -1)).transpose(1, 2)
        else:
            output = torch.cat(output.unflatten(0, (2, units)).unbind(1), 2)
        assert torch.equal(layer, output), info
        assert layer.shape[1] == info["num_chs"]
        assert layer.shape[-1] == 32 // info["reduction"]
    assert torch.equal(student.forward_intermediates(clips, [-1, 0], intermediates_only=True)[1], maps[0])
    assert torch.equal(student.forward_intermediates(clips, 1, intermediates_only=True)[0], maps[-1])


@pytest.mark.parametrize("net", NETS)
def test_feature_info_is_timms(net):
    for ours, theirs in zip(student_of(net).feature_info, timm.create_model(net).feature_info, strict=True):
        assert {key: theirs[key] for key in ("module", "num_chs", "reduction")}.items() <= ours.items()
        assert ours["temporal_reduction"] == 1


@pytest.mark.parametrize("name", ["p3d_tiny", "t3d_tiny", "v4d_tiny", "test_resnet"])
@torch.no_grad()
def test_stop_early_runs_no_later_layer(name):
    student = student_of(name).eval()
    clips, last = clips_of(student), []
    full = student.forward_intermediates(clips, [0, 2], intermediates_only=True)
    for module in (list(student.trunk.modules())[-1], list(student.trunk.modules())[-2]):
        module.register_forward_hook(lambda *_: last.append(1))
    final, maps = student.forward_intermediates(clips, [0, 2], stop_early=True)
    assert not last
    assert all(torch.equal(early, late) for early, late in zip(maps, full, strict=True))
    assert torch.equal(final, maps[-1])


@torch.no_grad()
def test_any_layer_by_name_and_what_there_is_not():
    student = student_of("p3d_tiny").eval()
    clips = clips_of(student)
    block, stage, pool = student.forward_intermediates(
        clips, ["res3.0", "res3", "res3_pool"], intermediates_only=True
    )
    assert torch.equal(block, stage)
    assert pool.shape[2] == stage.shape[2] // 2
    for indices, message in (([5], "no layer 5"), (["res9"], "did you mean"), ([-6], "no layer -6")):
        with pytest.raises(UsageError, match=message):
            student.forward_intermediates(clips, indices)
    with pytest.raises(UsageError, match="NCTHW"):
        student.forward_intermediates(clips, output_fmt="NLC")


@pytest.mark.parametrize("name", sweep(ALL, SOME))
def test_features_only_is_the_net_without_later_layers(name):
    options = {"spec": {"architecture": name}} if name in NETS else {}
    features = create_model(
        "i3d" if name in NETS else name, features_only=True, out_indices=(0, -2), **options
    )
    whole = create_model("i3d" if name in NETS else name, 0, **options)
    clips = clips_of(whole)
    maps = features.eval()(clips)
    expected = whole.eval().forward_intermediates(clips, [0, -2], intermediates_only=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, expected, strict=True))
    assert features.feature_info.channels() == [layer.shape[1] for layer in maps]
    assert features.feature_info.reduction() == [32 // layer.shape[-1] for layer in maps]
    sum(layer.square().mean() for layer in features.train()(clips)).backward()
    assert all(parameter.grad is not None for parameter in features.parameters())


def test_data_config_is_the_students_own():
    student = create_model("p3d_resnet18", 3)
    config = timm.data.resolve_data_config({}, model=student)
    assert config["input_size"] == (3, 160, 160)
    assert config["crop_pct"] == pytest.approx(160 / 182)
    tiny = timm.data.resolve_data_config({}, model=create_model("p3d_tiny", 3))
    assert (tiny["mean"], tiny["std"], tiny["input_size"]) == ((0.5,) * 3, (0.5,) * 3, (3, 32, 32))


@pytest.mark.parametrize("name", sweep(ALL, SOME))
def test_recomputed_activations_change_nothing_but_memory(name):
    plain = student_of(name, drop_rate=0.5).train()
    recomputed = copy.deepcopy(plain)
    recomputed.set_grad_checkpointing()
    clips, kept = clips_of(plain), {}
    for student in (plain, recomputed):
        torch.manual_seed(2)
        saved = []
        pack = lambda tensor, saved=saved: saved.append(tensor.numel()) or tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = student(clips).square().mean()
        loss.backward()
        kept[student] = sum(saved)
    for (key, ours), theirs in zip(recomputed.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), key
    for (key, ours), theirs in zip(recomputed.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), key
    norms = [part for part in recomputed.modules() if isinstance(part, nn.BatchNorm3d)]
    assert all(norm.momentum == 0.1 for norm in norms)
    assert kept[recomputed] < 0.8 * kept[plain]


@pytest.mark.parametrize("name", ALL)
def test_timms_layer_decay(name):
    student = student_of(name)
    groups = param_groups_layer_decay(student, layer_decay=0.5)
    scale_of = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert len(scale_of) == len(list(student.parameters()))
    assert scale_of[id(student.head.weight)] == 1.0
    first = next(student.trunk.parameters())
    assert scale_of[id(first)] == min(scale_of.values()) < 0.1
    assert len(student.group_matcher(coarse=True)) <= len(student.group_matcher())
    assert student.no_weight_decay() <= {key for key, _ in student.named_parameters()}


@pytest.mark.parametrize("name", ALL)
def test_our_groups_are_timms(name):
    student = student_of(name)
    expected = param_groups_layer_decay(
        student, weight_decay=0.1, no_weight_decay_list=student.no_weight_decay(), layer_decay=0.75
    )
    for module in (student, nn.ModuleDict({"student": student}), nn.ModuleDict({"network": student})):
        decay = None if "network" in dict(module.named_children()) else 0.75
        groups = parameter_groups(module, lr_scale={}, layer_decay=decay, weight_decay=0.1)
        ours, theirs = (
            {
                id(parameter): (decay and pytest.approx(group["lr_scale"]), group["weight_decay"])
                for group in found
                for parameter in group["params"]
            }
            for found in (groups, expected)
        )
        assert ours == theirs


def test_patterns_of_timm_name_weights_without_decay():
    trunk = create_model("i3d", 3, spec={"architecture": "test_resnet"}).trunk
    trunk.net.no_weight_decay = lambda: {"layer2.*.weight", "bn1.bias"}
    weights = {key for key, _ in trunk.named_parameters() if ".layer2." in key and key.endswith(".weight")}
    assert trunk.no_weight_decay() == {"net.bn1.bias", *weights}


def test_classifier_and_pooling():
    student = create_model("p3d_tiny", 3)
    assert student.get_classifier() is student.head
    assert (student.global_pool, student.head_hidden_size) == ("avg", student.num_features)
    clips = clips_of(student)
    student.class_names = ["a", "b", "c"]
    student.reset_classifier(0, "")
    assert student.class_names is None
    assert student.eval()(clips).shape == student.forward_features(clips).shape
    again = create_model(student.model_name, 0, **student.model_args)
    assert again.global_pool == ""
    with pytest.raises(UsageError, match="3 classes without pooling"):
        student.reset_classifier(3)
    with pytest.raises(UsageError, match="global_pool='max'"):
        student.reset_classifier(3, "max")
    student.reset_classifier(3, "avg")
    assert student(clips).shape == (2, 3)
