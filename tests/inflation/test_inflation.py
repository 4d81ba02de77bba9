"""Inflation: the still-clip property, the account, and what is refused."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from transfer3d import inflate
from transfer3d.errors import UsageError, WeightsError
from transfer3d.inflation.parity import TOLERANCE, check_parity
from transfer3d.inflation.rules import spread
from transfer3d.inflation.weight_report import Row, check_complete
from transfer3d.models.checkpoint import load, save
from transfer3d.models.factory import create_model
from transfer3d.nn.convolution import conv3d

PAIRS = [
    ("test_resnet", "p3d"),
    ("test_resnet", "i3ds"),
    ("test_resnet", "r3d"),
    ("test_resnet", "v4d"),
    ("test_resnet", "f4d"),
    ("test_googlenet", "i3d"),
    ("test_densenet", "densenet3d"),
    ("test_densenet", "t3d"),
]


def still_difference(model, student, size=48, frames=8):
    images = torch.randn(3, len(student.clip.mean), size, size, generator=torch.Generator().manual_seed(9))
    clips = images[:, :, None].expand(-1, -1, frames, -1, -1)
    if student.clip.units > 1:
        clips = clips[:, None].expand(-1, 3, -1, -1, -1, -1)
    with torch.no_grad():
        expected, actual = model(images), student(clips)
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("source, family", PAIRS)
@pytest.mark.parametrize("frozen_bn", [False, True])
def test_on_a_still_clip_the_student_is_the_2d_net(source, family, frozen_bn, image_model):
    model = image_model(source)
    done = inflate(model, family, frozen_bn=frozen_bn)
    assert done.proof.verdict == "proved"
    assert still_difference(model, done.student) <= TOLERANCE
    assert still_difference(model, done.student, size=33, frames=5) <= TOLERANCE


@pytest.mark.parametrize("source, family", PAIRS)
def test_a_moving_clip_is_not_a_still_one(source, family, image_model):
    """The property must not hold because time is ignored: frames beside the centre do reach the features."""
    student = inflate(image_model(source), family, temporal_init="mean").student
    units = (student.clip.units,) if student.clip.units > 1 else ()
    clips = torch.randn(1, *units, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # not reversed: alike taps are symmetric in time
        played, shuffled = student(clips), student(clips[..., [0, 2, 4, 6, 1, 3, 5, 7], :, :])
    assert (played - shuffled).norm() > 1e-4 * played.norm()


@pytest.mark.parametrize("source, family", PAIRS)
def test_mean_kernels_are_proved_with_repeated_padding(source, family, image_model):
    proof = inflate(image_model(source), family, temporal_init="mean").proof
    assert proof.verdict == "proved"
    assert proof.temporal_padding == "replicate"
    assert proof.difference <= TOLERANCE < 1e-3 < proof.zero_padding_difference


@pytest.mark.parametrize("source, family", PAIRS)
def test_random_kernels_prove_nothing_and_say_so(source, family, image_model):
    done = inflate(image_model(source), family, temporal_init="random")
    assert done.proof.verdict == "nothing proved"
    assert done.proof.difference is None
    assert "Nothing is proved" in str(done.proof)


def test_random_leaves_temporal_kernels_as_built_and_copies_the_rest(image_model):
    model = image_model("test_densenet")
    student = inflate(model, "densenet3d", temporal_init="random", seed=4).student
    built = create_model("densenet3d_tiny", num_classes=1000, seed=4)
    deep = {n for n, p in student.named_parameters() if p.ndim == 5 and p.shape[2] > 1}
    for name in deep:
        assert torch.equal(student.get_parameter(name), built.get_parameter(name)), name
    conv1 = model.get_parameter("features.denseblock2.denselayer2.conv1.weight")
    assert torch.equal(student.get_parameter("trunk.blocks.1.1.conv1.weight"), conv1[:, :, None])


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("resnet10t", {}),
        ("resnet26d", {"channels": (16, 16, 32, 32), "layers": (2, 1, 2, 1)}),
        ("wide_resnet50_2", {"channels": (8, 16, 16, 16), "layers": (1, 2, 1, 1)}),
        ("resnext50_32x4d", {"channels": (32, 32, 32, 32), "layers": (1, 1, 2, 1), "cardinality": 4}),
        ("seresnet50", {"channels": (16, 16, 32, 64), "layers": (1, 1, 1, 1)}),
    ],
)
def test_variants_of_resnet_keep_their_shape_through_a_file(name, kwargs, tmp_path, randomise):
    model = randomise(timm.create_model(name, num_classes=7, **kwargs))
    done = inflate(model, "p3d")
    save(done.student, tmp_path / "student.safetensors", provenance=done.provenance)
    again = load(tmp_path / "student.safetensors")
    assert again.model_name == "p3d"
    assert still_difference(model, again) <= TOLERANCE


@pytest.mark.parametrize(
    "source, family, name",
    [
        ("resnet18", "v4d", "v4d_resnet18"),
        *(
            pytest.param(*names, marks=pytest.mark.slow)
            for names in (
                ("resnet50", "p3d", "p3d_resnet50"),
                ("densenet121", "t3d", "t3d_densenet121"),
                ("resnet50", "f4d", "f4d_resnet50"),
                ("googlenet", "i3d", "i3d_googlenet"),
            )
        ),
    ],
)
def test_the_papers_own_sizes(source, family, name, image_model):
    done = inflate(image_model(source), family)
    assert done.student.model_name == name
    assert done.proof.verdict == "proved"
    assert done.proof.values == 2 * (1000 + done.student.num_features)


def test_p3d_of_a_timm_resnet_strides_where_timm_does_and_says_so(image_model):
    model = image_model("resnet50", num_classes=3)
    assert inflate(model, "p3d").student.model_args == {"stride_in": "spatial"}
    with pytest.raises(WeightsError, match="failed"):
        inflate(model, "p3d", stride_in="reduce")


@pytest.mark.parametrize("blocks", ["A", "B", "C"])
def test_pure_nets(blocks, image_model):
    model = image_model("test_resnet")
    assert still_difference(model, inflate(model, "p3d", blocks=blocks).student) <= TOLERANCE


def test_the_proof_fails_when_a_branch_is_not_zero(image_model):
    model = image_model("test_resnet")
    student = inflate(model, "p3d", blocks="B").student
    nn.init.ones_(student.trunk.get_submodule("res3.0.units.0.temporal.norm").weight)
    assert check_parity(model, student).verdict == "failed"


def test_the_proof_fails_when_one_tensor_is_not_the_2d_nets(image_model):
    model = image_model("test_densenet")
    student = inflate(model, "t3d").student
    with torch.no_grad():
        student.trunk.get_submodule("blocks.2.1.norm2").bias += 0.01
    assert check_parity(model, student).verdict == "failed"


def chaotic(model):
    """Makes a network's stem nearly constant, and what follows blow up the little that is left."""
    nn.init.constant_(model.bn1.weight, 1e-3)
    nn.init.constant_(model.bn1.bias, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module is not model.bn1:
            module.momentum = 1.0
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.train()(images)
        mean = model.eval().forward_head(model.forward_features(images), pre_logits=True).mean(0)
        model.fc.bias.copy_(-model.fc.weight @ mean)
    return model


def test_where_fp32_cannot_tell_fp64_does(image_model):
    model = chaotic(image_model("test_resnet"))
    student = inflate(model, "i3ds").student
    noise = torch.randn(32, 1, 1, 1, generator=torch.Generator().manual_seed(1))

    def round_otherwise(module, inputs, output):  # as on a machine that adds in another order
        return output * (1 + noise * torch.finfo(output.dtype).eps)

    student.trunk.stem.register_forward_hook(round_otherwise)
    proof = check_parity(model, student)
    assert (proof.verdict, proof.precision) == ("proved", "fp64")
    assert proof.difference < 1e-9 < TOLERANCE < proof.rounding
    assert "in fp32 the 2D net has a rounding error" in str(proof)
    with torch.no_grad():
        student.trunk.get_submodule("res5.0.units.1.norm").bias += 0.01
    assert check_parity(model, student).verdict == "failed"


def test_a_proof_over_zeros_is_an_error(image_model):
    model = image_model("test_densenet")
    nn.init.zeros_(model.features.norm5.weight)
    nn.init.zeros_(model.features.norm5.bias)
    with pytest.raises(WeightsError, match="nothing to compare"):
        inflate(model, "t3d")


def test_weights_that_are_not_finite_are_an_error(image_model):
    model = image_model("test_resnet")
    nn.init.constant_(model.bn1.bias, float("nan"))
    with pytest.raises(WeightsError, match="nothing to compare"):
        inflate(model, "p3d")


@pytest.mark.parametrize("source, family", PAIRS)
def test_the_account_names_every_tensor_once(source, family, image_model):
    model = image_model(source)
    done = inflate(model, family)
    rows = done.weight_report.rows
    assert sorted(row.target for row in rows) == sorted(done.student.state_dict())
    assert {row.source for row in rows} - {None} == set(model.state_dict())
    fresh = {row.target for row in rows if row.how == "fresh"}
    assert all(".temporal." in name or ".after" in name for name in fresh)
    assert bool(fresh) == (family in ("p3d", "v4d", "f4d"))


def test_the_account_is_what_happened(image_model):
    """Every row that claims values is checked against the values."""
    model = image_model("test_densenet")
    done = inflate(model, "t3d")
    source, target = model.state_dict(), done.student.state_dict()
    for row in done.weight_report.rows:
        actual = target[row.target]
        if row.how == "copied":
            assert torch.equal(actual, source[row.source]), row
        elif "branches" not in row.target:
            assert torch.equal(actual.sum(2), source[row.source]), row
    for index, depth in enumerate((6, 4, 4)):
        rows_2d = source[f"features.transition{index + 1}.conv.weight"][:, :, 0, 0]
        parts = [target[f"trunk.transitions.{index}.branches.{branch}.weight"] for branch in range(3)]
        taps = [parts[0][:, :, 0, 0, 0], parts[1][:, :, 1, 1, 1], parts[2][:, :, (depth - 1) // 2, 1, 1]]
        assert torch.equal(torch.cat(taps), rows_2d)


def test_another_number_of_classes_drops_the_head_and_nothing_else(image_model):
    model = image_model("test_resnet")
    done = inflate(model, "p3d", num_classes=6)
    dropped = [row.source for row in done.weight_report.rows if row.how == "dropped"]
    assert dropped == ["fc.weight", "fc.bias"]
    assert {row.target for row in done.weight_report.rows if row.how == "fresh" and "head" in row.target} == {
        "head.weight",
        "head.bias",
    }
    assert done.student.num_classes == 6
    assert done.proof.logits_difference is None
    assert done.proof.verdict == "proved"


def test_no_classifier_on_either_side(image_model):
    headless = image_model("test_resnet", num_classes=0)
    done = inflate(headless, "p3d")
    assert done.student.num_classes == 0
    assert done.proof.verdict == "proved"
    assert inflate(headless, "p3d", num_classes=5).student.head.out_features == 5
    assert inflate(image_model("test_resnet"), "p3d", num_classes=0).weight_report.counts()["dropped"] == 2


@pytest.mark.parametrize("source, family", PAIRS)
def test_other_input_channels(source, family, image_model):
    model = image_model(source, in_chans=2)
    student = inflate(model, family).student
    assert student.model_args["in_chans"] == 2
    assert still_difference(model, student) <= TOLERANCE


def test_the_student_takes_the_image_models_mean_and_deviation(image_model):
    model = image_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.1, 0.2, 0.3)}
    assert inflate(model, "p3d").student.clip.mean == (0.1, 0.2, 0.3)


def test_the_image_model_is_not_changed(image_model):
    model = image_model("test_resnet").train()
    before = copy.deepcopy(model.state_dict())
    student = inflate(model, "p3d").student
    assert model.training
    assert not student.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        student.head.weight.add_(1)
    assert torch.equal(before["fc.weight"], model.fc.weight)


@pytest.mark.parametrize(
    "source, kwargs, to, message",
    [
        ("convnext_atto", {}, "p3d", r"ResNets.*convnext_atto can be inflated to i3d"),
        ("test_resnet", {}, "t3d", r"DenseNets.*test_resnet can be inflated to .*p3d"),
        ("test_densenet", {}, "p3d", r"ResNets.*test_densenet can be inflated to densenet3d, i3d, t3d"),
        ("test_resnet", {}, "p3d_resnet50", r"inflated from resnet50.*--to p3d"),
        ("test_resnet", {}, "p3dd", r"did you mean 'p3d'"),
        ("test_resnet", {"act_layer": nn.SiLU}, "p3d", r"SiLU"),
        ("test_resnet", {"output_stride": 16}, "p3d", r"dilated"),
        ("test_resnet", {"global_pool": "max"}, "p3d", r"global max pooling"),
        ("test_resnet", {"replace_stem_pool": True}, "p3d", r"stem without its max pool"),
        ("test_resnet", {"aa_layer": nn.AvgPool2d}, "p3d", r"anti-aliasing"),
        ("test_densenet", {"stem_type": "deep"}, "t3d", r"deep stem"),
    ],
)
def test_a_combination_that_cannot_work_says_which_can(source, kwargs, to, message):
    model = timm.create_model(source, **kwargs)
    with pytest.raises(UsageError, match=message):
        inflate(model, to)


def test_an_unknown_temporal_init(image_model):
    with pytest.raises(UsageError, match="one of"):
        inflate(image_model("test_resnet"), "p3d", temporal_init="centre")


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("temporal_init", ["center", "mean"])
def test_a_spread_kernel_sums_to_the_2d_kernel(depth, temporal_init):
    kernel = torch.randn(4, 3, 3, 3)
    wide = spread(kernel, depth, temporal_init)
    torch.testing.assert_close(wide.sum(2), kernel)
    if temporal_init == "center":
        still = torch.randn(2, 3, 5, 5)
        conv = conv3d(3, 4, (depth, 3, 3))
        conv.weight.data = wide
        actual = conv(still[:, :, None].expand(-1, -1, 7, -1, -1))
        torch.testing.assert_close(actual, F.conv2d(still, kernel, padding=1)[:, :, None].expand_as(actual))


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "not filled"),
        (
            [Row(target="a", source="x", how="copied"), Row(target="a", source="x", how="copied")],
            "filled twice",
        ),
        ([Row(target="a", source=None, how="fresh")], "left fresh unexpectedly"),
        ([Row(target="a", source=None, how="fresh")], "not used"),
        (
            [Row(target="a", source="x", how="copied"), Row(target=None, source="x", how="dropped")],
            "were dropped unexpectedly",
        ),
        (
            [Row(target="a", source="x", how="copied"), Row(target="b", source="x", how="copied")],
            "not the student",
        ),
    ],
)
def test_an_incomplete_weight_report_is_an_error(rows, message):
    with pytest.raises(WeightsError, match=message):
        check_complete(rows, targets=["a"], sources=["x"], fresh="new", dropped="head")
