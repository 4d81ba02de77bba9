"""The Hub folder: what is in it, and that it loads."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import timm
import torch
from hub_server import serve
from huggingface_hub import ModelCard
from media import write_numbered

import transfer3d
from transfer3d.errors import UsageError, WeightsError
from transfer3d.export.hub_folder import write_hub_folder
from transfer3d.export.model_card import NO_INFO, CardInfo, model_card
from transfer3d.models.factory import create_model
from transfer3d.run.checkpoints.export import export_checkpoint
from transfer3d.weights.metadata import read_metadata

NAMES = ["run", "jump", "sit"]


@pytest.fixture
def folder(tmp_path):
    student = create_model("p3d_tiny", num_classes=3, seed=4, blocks="AB")
    transfer3d.save(student, tmp_path / "s.safetensors", class_names=NAMES, provenance={"made_by": "a test"})
    write_hub_folder(tmp_path / "s.safetensors", tmp_path / "hub")
    return tmp_path / "hub"


def test_it_holds_four_files_and_loads(folder):
    names = ["README.md", "config.json", "model.safetensors", "preprocess.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    student = transfer3d.load(str(folder))
    assert student.model_args == {"blocks": "AB"}
    again = transfer3d.create_model("p3d_tiny", weights=folder)
    assert all(torch.equal(p, q) for p, q in zip(student.parameters(), again.parameters(), strict=True))
    original = transfer3d.load(folder.parent / "s.safetensors").state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in student.state_dict().items())


def test_the_config_says_what_the_checkpoint_says(folder):
    config = json.loads((folder / "config.json").read_text())
    student = transfer3d.load(folder)
    assert config["architecture"] == "p3d_tiny"
    rebuilt = create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
    rebuilt.load_state_dict(student.state_dict(), strict=True)
    assert config["label_names"] == NAMES
    assert config["id2label"] == {"0": "run", "1": "jump", "2": "sit"}
    assert config["label2id"]["sit"] == 2
    assert config["num_features"] == student.num_features
    assert config["clip"] == {**student.clip.to_dict(), "mean": [0.5] * 3, "std": [0.5] * 3}
    assert json.loads((folder / "preprocess.json").read_text())["class_names"] == NAMES


def test_transformers_does_not_take_it_for_timms_and_names_us(folder):
    config = json.loads((folder / "config.json").read_text())
    assert "pretrained_cfg" not in config  # by this key alone transformers knows timm's
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for loader in (transformers.AutoConfig, transformers.AutoModelForVideoClassification):
        with pytest.raises(ValueError, match="transfer3d") as raised:
            loader.from_pretrained(str(folder))
        assert "timm" not in str(raised.value)


def test_timm_knows_no_such_network_and_the_card_says_so(folder):
    with pytest.raises(RuntimeError, match=r"Unknown model \(p3d_tiny\)"):
        timm.create_model(f"local-dir:{folder}")
    assert "Only transfer3d can load this folder" in (folder / "README.md").read_text()


def test_the_card_has_front_matter_that_the_hub_reads(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transfer3d"
    assert card.data.pipeline_tag == "video-classification"
    assert {"video", "p3d"} <= set(card.data.tags)
    assert "run, jump, sit" in card.text
    assert '"made_by": "a test"' in card.text


def test_the_cards_program_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    write_numbered(folder / "video.mp4")
    card = ModelCard.load(folder / "README.md")
    program = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1].replace("hf_hub:user/name", ".")
    names = {"clips": torch.zeros(2, 3, 8, 32, 32, dtype=torch.uint8)}
    exec(program, names)
    assert names["logits"].shape == (2, 3)
    assert "video.mp4" in capsys.readouterr().out


def card_of(provenance, facts=NO_INFO):
    student = create_model("p3d_tiny", num_classes=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.safetensors"
        transfer3d.save(student, path, provenance=provenance)
        return ModelCard(model_card(read_metadata(path), 7, facts)).data


def test_the_card_says_what_the_student_was_made_from():
    inflated = card_of({"source": "resnet18.a1_in1k"})
    assert inflated.base_model == "timm/resnet18.a1_in1k"
    assert inflated.license == timm.get_pretrained_cfg("resnet18.a1_in1k").license
    tuned = card_of({"parent": {"checkpoint": "hf_hub:user/student@v1", "sha256": "00"}})
    assert tuned.base_model == "user/student"
    assert tuned.license == "unknown"
    assert card_of({"parent": {"checkpoint": "/home/x/s.safetensors"}}).base_model is None
    parent = {"checkpoint": "s.safetensors", "source": "resnet18.a1_in1k"}
    assert card_of({"parent": parent}).base_model == inflated.base_model
    assert card_of({"source": {"sha256": "00"}}, CardInfo(license="mit")).license == "mit"


def test_the_cards_results_are_the_checkpoints():
    metrics = {"video_top1": 0.51234, "mean_ap": 0.25, "loss": 3.0}
    card = card_of({"metrics": metrics}, CardInfo(datasets=("user/my videos",)))
    found = {result.metric_name: (result.metric_type, result.metric_value) for result in card.eval_results}
    assert found == {"Top-1": ("accuracy", 0.5123), "Mean average precision": ("mAP", 0.25)}
    assert card.datasets == ["user/my videos"]
    assert card.metrics == ["accuracy", "mAP"]
    assert {result.dataset_type for result in card.eval_results} == {"user/my-videos"}
    assert {result.dataset_split for result in card.eval_results} == {"validation"}
    assert card.model_name == "p3d_tiny"
    assert card_of({"metrics": metrics}).eval_results[0].dataset_name == "own videos"
    assert card_of({}).eval_results is None


PUSH = """
import sys
from transfer3d.cli.main import main
sys.argv = ["transfer3d", "export", *sys.argv[1:]]
main()
"""


def pushed(folder, address, *arguments):
    home = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_test", "HF_HOME": str(folder.parent / "home")}
    command = [sys.executable, "-c", PUSH, str(folder), "--format", "hub", "-o", str(folder.parent / "out")]
    return subprocess.run(
        [*command, *arguments], env={**os.environ, **home}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.proc
def test_a_folder_is_pushed_and_loads_from_the_hub(folder):
    files = {}
    with serve(files) as (address, seen):
        done = pushed(folder, address, "--push", "user/name")
    assert done.returncode == 0, done.stderr
    assert f"pushed to {address}/user/name" in done.stdout
    assert "POST /api/repos/create" in seen
    names = ("README.md", "config.json", "model.safetensors", "preprocess.json")
    assert sorted(files) == [f"user/name/{name}" for name in names]
    for name in names:
        assert files[f"user/name/{name}"] == (folder.parent / "out" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.proc
def test_a_hub_that_refuses_is_said_and_the_folder_stays(folder):
    with serve({}, refuse_commits=True) as (address, _):
        done = pushed(folder, address, "--push", "user/name")
    assert done.returncode == 5
    assert "the upload failed" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert (folder.parent / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"format": "hub", "repository": "name"}, "--push name is not a repository's name"),
        ({"format": "onnx", "repository": "user/name"}, "are for --format hub"),
        ({"format": "torch", "info": CardInfo(license="mit")}, "are for --format hub"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_written(folder, tmp_path, arguments, said):
    with pytest.raises(UsageError, match=said):
        export_checkpoint(str(folder), out=tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_no_folder_is_made_of_a_broken_checkpoint(tmp_path):
    (tmp_path / "s.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError):
        write_hub_folder(tmp_path / "s.safetensors", tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
