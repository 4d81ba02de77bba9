"""Parameters, multiply-accumulates and feature-map sizes, against the papers, on the meta device."""

import pytest
import timm
import torch

from transfer3d.models.image import create_image_model
from transfer3d.models.measure import count_gmac, count_parameters, measure
from transfer3d.models.registry import create_model, entry, list_models

PARAMETERS = [
    ("p3d_resnet50", 101, 25_132_581),
    ("p3d_resnet101", 101, 47_475_749),
    ("p3d_resnet152", 400, 66_492_240),
    ("densenet3d_densenet121", 0, 11_248_896),
    ("densenet3d_densenet169", 0, 18_548_992),
    ("t3d_densenet121", 0, 14_894_336),
    ("t3d_densenet169", 0, 22_694_144),
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


@pytest.mark.parametrize(
    "name, table",
    [("densenet3d121", TABLE_1), ("t3d121", TABLE_1), ("t3d169", TABLE_1), ("p3d63", P3D_SIZES)],
)
def test_sizes_of_feature_maps(name, table):
    student, sizes = on_meta(name).eval(), {}
    for layer in table:
        student.trunk.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: sizes.update({layer: tuple(output.shape[2:])})
        )
    clip = student.clip
    student(torch.empty(1, 3, clip.frames, clip.size, clip.size, device="meta"))
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
