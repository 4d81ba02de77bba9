"""Image models: weights from a file, from nowhere, and from a hub that is not there."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from transfer3d.errors import UsageError, WeightsError
from transfer3d.models.image import create_image_model, image_model_info, weights_digest
from transfer3d.nn.pixels import normalise


@pytest.fixture(scope="module")
def trained():
    return create_image_model("test_resnet", "none", num_classes=10, seed=1)


@pytest.fixture(params=["safetensors", "pth", "wrapped.pth"])
def file(request, trained, tmp_path):
    path = tmp_path / f"weights.{request.param}"
    if request.param == "safetensors":
        save_file(trained.state_dict(), path)
    elif request.param == "pth":
        torch.save(trained.state_dict(), path)
    else:
        state = {f"module.{name}": tensor for name, tensor in trained.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_a_file_brings_its_own_head(trained, file):
    model = create_image_model("test_resnet", str(file))
    assert model.num_classes == 10
    assert not model.training
    assert weights_digest(model) == weights_digest(trained)


def test_another_number_of_classes_brings_a_new_head_and_nothing_else(trained, file):
    model = create_image_model("test_resnet", str(file), num_classes=4)
    state = trained.state_dict()
    changed = [name for name, tensor in model.state_dict().items() if tensor.shape != state[name].shape]
    assert changed == ["fc.weight", "fc.bias"]
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items() if name not in changed)


def test_other_channels_are_adapted(trained, file):
    model = create_image_model("test_resnet", str(file), in_chans=1)
    weight = trained.state_dict()["conv1.0.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.state_dict()["conv1.0.weight"], weight)
    assert len(image_model_info(model).mean) == 1


def test_flow_gets_the_average_of_rgb_for_each_component(trained, file):
    """So a grey picture in each of its 2 channels gives 2/3 of what it gives in the 3 of RGB."""
    model = create_image_model("test_resnet", str(file), in_chans=2)
    grey = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    rgb, flow = trained.conv1[0](grey.repeat(1, 3, 1, 1)), model.conv1[0](grey.repeat(1, 2, 1, 1))
    torch.testing.assert_close(flow, rgb * 2 / 3)
    x, y = model.conv1[0].weight.unbind(1)
    assert torch.equal(x, y)
    state = trained.state_dict()
    rest = {name: tensor for name, tensor in model.state_dict().items() if name != "conv1.0.weight"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in rest.items())
    assert image_model_info(model).mean == (0.5, 0.5)
    assert image_model_info(model).std == pytest.approx((0.226, 0.226))


def test_a_file_of_another_network_is_refused(file):
    with pytest.raises(WeightsError, match="not the weights of resnet18: tensors 64 missing"):
        create_image_model("resnet18", str(file))


class Payload:
    def __reduce__(self):
        return os.mkdir, ("PAYLOAD-RAN",)


def test_a_pickle_with_a_payload_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Payload()}, "evil.pth")
    with pytest.raises(WeightsError) as caught:
        create_image_model("test_resnet", "evil.pth")
    assert not (tmp_path / "PAYLOAD-RAN").exists()
    assert "weights_only=False" not in str(caught.value)


@pytest.mark.parametrize(
    "name, content",
    [("a.safetensors", b""), ("b.pth", b""), ("c.safetensors", b"x" * 99), ("d.pth", b"text")],
)
def test_a_damaged_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        create_image_model("test_resnet", str(tmp_path / name))


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        create_image_model("test_resnet", str(tmp_path / "none.pth"))
    with pytest.raises(WeightsError, match="is a folder"):
        create_image_model("test_resnet", str(tmp_path))


def test_weights_that_are_not_finite_are_warned_of(trained, tmp_path):
    state = {**trained.state_dict(), "bn1.bias": torch.full((32,), float("nan"))}
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.warns(UserWarning, match=r"nan\.safetensors: NaN or infinite values in bn1\.bias"):
        create_image_model("test_resnet", str(tmp_path / "nan.safetensors"))


def test_unknown_model():
    with pytest.raises(UsageError, match="did you mean 'resnet50'"):
        create_image_model("resnet5o", "none")
    with pytest.raises(UsageError, match=r"no weights 'resnet18\.a9_in1k': it has .*resnet18\.a1_in1k"):
        create_image_model("resnet18.a9_in1k", "none")


def test_our_small_densenet_has_no_pretrained_weights():
    with pytest.raises(WeightsError, match=r"--weights FILE.*--weights none"):
        create_image_model("test_densenet")


@pytest.mark.parametrize("name", ["test_resnet", "test_densenet"])
def test_random_weights_follow_from_the_seed(name):
    first, second, other = (weights_digest(create_image_model(name, "none", seed=seed)) for seed in (1, 1, 2))
    assert first == second != other


def test_the_digest_sees_buffers(trained):
    before = weights_digest(trained)
    trained.bn1.running_mean += 1
    assert weights_digest(trained) != before
    trained.bn1.running_mean -= 1


@pytest.mark.proc
def test_an_absent_hub_is_answered_in_seconds(tmp_path):
    """With HF_HUB_OFFLINE: tests/models/test_hub.py."""
    script = (
        "import time; from transfer3d.errors import SetupError; from transfer3d.models.image import *\n"
        "started = time.monotonic()\n"
        "try:\n    create_image_model('resnet50')\n"
        "except SetupError as error:\n"
        "    print(error, error.exit_code, time.monotonic() - started, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    message, exit_code, seconds = done.stdout.strip().splitlines()
    assert "resnet50" in message
    assert "--weights FILE" in message
    assert "--weights none" in message
    assert exit_code == "5"
    assert float(seconds) < 15
    assert "Traceback" not in done.stderr


def test_facts():
    facts = image_model_info(create_image_model("test_resnet", "none"))
    assert (facts.name, facts.mean, facts.size, facts.num_features) == ("test_resnet", (0.5,) * 3, 160, 96)
    with pytest.raises(UsageError, match="lacks"):
        image_model_info(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (2, 3, 4, 5, 6), (2, 2, 3, 4, 5, 6)])
def test_normalise(shape):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    axis = 1 if len(shape) < 6 else 2
    parts = [(part.double() / 255 - m) / s for part, m, s in zip(pixels.unbind(axis), mean, std, strict=True)]
    torch.testing.assert_close(
        normalise(pixels, mean, std).double(), torch.stack(parts, axis), rtol=1e-6, atol=1e-6
    )
    assert normalise(pixels, mean, std, torch.bfloat16).dtype == torch.bfloat16


def test_normalise_refuses_floats_and_other_channels():
    with pytest.raises(TypeError, match="uint8"):
        normalise(torch.zeros(1, 3, 2, 2), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="3 channels, but 1"):
        normalise(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), (0.5,), (0.5,))
