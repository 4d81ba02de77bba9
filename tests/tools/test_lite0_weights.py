"""tools/lite0_weights.py: a package's weights under timm's names."""

from importlib.metadata import PackageNotFoundError

import pytest
import timm
import torch
from safetensors.torch import load_file

from transfer3d.errors import SetupError, WeightsError

NAME, BLOCKS = "tf_efficientnet_lite0", 16
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture
def tool():
    import lite0_weights

    return lite0_weights


def packaged_state():
    """Timm's tensors, each of one value, under the package's names: both name the layers in forward order."""
    layers = ["_conv_stem", "_bn0"]
    for number in range(BLOCKS):
        inner = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
        layers += [f"_blocks.{number}.{layer}" for layer in (inner if number else inner[2:])]
    layers += ["_conv_head", "_bn1"]
    keys = [f"{layer}.{kind}" for layer in layers for kind in (NORM if "_bn" in layer else NORM[:1])]
    theirs = timm.create_model(NAME).state_dict()
    named = zip((*keys, "_fc.weight", "_fc.bias"), theirs.values(), strict=True)
    return {key: torch.full_like(value, number) for number, (key, value) in enumerate(named)}


def test_every_tensor_gets_its_name(tool, tmp_path, monkeypatch):
    torch.save(packaged_state(), tmp_path / "given.pth")
    monkeypatch.setattr(tool, "packaged_file", lambda: tmp_path / "given.pth")
    tool.main(tmp_path / "lite0.safetensors")
    found = load_file(tmp_path / "lite0.safetensors")
    for number, (key, value) in enumerate(timm.create_model(NAME).state_dict().items()):
        assert torch.equal(found[key], torch.full_like(value, number)), key
    timm.create_model(NAME, checkpoint_path=str(tmp_path / "lite0.safetensors"))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("_fc.bias"),
        lambda state: state.update({"_blocks.16._bn2.weight": torch.zeros(1)}),
        lambda state: state.update({"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}),
    ],
)
def test_other_weights_are_refused_and_nothing_is_written(tool, tmp_path, monkeypatch, change):
    state = packaged_state()
    change(state)
    torch.save(state, tmp_path / "given.pth")
    monkeypatch.setattr(tool, "packaged_file", lambda: tmp_path / "given.pth")
    with pytest.raises(WeightsError, match="not the weights of tf_efficientnet_lite0"):
        tool.main(tmp_path / "lite0.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["given.pth"]


def test_a_missing_package_is_named(tool, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tool, "distribution", missing)
    with pytest.raises(SetupError, match=r"efficientnet-lite0.*pip install 'transfer3d\[real\]'"):
        tool.packaged_file()


def test_the_file_is_the_known_one(tool, real_folder, tmp_path):
    try:
        tool.packaged_file()
    except SetupError as error:
        pytest.skip(str(error))
    tool.main(tmp_path / "lite0.safetensors")
    found, known = load_file(tmp_path / "lite0.safetensors"), load_file(real_folder / f"{NAME}.safetensors")
    assert found.keys() == known.keys()
    assert all(torch.equal(found[key], value) for key, value in known.items())
