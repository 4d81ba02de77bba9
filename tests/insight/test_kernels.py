"""Temporal kernels: kernels made by hand have shares that are known exactly."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import WeightsError
from transfer3d.insight.kernels import FREQUENCIES, by_stage, measure_taps, stage_of, temporal_kernels
from transfer3d.insight.pictures.kernels import kernel_figure
from transfer3d.models.factory import create_model

F = np.array(FREQUENCIES)


def kernel(*taps):
    """A kernel `4 3 K 5 5` whose every place has these taps, each place times a number of its own."""
    places = torch.randn(4, 3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    return places * torch.tensor(taps).view(1, 1, -1, 1, 1)


BY_HAND = [
    # taps, offsets, energy, symmetric, response
    ((0, 1, 0), (-1, 0, 1), (0, 1, 0), 1, np.ones_like(F)),
    ((-1, 0, 1), (-1, 0, 1), (0.5, 0, 0.5), 0, 2 * np.sin(2 * np.pi * F) ** 2),
    ((1, 1, 1), (-1, 0, 1), (1 / 3, 1 / 3, 1 / 3), 1, (1 + 2 * np.cos(2 * np.pi * F)) ** 2 / 3),
    ((1, -2, 1), (-1, 0, 1), (1 / 6, 4 / 6, 1 / 6), 1, (2 - 2 * np.cos(2 * np.pi * F)) ** 2 / 6),
    ((0, 1, 1), (-1, 0, 1), (0, 0.5, 0.5), 0.75, 1 + np.cos(2 * np.pi * F)),
    # Even kernels see one frame more ahead; a tap without a counterpart is half of each part.
    ((0, 1, 0, 0), (-1, 0, 1, 2), (0, 1, 0, 0), 1, np.ones_like(F)),
    ((0, 0, 0, 3), (-1, 0, 1, 2), (0, 0, 0, 1), 0.5, np.ones_like(F)),
]


@pytest.mark.parametrize(("taps", "offsets", "energy", "symmetric", "response"), BY_HAND)
def test_kernels_by_hand(taps, offsets, energy, symmetric, response):
    found = measure_taps(kernel(*taps), 2)
    assert found is not None
    assert found.offsets == offsets
    assert found.energy == pytest.approx(energy)
    assert found.centre == pytest.approx(energy[offsets.index(0)])
    assert found.off_centre == pytest.approx(math.sqrt(1 - found.centre), abs=1e-7)
    assert found.symmetric == pytest.approx(symmetric)
    assert found.antisymmetric == pytest.approx(1 - symmetric)
    np.testing.assert_allclose(found.response, response, atol=1e-6)


@pytest.mark.parametrize("depth", [3, 4, 6, 7])
def test_any_kernel_by_its_definitions(depth):
    """Tap by tap, with the Fourier transform and the nearest kernel with a centre tap written out."""
    weight = torch.randn(5, 2, depth, 3, 3, generator=torch.Generator().manual_seed(1))
    found = measure_taps(weight, 2)
    taps, before = weight.double().movedim(2, 0).flatten(1).numpy(), (depth - 1) // 2
    at = {k: taps[k + before] if 0 <= k + before < depth else 0 * taps[0] for k in range(-depth, depth + 1)}
    total = sum((row**2).sum() for row in at.values())
    even = sum((((at[k] + at[-k]) / 2) ** 2).sum() for k in at) / total
    odd = sum((((at[k] - at[-k]) / 2) ** 2).sum() for k in at) / total
    assert (found.symmetric, found.antisymmetric) == pytest.approx((even, odd))
    centred = np.zeros_like(taps)
    centred[before] = taps[before]
    assert found.off_centre == pytest.approx(np.linalg.norm(taps - centred) / np.linalg.norm(taps))
    for frequency, power in zip(FREQUENCIES[::8], found.response[::8], strict=True):
        waves = sum(row * np.exp(-2j * np.pi * frequency * k) for k, row in at.items())
        assert power == pytest.approx((abs(waves) ** 2).sum() / total)
    assert np.trapezoid(found.response, F) * 2 == pytest.approx(1)  # Parseval


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_what_a_kernel_drawn_at_random_has(depth):
    found = measure_taps(torch.randn(64, 64, depth, 3, 3, generator=torch.Generator().manual_seed(2)), 2)
    assert found.centre == pytest.approx(found.random_centre, rel=0.02)
    assert found.symmetric == pytest.approx(found.random_symmetric, rel=0.02)
    np.testing.assert_allclose(found.response, 1, atol=0.03)


RESNETS = ("p3d", "i3ds", "r3d", "v4d", "f4d")
INFLATED = {**dict.fromkeys(RESNETS, "test_resnet"), "t3d": "densenet121", "i3d": "test_efficientnet"}


def image_model(name):
    """Random weights, none of them zero: timm's resnets would begin with some BatchNorms that are."""
    options = {"zero_init_last": False} if "resnet" in name else {}
    return timm.create_model(name, **options)


