"""Every command that reads weights, and every way in which a file of weights can be bad."""

import json
import os
import re
import struct
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.video import mc3_18
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import WeightsError
from transfer3d.models.image import create_image_model

FILE, OUT = "bad.safetensors", "out"
COMMANDS = {
    "info": ["info", FILE],
    "export": ["export", FILE, "--format", "hub", "-o", OUT],
    "evaluate": ["evaluate", FILE, "--data", ".", "-o", OUT],
    "predict": ["predict", FILE, "video.mp4"],
    "inflate": ["inflate", "test_resnet", "--to", "p3d", "--weights", FILE, "-o", OUT],
    "import": ["import", "torchvision-video", FILE, "-o", OUT],
}


class Payload:
    def __reduce__(self):
        return os.mkdir, ("PAYLOAD-RAN",)


def good():
    return transfer3d.create_model("p3d_tiny", num_classes=2)


def truncated(path):
    transfer3d.save(good(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def lying_header(path):
    transfer3d.save(good(), path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["head.bias"]["data_offsets"][1] += 4096
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def another_architecture(path):
    """Of no student, of another image model than the one named, of a kind that is not imported."""
    with torch.device("meta"):
        names = mc3_18().state_dict()
    save_file({name: torch.zeros(1) for name in names}, path)


BAD = {
    "truncated": (truncated, "damaged"),
    "a header that lies": (lying_header, "damaged"),
    "a pickle with a payload": (lambda path: torch.save({"a": Payload()}, path), "damaged|asks to run"),
    "another architecture": (another_architecture, "not a transfer3d checkpoint|tensors"),
    "0 bytes": (lambda path: path.write_bytes(b""), "damaged"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a pipe": (os.mkfifo, "is a device or a pipe"),
    "not there": (lambda path: None, "does not exist"),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_a_sentence_and_leaves_no_trace(command, case, run, tmp_path):
    make, reason = BAD[case]
    make(tmp_path / FILE)
    (tmp_path / "video.mp4").write_bytes(b"")  # one that is missing would be refused first
    before = sorted(tmp_path.rglob("*"))
    done = run(*COMMANDS[command])
    said = " ".join(done.output.split())
    assert done.exit_code == 4, said
    assert re.search(rf"error: {FILE}:? .*({reason})", said), said
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("case", BAD)
def test_load_refuses_it_too(case, tmp_path):
    make, reason = BAD[case]
    make(tmp_path / FILE)
    with pytest.raises(WeightsError, match=f"{FILE}:? .*({reason})"):
        transfer3d.load(tmp_path / FILE)


@pytest.mark.parametrize("command", ["info", "inflate", "export"])
def test_weights_that_are_not_finite_are_warned_of(command, run, tmp_path):
    if command == "inflate":
        net = create_image_model("test_resnet", "none")
        torch.nn.init.constant_(net.fc.bias, float("nan"))
        save_file(net.state_dict(), tmp_path / FILE)
    else:
        student = good()
        torch.nn.init.constant_(student.head.bias, float("nan"))
        transfer3d.save(student, tmp_path / FILE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = run(*COMMANDS[command])
    assert any("NaN or infinite values" in str(warning.message) for warning in caught)
    if command == "inflate":  # a proof over nothing
        assert done.exit_code == 4
        assert "nothing to compare with" in done.output
    else:
        assert done.exit_code == 0, done.output
