"""What every student must do, whatever its family."""

import shutil

import pytest
import torch
from sweeps import sweep

from transfer3d.errors import UsageError
from transfer3d.models.factory import create_model
from transfer3d.models.registry import entry, families, list_models, register_student

TINY = list_models("*_tiny")
COMPILED = ("p3d_tiny", "v4d_tiny")
"""Compiled in every test run: one of each kind of trunk, and one that takes units."""


def clips_for(student, batch=2, **sizes):
    clip = student.clip
    sizes = {"frames": clip.frames, "height": clip.size, "width": clip.size, **sizes}
    generator = torch.Generator().manual_seed(0)
    units = (clip.units,) if clip.units > 1 else ()
    return torch.randn(batch, *units, len(clip.mean), *sizes.values(), generator=generator)


@pytest.mark.parametrize("name", TINY)
def test_forward_agrees_with_its_two_halves(name):
    student = create_model(name, num_classes=5).eval()
    clips = clips_for(student)
    maps = student.forward_features(clips)
    pooled = student.forward_head(maps, pre_logits=True)
    assert pooled.shape == (2, student.num_features)
    if student.trunk.pools_by_average:
        torch.testing.assert_close(pooled, maps.mean((2, 3, 4)))
    torch.testing.assert_close(student(clips), student.head(pooled))


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_finite_gradient(name):
    student = create_model(name, num_classes=5).train()
    student(clips_for(student)).square().mean().backward()
    for parameter_name, parameter in student.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # a branch that starts at zero learns from its second step on: tests/models/test_zero_branches.py
        zero_branch = ".after" in parameter_name or ".temporal." in parameter_name
        assert parameter.grad.any() or zero_branch, parameter_name


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("frames, height, width", [(1, 32, 32), (2, 33, 47), (7, 40, 32), (17, 32, 32)])
def test_any_number_of_frames_and_odd_sizes(name, frames, height, width):
    student = create_model(name, num_classes=3).eval()
    with torch.no_grad():
        assert student(clips_for(student, frames=frames, height=height, width=width)).shape == (2, 3)


@pytest.mark.parametrize("name", TINY)
def test_channels_last_gives_the_same(name):
    student = create_model(name, num_classes=5).eval()
    clips = clips_for(student)
    with torch.no_grad():
        plain = student(clips)
        student.to(memory_format=torch.channels_last_3d)
        frames = clips.flatten(0, -5).to(memory_format=torch.channels_last_3d)
        last = student(frames.unflatten(0, clips.shape[:-4]))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_bf16_autocast_is_close(name):
    student = create_model(name, num_classes=5).eval()
    clips = clips_for(student)
    with torch.no_grad():
        plain = student(clips)
        with torch.autocast("cpu", torch.bfloat16):
            low = student(clips)
    assert low.dtype == torch.bfloat16
    assert (low.float() - plain).norm() / plain.norm() < 0.05


def compiled(name, backend, **sizes):
    """Answers of the compiled student and of the plain one."""
    student = create_model(name, num_classes=5).eval()
    clips = clips_for(student, **sizes)
    torch.compiler.reset()  # what is left of another student would be compiled again, for any shape
    with torch.no_grad():
        return torch.compile(student, fullgraph=True, backend=backend)(clips), student(clips)