@pytest.mark.parametrize(("family", "source"), INFLATED.items())
def test_a_student_fresh_from_inflation_is_all_centre_or_silent(family, source):
    student = transfer3d.inflate(image_model(source), family, proof_size=32).student
    kernels = temporal_kernels(student)
    heard = [one.taps for one in kernels if one.taps is not None]
    assert heard
    assert all(taps.centre == pytest.approx(1) and taps.off_centre < 1e-3 for taps in heard)
    silent = {one.layer for one in kernels if one.taps is None}
    assert all(".temporal." in name or ".after" in name for name in silent)
    assert bool(silent) == (family in ("p3d", "v4d", "f4d"))


def test_a_mean_inflated_kernel_is_even_and_smooths():
    student = transfer3d.inflate(
        image_model("test_resnet"), "i3ds", temporal_init="mean", proof_size=32
    ).student
    for one in temporal_kernels(student):
        assert one.taps.energy == pytest.approx([1 / 3] * 3)
        assert one.taps.response[0] == pytest.approx(3)


def seen(student):
    return {(one.layer.removeprefix("trunk."), one.axis): one for one in temporal_kernels(student)}


def test_which_layers_along_which_axes_and_how_far_apart_their_taps_are():
    p3d = seen(create_model("p3d_tiny"))
    # Its stem's pool, and those behind res2 and res3, halve T; the clip takes every second frame.
    stride = create_model("p3d_tiny").clip.stride
    assert {name: one.spacing // stride for (name, _), one in p3d.items()} == {
        "res2.0.units.0.temporal.conv": 2,
        "res3.0.units.0.temporal.conv": 4,
        "res4.0.units.1.temporal.conv": 8,
    }
    v4d = create_model("v4d_tiny", kernel=[3, 3, 1, 1])
    assert [axis for name, axis in seen(v4d) if name == "res3.after0.conv"] == ["U", "T"]
    f4d = seen(create_model("f4d_tiny"))
    assert ("res3.after0.factorised.spatial", "U") in f4d
    assert ("res3.after0.factorised.temporal", "T") in f4d
    assert not any("attention" in name for name, _ in f4d)
    t3d = seen(create_model("t3d_tiny"))
    depths = [t3d[f"transitions.{n}.branches.2", "T"].kernel for n in range(3)]
    assert depths == [(6, 3, 3), (4, 3, 3), (4, 3, 3)]  # table 1
    order = [one.stage for one in by_stage(list(t3d.values()))]
    assert order == [
        "stem",
        *(f"{part}.{n}" for n in range(3) for part in ("blocks", "transitions")),
        "blocks.3",
    ]


def test_a_4d_kernel_has_taps_of_its_own_along_units_and_frames():
    """V4D's weights per channel count: a channel of weight 0 is as if it were not there."""
    student = create_model("v4d_tiny", kernel=[3, 3, 1, 1])
    block = student.get_submodule("trunk.res3.after0")
    weight = torch.zeros_like(block.conv.weight)
    weight[0, 0, :, 1] = torch.tensor([-1.0, 0, 1])[:, None, None]  # a difference of units, at the same frame
    weight[1, 1, 1, :] = 5.0
    block.conv.weight.data = weight
    block.scale.weight.data[0] = 0.3
    found = seen(student)
    units, frames = (found["res3.after0.conv", axis].taps for axis in "UT")
    assert units.energy == pytest.approx((0.5, 0, 0.5))
    assert units.antisymmetric == pytest.approx(1)
    assert frames.energy == pytest.approx((0, 1, 0))


