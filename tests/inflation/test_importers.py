"""Importers: what released networks answer, one block of each by hand, and what is refused."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from inflation.released import (
    SHAPES,
    p3d_shapes,
    reference,
    reference_record,
    slow_shapes,
    v4d_shapes,
    values,
    zeros,
)
from inflation.released_nets import NETS, answer
from torch import nn
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18, resnet
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.errors import UsageError, WeightsError
from transfer3d.inflation.importers.import_state import KINDS, import_state

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5
ZEROS = {kind: zeros(make()) for kind, make in SHAPES.items()}


def difference(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(
    "name",
    [
        "p3d-pytorch",
        pytest.param("p3d-pytorch-a", marks=pytest.mark.slow),
        "pytorchvideo-slow",
        pytest.param("v4d-release-fast", marks=pytest.mark.slow),  # 285 GMAC
    ],
)
def test_the_import_answers_what_the_released_network_answers(name):
    record, state, clips = reference(name)
    student = import_state(record["import_kind"], state, record.get("options", {})).student
    with torch.no_grad():
        logits = student(clips if student.clip.units == 1 else clips[None])
    assert difference(logits, torch.tensor(record["output"])) < TOLERANCE


@pytest.mark.parametrize(
    "name, shapes",
    [("p3d-pytorch", p3d_shapes()), ("pytorchvideo-slow", slow_shapes()), ("v4d-release-fast", v4d_shapes())],
)
def test_the_names_of_these_tests_are_the_released_ones(name, shapes):
    record = reference_record(name)
    assert {key: tuple(shape) for key, shape, _, _ in record["state_dict"]} == shapes


def test_the_help_and_the_docs_name_every_kind_and_its_options():
    pages = [CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "300"}).output]
    pages += [(ROOT / "docs" / "files.md").read_text(encoding="utf-8")]
    for page, kind in itertools.product(pages, KINDS.values()):
        assert kind.name in page
        for name, default in kind.options.items():
            assert f"{name}={default}" in page or f"default {default}" in page


@pytest.fixture(scope="module")
def p3d_port():
    state = values(p3d_shapes())
    return state, import_state("p3d-pytorch", state, {}).student


def test_another_kind_of_blocks_is_another_function(p3d_port):
    """The same names and shapes: only `blocks` tells P3D-A from the mixed net."""
    state, mixed = p3d_port
    a = import_state("p3d-pytorch", state, {"blocks": "A"}).student
    x = torch.randn(1, 256, 4, 6, 6)
    with torch.no_grad():
        actual, expected = (net.trunk.get_submodule("res2.1")(x) for net in (a, mixed))
    assert difference(actual, expected) > 0.01


@pytest.fixture(scope="module")
def norm_of():
    """BatchNorm in eval mode as it is defined."""

    def apply(state, name, x):
        view = (1, -1) + (1,) * (x.ndim - 2)
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(view) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    return apply


@pytest.mark.parametrize("block, kind", [(0, "A"), (1, "B"), (2, "C")])
def test_one_block_of_the_p3d_port(block, kind, norm_of, p3d_port):
    state, student = p3d_port
    x = torch.randn(2, 64 if block == 0 else 256, 4, 6, 6)

    def unit(number, y, **options):
        return norm_of(
            state, f"{name}.bn{number}", F.conv3d(y, state[f"{name}.conv{number}.weight"], **options)
        )

    name = f"layer1.{block}"
    y = unit(1, x).relu()
    spatial = unit(2, y, padding=(0, 1, 1)).relu()
    if kind == "A":
        y = unit(3, spatial, padding=(1, 0, 0)).relu()
    else:
        y = unit(3, y if kind == "B" else spatial, padding=(1, 0, 0)).relu() + spatial
    shortcut = x
    if block == 0:
        shortcut = norm_of(state, f"{name}.downsample.1", F.conv3d(x, state[f"{name}.downsample.0.weight"]))
    expected = (unit(4, y) + shortcut).relu()
    with torch.no_grad():
        assert difference(student.trunk.get_submodule(f"res2.{block}")(x), expected) < TOLERANCE


def test_one_2d_block_of_the_p3d_port(norm_of, p3d_port):
    state, student = p3d_port
    x = torch.randn(2, 1024, 1, 6, 6)
    image, name = x[:, :, 0], "layer4.0"
    y = norm_of(state, f"{name}.bn1", F.conv2d(image, state[f"{name}.conv1.weight"], stride=2)).relu()
    y = norm_of(
        state, f"{name}.bn_normal", F.conv2d(y, state[f"{name}.conv_normal.weight"], padding=1)
    ).relu()
    y = norm_of(state, f"{name}.bn4", F.conv2d(y, state[f"{name}.conv4.weight"]))
    shortcut = F.conv2d(image, state[f"{name}.downsample.0.weight"], stride=2)
    expected = (y + norm_of(state, f"{name}.downsample.1", shortcut)).relu()
    with torch.no_grad():
        assert difference(student.trunk.get_submodule("res5.0")(x)[:, :, 0], expected) < TOLERANCE


def test_one_block_of_pytorchvideos_slow(norm_of):
    state = values(slow_shapes())
    student = import_state("pytorchvideo-slow", state, {}).student
    x, name = torch.randn(1, 512, 4, 6, 6), "blocks.3.res_blocks.0"

    def unit(letter, y, **options):
        y = F.conv3d(y, state[f"{name}.branch2.conv_{letter}.weight"], **options)
        return norm_of(state, f"{name}.branch2.norm_{letter}", y)

    y = unit("a", x, padding=(1, 0, 0)).relu()
    y = unit("b", y, stride=(1, 2, 2), padding=(0, 1, 1)).relu()
    shortcut = F.conv3d(x, state[f"{name}.branch1_conv.weight"], stride=(1, 2, 2))
    expected = (unit("c", y) + norm_of(state, f"{name}.branch1_norm", shortcut)).relu()
    with torch.no_grad():
        assert difference(student.trunk.get_submodule("res4.0")(x), expected) < TOLERANCE


def test_one_4d_convolution_of_v4d_stored_either_way():
    state = values(v4d_shapes())
    name = "base_model.layer2.2.tsa.weight"
    weight = state[name] * 0.1
    state[name] = weight
    units, frames = 4, 3
    x = torch.randn(units, 512, frames, 2, 2)
    expected = x.clone()
    for u in range(units):
        for t in range(frames):
            for du in range(3):
                for dt in range(3):
                    if 0 <= u + du - 1 < units and 0 <= t + dt - 1 < frames:
                        tap = weight[:, :, du, dt, 0]
                        expected[u, :, t] += torch.einsum("oi,ihw->ohw", tap, x[u + du - 1, :, t + dt - 1])
    one = import_state("v4d-release", state, {}).student
    first = {
        key: value[..., None].movedim(2, 0) if key.endswith("tsa.weight") else value
        for key, value in state.items()
    }
    assert {key: tuple(value.shape) for key, value in first.items()} == v4d_shapes(tap_first=True)
    other = import_state("v4d-release", first, {}).student
    with torch.no_grad():
        assert difference(one.trunk.res3.after1(x, units), expected) < TOLERANCE
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def shake(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def torchvision_net(block, depths):
    return resnet.VideoResNet(block, [resnet.Conv3DSimple] * 4, depths, resnet.BasicStem, num_classes=5)


BOTTLENECK_DEPTHS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


@pytest.mark.parametrize(
    "layers", [18, *(pytest.param(deep, marks=pytest.mark.slow) for deep in BOTTLENECK_DEPTHS)]
)
def test_torchvisions_own_networks_are_the_oracle(layers):
    torch.manual_seed(0)
    if layers == 18:
        net = shake(r3d_18(num_classes=7))
    else:
        net = shake(torchvision_net(resnet.Bottleneck, BOTTLENECK_DEPTHS[layers]))
    done = import_state("torchvision-video", net.state_dict(), {})
    assert done.student.model_name == ("r3d" if layers > 50 else f"r3d_resnet{layers}")
    assert done.weight_report.counts()["copied"] == len(net.state_dict()) == len(done.student.state_dict())
    clips = torch.randn(1, 3, 8, 40, 40)
    with torch.no_grad():
        assert difference(done.student(clips), net(clips)) < TOLERANCE


@pytest.mark.parametrize("make, convolutions", [(mc3_18, "mc3"), (r2plus1d_18, "2plus1d")])
def test_torchvisions_factorised_networks_are_the_oracle(make, convolutions):
    torch.manual_seed(0)
    net = shake(make(num_classes=7))
    done = import_state("torchvision-video", net.state_dict(), {})
    assert done.student.model_args["convolutions"] == convolutions
    assert done.weight_report.counts()["copied"] == len(net.state_dict()) == len(done.student.state_dict())
    clips = torch.randn(1, 3, 8, 40, 40)
    with torch.no_grad():
        assert difference(done.student(clips), net(clips)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("layers", BOTTLENECK_DEPTHS)
def test_deeper_r2plus1d_of_torchvisions_class(layers):
    torch.manual_seed(0)
    builders = [resnet.Conv2Plus1D] * 4
    depths = BOTTLENECK_DEPTHS[layers]
    net = resnet.VideoResNet(resnet.Bottleneck, builders, depths, resnet.R2Plus1dStem, num_classes=5)
    student = import_state("torchvision-video", shake(net).state_dict(), {}).student
    clips = torch.randn(1, 3, 8, 40, 40)
    with torch.no_grad():
        assert difference(student(clips), net(clips)) < TOLERANCE


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("layers", [pytest.param(101, marks=pytest.mark.slow), 152])
def test_the_account_of_every_depth(kind, layers):
    shapes = SHAPES[kind](layers, classes=5)
    done = import_state(kind, zeros(shapes), {})
    assert done.student.num_classes == 5
    counts = done.weight_report.counts()
    assert counts["copied"] + counts["reshaped"] == len(shapes)
    assert sum(counts.values()) == len(shapes) == len(done.student.state_dict())


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("layers", [50, *(pytest.param(deep, marks=pytest.mark.slow) for deep in (101, 152))])
def test_the_answers_of_every_depth(kind, layers):
    """Against the whole network, written by hand in the released names."""
    state = values(SHAPES[kind](layers, classes=5))
    for name in state:
        if name.endswith("tsa.weight"):
            state[name] *= 0.1
    student = import_state(kind, state, {}).student
    frames = NETS[kind][1]
    clips = torch.randn(2, 3, frames, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = student(clips if student.clip.units == 1 else clips[None])
    assert difference(logits, answer(kind, state, clips, layers)) < TOLERANCE


@pytest.mark.parametrize("blocks", ["A", "B", "C"])
def test_pure_nets_of_the_p3d_port(blocks, p3d_port):
    state, _ = p3d_port
    student = import_state("p3d-pytorch", state, {"blocks": blocks}).student
    clips = torch.randn(1, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = student(clips)
    assert difference(logits, answer("p3d-pytorch", state, clips, 50, kinds=blocks)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p3d-pytorch", "pytorchvideo-slow", "v4d-release-fast"])
def test_the_networks_written_by_hand_answer_as_the_released_ones(name):
    record, state, clips = reference(name)
    logits = answer(record["import_kind"], state, clips, 50)
    assert difference(logits, torch.tensor(record["output"])) < TOLERANCE


def test_two_channels_of_flow():
    shapes = {**p3d_shapes(), "conv1_custom.weight": (64, 2, 1, 7, 7)}
    student = import_state("p3d-pytorch", zeros(shapes), {}).student
    assert student.model_args["in_chans"] == 2
    # As the port's p3d_model.py says: mean 0.5, and the mean of RGB's deviations.
    assert (student.clip.mean, student.clip.std) == ((0.5, 0.5), (0.226, 0.226))


def test_files_of_old_pytorch_did_not_count_batches():
    state = {name: value for name, value in ZEROS["p3d-pytorch"].items() if "num_batches" not in name}
    done = import_state("p3d-pytorch", state, {})
    fresh = [row.target for row in done.weight_report.rows if row.how == "fresh"]
    assert len(fresh) == 66
    assert all(name.endswith("num_batches_tracked") for name in fresh)


def test_values_that_are_not_finite_are_warned_of():
    state = {**ZEROS["p3d-pytorch"], "fc.bias": torch.full((13,), float("nan"))}
    with pytest.warns(UserWarning, match=r"NaN or infinite values in fc\.bias"):
        import_state("p3d-pytorch", state, {})


def without(kind, *names):
    return {name: value for name, value in ZEROS[kind].items() if not name.startswith(names)}


P3D = "p3d-pytorch"
REFUSED = {
    "another kind": (P3D, ZEROS["v4d-release"], "not a p3d-pytorch file: it looks like v4d-release"),
    "no kind at all": (P3D, {"a": torch.zeros(1)}, "not a p3d-pytorch file: it has no 'conv1_custom.weight'"),
    "a depth of its own": (
        P3D,
        zeros(p3d_shapes(depths=(3, 4, 5, 3))),
        r"stages have 3, 4, 5, 3 blocks.*50 layers have 3, 4, 6, 3",
    ),
    "no blocks": (P3D, {"conv1_custom.weight": torch.zeros(64, 3, 1, 7, 7)}, "stages have 0, 0, 0, 0 blocks"),
    "a missing tensor": (P3D, without(P3D, "layer2.1.bn3.bias"), r"1 missing \(layer2\.1\.bn3\.bias\)"),
    "no classifier": (P3D, without(P3D, "fc."), r"2 missing \(fc\.weight, fc\.bias\)"),
    "an extra tensor": (P3D, {**ZEROS[P3D], "aux.w": torch.zeros(1)}, r"1 unexpected \(aux\.w\)"),
    "another shape": (
        P3D,
        {**ZEROS[P3D], "layer1.0.conv2.weight": torch.zeros(64, 64, 3, 3, 3)},
        r"1 of another shape \(layer1\.0\.conv2\.weight\)",
    ),
    "a stem without axes": (P3D, {**ZEROS[P3D], "conv1_custom.weight": torch.zeros(())}, "conv1_custom"),
    "a giant": (
        P3D,
        {**ZEROS[P3D], "fc.weight": torch.zeros(()).expand(10**9, 2048)},
        r"1 of another shape \(fc\.bias\)",
    ),
    "a 4D kernel of three axes": (
        "v4d-release",
        {**ZEROS["v4d-release"], "base_model.layer2.2.tsa.weight": torch.zeros(512, 512, 3)},
        "not the kernel of a 4D convolution",
    ),
    "4D kernels of two sizes": (
        "v4d-release",
        {**ZEROS["v4d-release"], "base_model.layer2.2.tsa.weight": torch.zeros(512, 512, 3, 1, 1)},
        "several sizes",
    ),
    "a 4D kernel in front of every block": (
        "v4d-release",
        {**ZEROS["v4d-release"], "base_model.layer2.-1.tsa.weight": torch.zeros(512, 512, 3, 3, 1)},
        "1 unexpected",
    ),
    "an even 4D kernel": (
        "v4d-release",
        {
            name: torch.zeros(512, 512, 2, 2, 1) if "tsa" in name else value
            for name, value in ZEROS["v4d-release"].items()
        },
        "cannot be built",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case):
    kind, state, message = REFUSED[case]
    with pytest.raises(WeightsError, match=message):
        import_state(kind, state, {})


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("p3d-pytorhc", {}, "did you mean 'p3d-pytorch'"),
        ("p3d-pytorch", {"blocks": "D"}, "blocks=D: must be one of ABC, A, B, C"),
        ("p3d-pytorch", {"block": "A"}, "did you mean 'blocks'"),
        ("pytorchvideo-slow", {"blocks": "A"}, "no option 'blocks'"),
    ],
)
def test_options_that_are_wrong(kind, options, message):
    with pytest.raises(UsageError, match=message):
        import_state(kind, ZEROS.get(kind, {}), options)
