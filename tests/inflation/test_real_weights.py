"""Weights that know ImageNet, on photographs: what inflation, export and class maps keep of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import center_crop, resize

import transfer3d
from transfer3d.insight.cam import class_map
from transfer3d.models.image import create_image_model
from transfer3d.nn.pixels import normalise
from transfer3d.run.checkpoints.export import export_checkpoint

NAME, FRAMES = "tf_efficientnet_lite0", 3
SHOWN = {"chelsea.png": {281, 282, 285}, "coffee.png": {967}, "rocket.jpg": {657, 744}, "astronaut.png": None}
"""ImageNet-1k's classes of what the pictures show: cats (tabby, tiger, Egyptian), espresso, missile and
projectile; it has no astronaut."""


@pytest.fixture(scope="module")
def image_net(real_folder):
    return create_image_model(NAME, str(real_folder / f"{NAME}.safetensors"))


@pytest.fixture(scope="module")
def inflated(image_net):
    return transfer3d.inflate(image_net, "i3d", proof_size=64)


@pytest.fixture(scope="module")
def student(inflated):
    student = inflated.student
    student.clip = replace(student.clip, frames=FRAMES)
    return student


@pytest.fixture(scope="module")
def checkpoint(student, inflated, tmp_path_factory):
    path = tmp_path_factory.mktemp("lite0") / "i3d.safetensors"
    transfer3d.save(student, path, provenance=inflated.provenance)
    return path


def still(folder: Path, name, student):
    """A photograph, uint8 3 H W, as timm shows it to a network, and a clip whose frames are all this."""
    picture = torch.from_numpy(np.array(Image.open(folder / "photos" / name).convert("RGB"))).permute(2, 0, 1)
    picture = center_crop(resize(picture, student.clip.crop, antialias=True), student.clip.size)
    return picture, picture[:, None].expand(-1, FRAMES, -1, -1).contiguous()


@torch.no_grad()
def scores(student, clip_u8):
    return student(normalise(clip_u8[None], student.clip.mean, student.clip.std))[0].softmax(0)


def test_the_proof_holds_and_every_tensor_is_accounted_for(inflated, image_net):
    assert inflated.proof.verdict == "proved", inflated.proof
    counts = inflated.weight_report.counts()
    assert sum(counts.values()) == len(inflated.student.state_dict()), counts
    assert len(inflated.student.state_dict()) == len(image_net.state_dict())


@pytest.mark.parametrize("name", SHOWN)
def test_image_net_and_student_see_the_same_in_a_photograph(real_folder, image_net, student, name):
    picture, clip = still(real_folder, name, student)
    cfg = image_net.pretrained_cfg
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = image_net(((picture / 255 - mean) / std)[None])[0].softmax(0)
    found = scores(student, clip)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert int(found.argmax()) == int(expected.argmax())
    assert SHOWN[name] is None or int(found.argmax()) in SHOWN[name]


def test_a_hub_folder_gives_the_same_student(real_folder, student, checkpoint, tmp_path):
    export_checkpoint(str(checkpoint), "hub", tmp_path / "hub")
    again = transfer3d.load(tmp_path / "hub")
    _, clip = still(real_folder, "coffee.png", student)
    assert again.clip == student.clip
    assert torch.equal(scores(again, clip), scores(student, clip))


@pytest.mark.slow
def test_onnx_sees_the_same_too(real_folder, student, checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    export_checkpoint(str(checkpoint), "onnx", tmp_path / "i3d.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "i3d.onnx")
    for name in SHOWN:
        _, clip = still(real_folder, name, student)
        inputs = normalise(clip[None], student.clip.mean, student.clip.std).numpy()
        (logits,) = session.run(["logits"], {"clips": inputs})
        found = torch.from_numpy(logits)[0].softmax(0)
        torch.testing.assert_close(found, scores(student, clip), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["coffee.png", "rocket.jpg"])
def test_without_what_the_class_map_points_at_the_class_is_gone(real_folder, student, name):
    """The hottest quarter of the pixels in grey takes away more of the score than the coldest quarter."""
    _, clip = still(real_folder, name, student)
    found = class_map(student, clip)
    assert found.predicted in SHOWN[name]
    heat = found.heat.mean(0)
    whole = float(scores(student, clip)[found.target])

    def covered(chosen):
        return float(scores(student, torch.where(chosen, 128, clip).to(torch.uint8))[found.target])

    hot, cold = heat >= heat.quantile(0.75), heat <= heat.quantile(0.25)
    assert covered(hot) < 0.5 * whole
    assert covered(hot) < covered(cold)
