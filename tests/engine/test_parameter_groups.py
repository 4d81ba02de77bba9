"""Which parameter learns how fast."""

import pytest
import torch
from torch import nn

from transfer3d.engine.optim import OptimizerConfig, make_optimizer, set_learning_rate
from transfer3d.engine.parameter_groups import layer_depths, parameter_groups, scale_of
from transfer3d.engine.state import pack_state, read_state, unpack_state
from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models

TINY = list_models("*tiny")


def scales(module, **options):
    """The scale of every parameter, by name, None for one that does not learn."""
    given = {"lr_scale": {}, "layer_decay": None, "weight_decay": 0.1, **options}
    found = {
        id(parameter): (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(module, **given)
        for parameter in group["params"]
    }
    return {name: found.get(id(parameter)) for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("name", TINY)
def test_depth_falls_along_the_forward_pass_of_every_family(name):
    """The order of layers is that in which a forward pass comes to them."""
    student = create_model(name, num_classes=3).eval()
    depths = layer_depths(student)
    seen = []

    def note(name):
        return lambda *_: seen.append(name)

    leaves = [
        (f"{prefix}.{own[0]}", module)
        for prefix, module in student.named_modules()
        if (own := [name for name, _ in module.named_parameters(recurse=False)])
        and prefix.startswith("trunk.")
    ]
    for name, module in leaves:
        module.register_forward_pre_hook(note(name))
    clip = student.clip
    shape = (3, clip.frames, clip.size, clip.size)
    with torch.no_grad():
        student(torch.zeros(1, *((clip.units,) if clip.units > 1 else ()), *shape))
    order = [depths[name] for name in seen]
    assert order == sorted(order, reverse=True)
    assert min(order) == 1
    assert not any(name.startswith("head") for name in depths)
    assert max(order) >= 5


def test_layer_decay_is_a_power_for_each_layer():
    student = create_model("p3d_tiny", num_classes=3)
    depths = layer_depths(student)
    for name, (scale, _) in scales(student, layer_decay=0.5).items():
        assert scale == 0.5 ** depths.get(name, 0), name


def test_biases_and_normalisation_do_not_decay():
    student = create_model("p3d_tiny", num_classes=3)
    for name, (_, decay) in scales(student).items():
        assert decay == (0.1 if student.get_parameter(name).ndim > 1 else 0.0)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("vivit_tiny", ("cls_token", "pos_embed", "norm_pre.temporal.weight")),
        ("video_swin_tiny", ("relative_position_bias_table",)),
    ],
)
def test_what_the_network_names_does_not_decay(name, without):
    student = create_model(name, num_classes=3)
    exempt = [key for key, parameter in student.named_parameters() if key.endswith(without)]
    assert exempt
    for key, (_, decay) in scales(student).items():
        assert decay == (0.0 if key in exempt or student.get_parameter(key).ndim == 1 else 0.1), key


@pytest.mark.parametrize("name", ["vivit_tiny", "p3d_tiny"])
@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_state_from_when_all_weights_decayed_is_read(name, optimizer, weight_decay):
    config = OptimizerConfig(name=optimizer, weight_decay=weight_decay, layer_decay=0.75)
    before, now = create_model(name, num_classes=3), create_model(name, num_classes=3)
    before.no_weight_decay = set
    stepped, fresh = (make_optimizer(student, 0.1, config) for student in (before, now))
    for parameter in before.parameters():
        parameter.grad = torch.randn_like(parameter)
    stepped.step()
    state = stepped.state_dict()  # torch's own numbers, as checkpoints had them
    tensors = {f"model.{key}": value for key, value in before.state_dict().items()}
    for number, slots in state["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": value for slot, value in slots.items()}
    noted = {"optimizer": {"param_groups": state["param_groups"], "scalars": {}}}
    rest = {"step": 1, "scores": [], "metrics": {}, "identity": {}, "processes": 1}
    unpack_state(tensors, read_state({**rest, **noted}, steps=1), now, fresh)
    for (key, old), new in zip(before.named_parameters(), now.parameters(), strict=True):
        assert torch.equal(old, new), key
        for slot, value in stepped.state[old].items():
            assert torch.equal(fresh.state[new][slot], value), (key, slot)
    again, _ = pack_state(now, fresh)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], value) for key, value in tensors.items())


def test_lr_scale_goes_by_name_and_zero_is_frozen():
    student = create_model("v4d_tiny", num_classes=3)
    found = scales(student, lr_scale={"trunk": 0.1, "*.after*": 0.0, "head": 10.0})
    for name, value in found.items():
        if ".after" in name:
            assert value is None
            assert not student.get_parameter(name).requires_grad
        else:
            assert value[0] == (10.0 if name.startswith("head") else 0.1)


def test_the_longest_name_counts_and_a_name_is_no_prefix_of_letters():
    assert scale_of("trunk.res3.0.weight", {"trunk": 2, "trunk.res3": 3, "trunk.res": 5}) == 3
    assert scale_of("trunk.res2.0.weight", {"trunk.res3": 3}) == 1


def test_a_student_within_an_objective_has_the_same_names():
    outer = nn.ModuleDict({"student": create_model("p3d_tiny", num_classes=0), "head": nn.Linear(2, 2)})
    found = scales(outer, lr_scale={"trunk.stem": 0.0, "head": 3.0}, layer_decay=0.9)
    assert {found[name] for name in found if "trunk.stem" in name} == {None}
    assert found["head.weight"][0] == 3.0


def test_an_unknown_name_gets_the_nearest():
    student = create_model("p3d_tiny", num_classes=3)
    with pytest.raises(UsageError, match=r"'trunk.res9'.*did you mean 'trunk.res"):
        make_optimizer(student, 0.1, OptimizerConfig(lr_scale={"trunk.res9": 1.0}))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_frozen_parts_stay_and_others_move_in_proportion(name):
    student = create_model("p3d_tiny", num_classes=3)
    config = OptimizerConfig(name=name, momentum=0.0, weight_decay=0.0, lr_scale={"trunk": 0, "head": 0.5})
    optimizer = make_optimizer(student, 0.1, config)
    before = {key: value.clone() for key, value in student.named_parameters()}
    set_learning_rate(optimizer, 0.2)
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {key: (before[key] - value.detach()).abs().max() for key, value in student.named_parameters()}
    assert all(moved[key] == 0 for key in moved if key.startswith("trunk."))
    assert float(moved["head.weight"]) == pytest.approx(0.1, rel=1e-3)  # 0.2 * 0.5 * gradient of 1
