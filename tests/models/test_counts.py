"""Parameters, multiply-accumulates and feature-map sizes, against the papers, on the meta device."""

import pytest
import timm
import torch
import torchvision

from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.models.measure import count_gmac, count_parameters, measure
from transfer3d.models.registry import entry, list_models

PARAMETERS = [
    ("p3d_resnet50", 101, 25_132_581),
    ("p3d_resnet101", 101, 47_475_749),
    ("p3d_resnet152", 400, 66_492_240),
    ("densenet3d_densenet121", 0, 11_248_896),
    ("densenet3d_densenet169", 0, 18_548_992),
    ("t3d_densenet121", 0, 14_894_336),
    ("t3d_densenet169", 0, 22_694_144),
    ("i3ds_resnet18", 1000, 32_333_352),  # the paper's table 2a counts a 1000-class head
    ("i3ds_resnet50", 400, 32_454_096),
    ("v4d_resnet18", 1000, 33_070_632 + 3 * (128 + 256)),  # and BN's two numbers and s for each channel
    ("tsn_i3ds_resnet18", 1000, 32_333_352),
]


def on_meta(name, **kwargs):
    with torch.device("meta"):
        return create_model(name, **kwargs)


@pytest.mark.parametrize("name, num_classes, expected", PARAMETERS)
def test_parameters(name, num_classes, expected):
    assert count_parameters(on_meta(name, num_classes=num_classes)) == expected


@pytest.mark.parametrize("stride_in, expected", [("reduce", 8.441), ("spatial", 8.716)])
def test_gmac_of_p3d63(stride_in, expected):
    student = on_meta("p3d63", num_classes=101, stride_in=stride_in)
    assert count_gmac(student) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("name, expected", [("densenet3d121", 62.55), ("t3d121", 102.85)])
def test_gmac_of_dense_students(name, expected):
    assert measure(name).gmac == pytest.approx(expected, abs=5e-3)


def test_the_ratio_that_the_t3d_paper_states():
    pair = [count_parameters(on_meta(name, num_classes=0)) for name in ("t3d121", "densenet3d121")]
    assert round(pair[0] / pair[1], 1) == 1.3


def test_t3d_and_densenet3d_pool_to_1024_features():
    assert on_meta("t3d121").num_features == on_meta("densenet3d121").num_features == 1024


@pytest.mark.parametrize(
    "name, num_classes, shape, expected",
    [
        ("i3ds_resnet18", 1000, None, 54.913),
        ("i3ds_resnet18", 1000, (1, 3, 16, 256, 256), 71.72),
        ("i3ds_resnet50", 400, None, 54.518),
        ("v4d_resnet18", 1000, None, 58.612),
        ("v4d_resnet50", 174, None, 462.9),
        ("f4d_resnet50", 174, None, 190.5),
    ],
)
def test_gmac_to_four_digits(name, num_classes, shape, expected):
    gmac = count_gmac(on_meta(name, num_classes=num_classes), shape)
    assert float(f"{gmac:.4g}") == pytest.approx(expected, rel=2e-4)


def test_v4d_adds_what_the_paper_s_table_2_says():
    """32.3 M to 33.1 M parameters, 55.1 to 58.8 GMAC: the same 3.7 more; ++ has 34.1 M."""
    v4d, tsn, extra = (
        on_meta(name, num_classes=1000)
        for name in ("v4d_resnet18", "tsn_i3ds_resnet18", "i3ds_resnet18_extra")
    )
    assert round(count_parameters(v4d) / 1e6, 1) == 33.1
    assert round(count_parameters(extra) / 1e6, 1) == 34.1
    assert count_gmac(v4d) - count_gmac(tsn) == pytest.approx(58.8 - 55.1, abs=0.005)


def test_v4d_resnet50_has_five_blocks_and_the_released_form_two():
    paper = on_meta("v4d_resnet50", num_classes=174)
    blocks = [name for name, _ in paper.trunk.steps() if "after" in name]
    assert blocks == ["res3.after1", "res3.after3", "res4.after1", "res4.after3", "res4.after5"]
    assert round(count_parameters(paper) / 1e6, 1) == 65.0
    released = on_meta("v4d_resnet50", num_classes=0, stages=["res3"], norm_act=False)
    assert count_parameters(released) == 36_353_088
    assert float(f"{count_gmac(released):.4g}") == 285.3


def test_f4d_is_as_large_as_the_paper_says_and_cheaper_than_v4d():
    f4d = on_meta("f4d_resnet50", num_classes=174)
    assert count_parameters(f4d) / 1e6 == pytest.approx(36.8, rel=0.03)  # table 1
    assert count_gmac(f4d) <= 0.45 * count_gmac(on_meta("v4d_resnet50", num_classes=174))
    released = on_meta("v4d_resnet50", num_classes=174, stages=["res3"], norm_act=False)
    assert count_gmac(f4d) <= 0.67 * count_gmac(released)


