"""Arguments of networks, which may come from a file: odd ones are refused in a sentence."""

import pytest

import transfer3d
from transfer3d.errors import UsageError
from transfer3d.models.trunks.densenet3d import DenseNetSpec
from transfer3d.models.trunks.resnet3d import ResNetSpec

VIT = {"architecture": "vit_tiny_patch16_224", "img_size": 32}
BASIC = {"depths": [1] * 4, "kinds": ["basic"] * 4, "widths": [8] * 4, "stem": [8]}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("p3d_tiny", {"c_scale": "much"}, "c_scale = 'much'"),
        ("p3d_tiny", {"in_chans": "three"}, "in_chans = 'three'"),
        ("p3d_tiny", {"blocks": 3}, "blocks = 3"),
        ("f4d_tiny", {"attention": ["ta"]}, "attention = "),
        ("v4d_tiny", {"stages": "res3"}, "stages"),
        ("v4d_tiny", {"kernel": [-1, -1, -1, -1]}, "kernel.0 = -1"),
        ("v4d_tiny", {"kernel": [99_999, 1, 1, 1]}, "kernel.0 = 99999"),
        ("i3ds_tiny", {"extra": "yes"}, "extra = 'yes'"),
        ("p3d", {"spec": BASIC | {"widths": [-8, 8, 8, 8]}}, "widths.0 = -8"),
        ("p3d", {"spec": BASIC | {"stem": [0]}}, "stem.0 = 0"),
        ("p3d", {"spec": BASIC | {"depths": [], "kinds": [], "widths": []}}, "depths = "),
        ("p3d", {"spec": BASIC | {"depths": [1.5, 1, 1, 1]}}, "depths.0 = 1.5"),
        ("t3d", {"spec": {"depths": [1] * 4, "growth_rate": -32}}, "growth_rate = -32"),
        ("vivit", {"spec": VIT | {"overrides": {"act_layer": "os.system"}}}, "cannot be built: 'os.system'"),
        ("timesformer", {"spec": VIT | {"overrides": {"norm_layer": "evil"}}}, "cannot be built: 'evil'"),
    ],
)
def test_odd_arguments_are_refused(name, arguments, said):
    with pytest.raises(UsageError) as caught:
        transfer3d.create_model(name, num_classes=2, **arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize("sequence", [list, tuple])
def test_lists_and_tuples_are_the_same(sequence):
    student = transfer3d.create_model("v4d_tiny", 2, stages=sequence(["res3"]), kernel=sequence([3, 1, 1, 1]))
    assert student.num_classes == 2


def test_a_whole_number_is_a_number():
    assert transfer3d.create_model("p3d_tiny", 2, c_scale=1).num_classes == 2


@pytest.mark.parametrize("spec", [ResNetSpec(**BASIC), DenseNetSpec(depths=(1, 1))])
def test_shapes_survive_their_json_form(spec):
    assert type(spec).from_dict(spec.to_dict()).to_dict() == spec.to_dict()