def test_batchnorm_behind_a_kernel_counts():
    student = create_model("p3d_tiny")
    unit = student.get_submodule("trunk.res2.0.units.0.temporal")
    unit.conv.weight.data.zero_()
    unit.conv.weight.data[0, 0, 1] = 1
    unit.conv.weight.data[1, 0, 2] = 1
    unit.norm.running_var.fill_(1 - unit.norm.eps)
    unit.norm.weight.data.zero_()
    unit.norm.weight.data[:2] = torch.tensor([1.0, 2.0])
    before = copy.deepcopy(student.state_dict())
    assert temporal_kernels(student)[0].taps.energy == pytest.approx((0, 1 / 5, 4 / 5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_means_of_a_stage():
    student = create_model("t3d_tiny")
    short, long = (student.get_submodule(f"trunk.transitions.0.branches.{n}") for n in (1, 2))
    short.weight.data = kernel(0, 0, 1)[:, :, :, :3, :3].repeat(4, 40, 1, 1, 1)[
        : short.out_channels, : short.in_channels
    ]
    long.weight.data.zero_()
    (stage,) = [one for one in by_stage(temporal_kernels(student)) if one.stage == "transitions.0"]
    assert (stage.layers, stage.silent) == (2, 1)
    assert stage.taps.energy == pytest.approx((0, 0, 1))
    long.weight.data[:, :, 0] = 1
    (stage,) = [one for one in by_stage(temporal_kernels(student)) if one.stage == "transitions.0"]
    assert stage.taps.offsets == (-2, -1, 0, 1, 2, 3)
    assert stage.taps.energy == pytest.approx((0.5, 0, 0, 0.5, 0, 0))
    assert (stage.layers, stage.silent) == (2, 0)
    # A difference of two frames, and a centre: antisymmetric and symmetric, 2 sin^2 and 1.
    short.weight.data[:, :, 0], long.weight.data[:, :, 0] = -short.weight.data[:, :, 2], 0
    long.weight.data[:, :, 2] = 1
    (stage,) = [one for one in by_stage(temporal_kernels(student)) if one.stage == "transitions.0"]
    assert stage.taps.symmetric == pytest.approx(0.5)
    np.testing.assert_allclose(stage.taps.response, np.sin(2 * np.pi * F) ** 2 + 0.5, atol=1e-6)
    assert stage.taps.random_centre == pytest.approx((1 / 3 + 1 / 6) / 2)


def test_a_stage_has_its_least_and_its_greatest_spacing():
    kernels = [replace(temporal_kernels(create_model("p3d_tiny"))[0], spacing=n) for n in (4, 8, 2)]
    assert [row.spacing for row in by_stage(kernels)] == [(2, 8)]


def test_a_factorised_branch_whose_weights_cancel_out_is_heard():
    student = create_model("f4d_tiny")
    block = student.get_submodule("trunk.res3.after0")
    block.scale.weight.data.flatten()[::2], block.scale.weight.data.flatten()[1::2] = 0.5, -0.5
    found = seen(student)
    assert found["res3.after0.factorised.spatial", "U"].taps is not None
    assert found["res3.after0.factorised.temporal", "T"].taps is not None


def test_names_of_stages():
    names = {
        "trunk.stem.0.conv": "stem",
        "trunk.res4.12.units.0.conv": "res4",
        "trunk.blocks.1.3.conv2": "blocks.1",
        "trunk.inception4c.branch2.1.conv": "inception4",
        "trunk.net.stages.2.blocks.0.conv": "net.stages.2",
    }
    assert {name: stage_of(name) for name in names} == names


@pytest.mark.parametrize("name", ["p3d_tiny", "r3d_tiny", "t3d_tiny", "f4d_tiny"])
def test_the_figure_has_a_panel_for_each_stage_and_names_its_units(name):
    stages = by_stage(temporal_kernels(create_model(name)))
    figure = kernel_figure(stages, title=name)
    titled = [axes for sub in figure.subfigs for axes in sub.axes if axes.get_title()]
    assert len(titled) == len(stages)
    for axes, stage in zip(titled, stages, strict=True):
        assert stage.stage in axes.get_title()
        assert "apart" in axes.get_xlabel()
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx([100 * share for share in stage.taps.energy] if stage.taps else [])


def run(*arguments):
    return CliRunner().invoke(app, ["kernels", *map(str, arguments)])


def test_the_command(tmp_path):
    student, path = (
        create_model("v4d_tiny", num_classes=2, stages=["res3"], kernel=[3, 3, 1, 1]),
        tmp_path / "student.safetensors",
    )
    transfer3d.save(student, path)
    done = run(path, "--json", "-o", tmp_path / "kernels.svg")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [row["stage"] for row in report["stages"]] == ["res3", "res3", "res4", "res5"]
    assert report["layers"][0]["centre"] is None
    assert len(report["layers"][2]["response"]) == len(report["frequencies"])
    assert (tmp_path / "kernels.svg").read_text().startswith("<svg")
    shown = run(path, "--layers")
    assert "silent" in shown.output
    assert "trunk.res5.0.units.1.conv" in shown.output
    student.get_submodule("trunk.res4.0.units.0.conv").weight.data[0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"trunk.res4.0.units.0.conv: its weights are not finite"):
        temporal_kernels(student)
    assert run(tmp_path / "none.safetensors").exit_code == 4
    assert run(path, "-o", tmp_path / "kernels.gif").exit_code == 2


def test_a_student_that_sees_single_frames_has_nothing_to_draw(tmp_path):
    model, path = image_model("test_efficientnet"), tmp_path / "student.safetensors"
    transfer3d.save(transfer3d.inflate(model, "i3d", depths=(1,) * 6, proof_size=32).student, path)
    shown = run(path)
    assert shown.exit_code == 0, shown.output
    assert "none of its convolutions covers several frames" in shown.stdout
    assert json.loads(run(path, "--json").stdout)["layers"] == []
    refused = run(path, "-o", tmp_path / "kernels.png")
    assert (refused.exit_code, len(refused.stderr.strip().splitlines())) == (2, 1), refused.output
    assert "none of its convolutions covers several frames" in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["student.safetensors"]
