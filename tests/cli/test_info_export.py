"""`transfer3d info` and `transfer3d export`."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.files import sha256_file


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path):
    (tmp_path / "parent.bin").write_bytes(b"parent")
    student = transfer3d.create_model("t3d_tiny", num_classes=2, seed=3)
    parent = {"checkpoint": "parent.bin", "sha256": sha256_file(tmp_path / "parent.bin")}
    transfer3d.save(
        student,
        tmp_path / "s.safetensors",
        class_names=["yes", "no [maybe]"],
        provenance={"made_by": "finetune", "parent": parent, "metrics": {"top1": 0.75}},
    )
    return tmp_path / "s.safetensors"


def verdicts(run, *arguments):
    return {
        row["what"]: row["verdict"] for row in json.loads(run("info", *arguments, "--json").stdout)["digests"]
    }


def test_info_says_what_a_checkpoint_is(run, file):
    facts = json.loads(run("info", file, "--json").stdout)
    student = transfer3d.load(file)
    assert facts["model"] == "t3d_tiny"
    assert facts["parameters"] == sum(parameter.numel() for parameter in student.parameters())
    assert facts["tensors"] == len(student.state_dict())
    assert facts["clip"]["frames"] == student.clip.frames
    assert facts["provenance"]["metrics"] == {"top1": 0.75}
    assert facts["sha256"] == sha256_file(file)
    text = run("info", file).stdout
    assert "no [maybe]" in text
    assert "arXiv:1711.08200" in text


def test_info_checks_digests(run, file):
    assert verdicts(run, file) == {"tensors": "holds", "parent.bin": "holds"}
    (file.parent / "parent.bin").write_bytes(b"another")
    assert verdicts(run, file)["parent.bin"] == "differs"
    (file.parent / "parent.bin").unlink()
    assert verdicts(run, file)["parent.bin"] == "not here"


def test_info_sees_one_changed_number(run, file):
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    tensors["head.bias"][0] += 1
    save_file(tensors, file, metadata=metadata)
    with pytest.warns(UserWarning, match="changed after saving"):
        done = run("info", file)
    assert done.exit_code == 4
    assert "its tensors were changed after saving" in " ".join(done.output.split())
    assert "digest of tensors differs" in " ".join(done.output.split())
    del metadata["transfer3d.digest"]  # as files of older versions
    save_file(tensors, file, metadata=metadata)
    assert verdicts(run, file)["tensors"] == "not recorded"


def test_info_of_what_inflate_wrote(run):
    assert run("inflate", "test_resnet", "--to", "p3d", "--weights", "none").exit_code == 0
    facts = json.loads(run("info", "p3d_tiny.safetensors", "--json").stdout)
    assert facts["provenance"]["proof"]["verdict"] == "proved"
    assert facts["provenance"]["source"] == "test_resnet"


def test_export_to_a_hub_folder_and_back(run, file):
    done = run("export", file, "--format", "hub", "-o", "hub")
    assert done.exit_code == 0, done.output
    assert "wrote hub/README.md" in done.stdout
    assert json.loads(run("info", "hub", "--json").stdout)["model"] == "t3d_tiny"
    assert run("export", file, "--format", "hub", "-o", "hub").exit_code == 2
    assert run("export", "hub", "--format", "hub").exit_code == 0
    assert transfer3d.load("t3d_tiny-hub").num_classes == 2


def test_a_place_that_cannot_be_written_to(run, file, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = run("export", file, "--format", "hub", "-o", "taken", "--force")
    assert done.exit_code == 5, done.output
    assert "error: taken" in done.output
    assert (tmp_path / "taken").read_text() == "a file"


def test_export_to_onnx(run, tmp_path):
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=2), tmp_path / "s.safetensors")
    facts = json.loads(run("export", "s.safetensors", "--format", "onnx", "--json").stdout)
    assert facts["files"] == ["p3d_tiny.onnx", "preprocess.json"]
    assert facts["agreement"]["difference"] < 1e-4


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["info", "none.safetensors"], 4, "none.safetensors does not exist"),
        (["info", "."], 4, "is a folder without model.safetensors"),
        (["info", "http://127.0.0.1/x.safetensors"], 4, "is an address. Give the path of a weights file"),
        (["info", "hf_hub:nobody"], 2, "hf_hub:user/name@revision"),
        (["export", "none.safetensors", "--format", "onnx"], 4, "none.safetensors does not exist"),
        (["export", "none.safetensors", "--format", "onxx"], 2, "did you mean 'onnx'"),
    ],
)
def test_wrong_input(run, tmp_path, arguments, code, said):
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_info_of_weights_that_are_not_finite_warns(run, file):
    student = transfer3d.load(file)
    torch.nn.init.constant_(student.head.bias, float("nan"))
    transfer3d.save(student, file)
    with pytest.warns(UserWarning, match=r"head\.bias"):
        assert verdicts(run, file) == {"tensors": "holds"}