def test_r3d18_without_the_stem_s_pool_is_torchvision_s():
    student = on_meta("r3d_resnet18", num_classes=400, stem_pool=False)
    assert count_parameters(student) == 33_371_472
    assert float(f"{count_gmac(student):.4g}") == 40.70
    with torch.device("meta"):
        theirs = torchvision.models.video.r3d_18(num_classes=400)
    shapes = [sorted(tuple(p.shape) for p in net.parameters()) for net in (student, theirs)]
    assert shapes[0] == shapes[1]


def test_i3d_is_torchvision_s_googlenet_with_a_third_axis():
    """Every kxk kernel gets k taps in time; all else is as long as it was."""
    with torch.device("meta"):
        flat = torchvision.models.googlenet(aux_logits=False, init_weights=False, num_classes=400)
    inflated = sum(p.numel() * (p.shape[-1] if p.ndim == 4 else 1) for p in flat.parameters())
    assert count_parameters(on_meta("i3d_googlenet", num_classes=400)) == inflated


# Table 1 of T3D, written H x W x T there.
TABLE_1 = {
    "stem": (16, 112, 112),
    "stem_pool": (16, 56, 56),
    "blocks.0": (16, 56, 56),
    "transitions.0": (8, 28, 28),
    "blocks.1": (8, 28, 28),
    "transitions.1": (4, 14, 14),
    "blocks.2": (4, 14, 14),
    "transitions.2": (2, 7, 7),
    "blocks.3": (2, 7, 7),
}

# P3D: 16 frames leave one for res5 (the authors' release).
P3D_SIZES = {
    "stem": (16, 80, 80),
    "stem_pool": (8, 40, 40),
    "res2": (8, 40, 40),
    "res3": (4, 20, 20),
    "res4": (2, 10, 10),
    "res5": (1, 5, 5),
}


# Table 1 of V4D: four frames of a unit stay four.
V4D_SIZES = {
    "stem": (4, 112, 112),
    "res2": (4, 56, 56),
    "res3": (4, 28, 28),
    "res4": (4, 14, 14),
    "res5": (4, 7, 7),
}
UNITS_OF_8 = {layer: (8, *size[1:]) for layer, size in V4D_SIZES.items()}

# Figure 3 of I3D: 64 frames, halved by the stem, the third pool and the fourth.
I3D_SIZES = {
    "conv1": (32, 112, 112),
    "maxpool1": (32, 56, 56),
    "maxpool2": (32, 28, 28),
    "maxpool3": (16, 14, 14),
    "maxpool4": (8, 7, 7),
    "inception5b": (8, 7, 7),
}


@pytest.mark.parametrize(
    "name, table",
    [
        ("densenet3d121", TABLE_1),
        ("t3d121", TABLE_1),
        ("t3d169", TABLE_1),
        ("p3d63", P3D_SIZES),
        ("v4d_resnet18", V4D_SIZES),
        ("v4d_resnet50", UNITS_OF_8),
        ("f4d_resnet50", UNITS_OF_8),
        ("i3d_googlenet", I3D_SIZES),
    ],
)
def test_sizes_of_feature_maps(name, table):
    student, sizes = on_meta(name).eval(), {}
    for layer in table:
        student.trunk.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: sizes.update({layer: tuple(output.shape[2:])})
        )
    clip = student.clip
    units = (clip.units,) if clip.units > 1 else ()
    student(torch.empty(1, *units, 3, clip.frames, clip.size, clip.size, device="meta"))
    assert sizes == table


def test_the_released_stem_halves_time_in_the_pool():
    student = on_meta("t3d121", stem_pool_t=2)
    maps = student.forward_features(torch.empty(1, 3, 32, 224, 224, device="meta"))
    assert maps.shape == (1, 1024, 1, 7, 7)


def test_ttl_keeps_the_widths_of_the_2d_densenet():
    with torch.device("meta"):
        image_model = timm.create_model("densenet121")
        student = create_model("t3d_densenet121")
    for index in range(3):
        width_2d = image_model.get_submodule(f"features.transition{index + 1}.conv").out_channels
        branches = student.trunk.transitions[index].branches
        assert sum(branch.out_channels for branch in branches) == width_2d
        assert [branch.kernel_size[0] for branch in branches] == [1, 3, (6, 4, 4)[index]]


@pytest.mark.parametrize("name", list_models("*_tiny"))
def test_tiny_students_are_tiny_and_have_a_tiny_source(name):
    assert count_parameters(on_meta(name)) <= 1_200_000
    source = create_image_model(entry(name).source, "none")
    assert count_parameters(source) < 500_000


def test_every_family_has_a_tiny_student():
    families = [{entry(name).family for name in list_models(pattern)} for pattern in ("*", "*_tiny")]
    assert families[0] == families[1]
