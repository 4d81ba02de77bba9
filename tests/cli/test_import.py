"""`transfer3d import`: a file in, one checkpoint out, or nothing."""

import json
import sys

import pytest
import torch
from inflation.released import p3d_shapes, values, zeros
from torchvision.models.video import r3d_18
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.files import sha256_file
from transfer3d.weights.metadata import read_metadata


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_released_file_becomes_one_of_ours(run, tmp_path):
    net = r3d_18(num_classes=5).eval()
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 30}, tmp_path / "released.pth")
    report = json.loads(
        run("import", "torchvision-video", "released.pth", "-o", "r3d.safetensors", "--json").stdout
    )
    assert report["model"] == "r3d_resnet18"
    assert {(row["how"]) for row in report["tensors"]} == {"copied"}
    student = transfer3d.load(tmp_path / "r3d.safetensors")
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(student(clips), net(clips), rtol=1e-5, atol=1e-5)
    provenance = read_metadata(tmp_path / "r3d.safetensors").provenance
    assert provenance["kind"] == "torchvision-video"
    assert provenance["source"]["sha256"] == sha256_file(tmp_path / "released.pth")


def test_the_text_names_every_tensor_and_the_default_file(run, tmp_path):
    torch.save(r3d_18(num_classes=5).state_dict(), tmp_path / "released.pth")
    done = run("import", "torchvision-video", "released.pth", "--account")
    assert "layer4.1.conv2.0.weight" in done.stdout
    assert "wrote r3d_resnet18.safetensors" in done.stdout
    again = run("import", "torchvision-video", "released.pth")
    assert again.exit_code == 2
    assert "--force" in again.output
    assert run("import", "torchvision-video", "released.pth", "--force").exit_code == 0


def test_blocks_are_set(run, tmp_path):
    torch.save({"state_dict": values(p3d_shapes(classes=3))}, tmp_path / "p3d.pth")
    done = run("import", "p3d-pytorch", "p3d.pth", "-o", "a.safetensors", "--set", "blocks=B")
    assert done.exit_code == 0, done.output
    assert read_metadata(tmp_path / "a.safetensors").model_args == {"wiring": "port", "blocks": "B"}


def save_text(path):
    path.write_text("no weights")


@pytest.mark.parametrize(
    "arguments, make, code, message",
    [
        (["p3d-pytorch"], save_text, 4, "error: f.pth"),
        (["p3d-pytorch"], lambda path: None, 4, "error: f.pth does not exist"),
        (["p3d-pytorch"], lambda path: path.mkdir(), 4, "is a folder"),
        (["p3d-pytorch"], lambda p: torch.save({"a": sys.exit}, p), 4, "error: f.pth: asks to run"),
        (["v4d-release"], lambda p: torch.save(r3d_18().state_dict(), p), 4, "looks like torchvision-video"),
        (
            ["p3d-pytorch"],
            lambda p: torch.save(zeros({**p3d_shapes(), "more": (1,)}), p),
            4,
            "1 unexpected (more)",
        ),
        (["r3d"], save_text, 2, "the kinds are p3d-pytorch"),
        (["p3d-pytorch", "--set", "blocks"], save_text, 2, "key=value"),
    ],
)
def test_what_is_refused_writes_nothing(run, tmp_path, arguments, make, code, message):
    make(tmp_path / "f.pth")
    before = sorted(tmp_path.iterdir())
    kind, *rest = arguments
    done = run("import", kind, "f.pth", "-o", "out.safetensors", *rest)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert sorted(tmp_path.iterdir()) == before