@pytest.mark.parametrize(
    "name", [name if name in COMPILED else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
)
def test_compiles_as_one_graph(name):
    torch.testing.assert_close(*compiled(name, "aot_eager", frames=4), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch's inductor needs a C++ compiler",
)
@pytest.mark.parametrize("name", TINY)
def test_compiles_to_machine_code(name):
    torch.testing.assert_close(*compiled(name, "inductor"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name if name in COMPILED else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
)
def test_exports(name):
    student = create_model(name, num_classes=5).eval()
    clips = clips_for(student)
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(student, (clips,), dynamic_shapes=({0: batch},))
        torch.testing.assert_close(program.module()(clips[:1]), student(clips[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_reset_classifier(name):
    student = create_model(name, num_classes=5)
    student.reset_classifier(7, seed=1)
    assert student.num_classes == 7
    assert student(clips_for(student)).shape == (2, 7)
    first = student.head.weight.clone()
    student.reset_classifier(7, seed=1)
    assert torch.equal(first, student.head.weight)
    student.reset_classifier(0)
    assert student(clips_for(student)).shape == (2, student.num_features)


@pytest.mark.parametrize("name", sweep(list_models(), [*TINY, "p3d63", "t3d_densenet121"]))
def test_every_name_builds_on_meta_and_is_rebuilt_by_its_own_facts(name):
    with torch.device("meta"):
        student = create_model(name, num_classes=11, drop_rate=0.5)
        again = create_model(student.model_name, num_classes=11, **student.model_args)
    shapes = {key: tensor.shape for key, tensor in student.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in again.state_dict().items()}
    assert student.model_name == name
    assert again.dropout.p == 0.5


def test_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = create_model("p3d_tiny", seed=3).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = create_model("p3d_tiny", seed=3).state_dict()
    other = create_model("p3d_tiny", seed=4).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_convolutions_start_as_he_et_al_say():
    student = create_model("t3d_tiny")
    conv = student.trunk.get_submodule("blocks.3.2.conv2")  # the widest 3x3x3
    fan_out = conv.out_channels * 27
    assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_in_chans_widens_the_stem_and_the_facts():
    student = create_model("t3d_tiny", in_chans=2, num_classes=3)
    assert len(student.clip.mean) == len(student.clip.std) == 2
    assert student(clips_for(student)).shape == (2, 3)


def test_a_clip_of_other_axes_is_refused():
    with pytest.raises(UsageError, match="not 4 axes"):
        create_model("p3d_tiny")(torch.zeros(3, 8, 32, 32))


def test_aliases_are_the_papers_names():
    for alias, name in {
        "p3d63": "p3d_resnet50",
        "p3d131": "p3d_resnet101",
        "p3d199": "p3d_resnet152",
        "t3d121": "t3d_densenet121",
        "t3d169": "t3d_densenet169",
        "densenet3d121": "densenet3d_densenet121",
    }.items():
        assert entry(alias) is entry(name)
        assert list_models(alias) == [name]


@pytest.mark.parametrize(
    "wrong, near", [("p3d_resnet5O", "p3d_resnet50"), ("t3d_densnet121", "t3d_densenet121")]
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        create_model(wrong)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"block": "A"}, "did you mean 'blocks'"),
        ({"blocks": "AX"}, "blocks='AX'"),
        ({"blocks": ""}, "blocks=''"),
        ({"stride_in": "time"}, "stride_in = 'time'"),
        ({"wiring": "x"}, "wiring = 'x'"),
        ({"spec": {"depths": [1]}}, "`spec` of p3d"),
        ({"spec": {"depths": [1, 1], "kinds": ["basic"]}}, "lengths differ"),
    ],
)
def test_wrong_arguments_are_usage_errors(arguments, said):
    with pytest.raises(UsageError) as caught:
        create_model("p3d_tiny", **arguments)
    assert said in str(caught.value)


def test_a_family_needs_a_shape_and_takes_any():
    with pytest.raises(UsageError, match="p3d_resnet50"):
        create_model("p3d")
    spec = {"depths": [1, 1, 1, 1], "kinds": ["basic"] * 4, "widths": [8, 8, 8, 8], "stem": [8]}
    student = create_model("p3d", spec=spec, num_classes=2)
    assert student.model_args == {
        "spec": {**spec, "avg_down": False, "cardinality": 1, "base_width": 64, "squeeze": 0.0}
    }


def test_registration_is_strict():
    known = entry("p3d_tiny")
    shape = (known.spec, known.clip)
    with pytest.raises(ValueError, match="taken"):
        register_student("p3d_tiny", "p3d", *shape, source="x")
    with pytest.raises(ValueError, match="taken"):
        register_student("p3d_new", "p3d", *shape, source="x", aliases=("p3d63",))
    with pytest.raises(ValueError, match="taken"):
        register_student("p3d", "p3d", *shape, source="x")
    with pytest.raises(ValueError, match="no family"):
        register_student("new", "nowhere", *shape, source="x")
    with pytest.raises(ValueError, match="no options"):
        register_student("new", "p3d", *shape, source="x", options={"colour": 1})
    assert "p3d_new" not in list_models()


def test_every_family_has_a_paper_and_every_student_a_timm_source():
    import timm

    import transfer3d.models.image  # noqa: F401 - registers those that timm lacks

    assert all(family.paper for family in families().values())
    assert all(timm.is_model(entry(name).source) for name in list_models())
