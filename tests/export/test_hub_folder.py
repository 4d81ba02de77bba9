"""The Hub folder: what is in it, and that it loads."""

import json

import pytest
import torch
from huggingface_hub import ModelCard

import transfer3d
from transfer3d.errors import WeightsError
from transfer3d.export.hub_folder import write_hub_folder
from transfer3d.models.factory import create_model

NAMES = ["run", "jump", "sit"]


@pytest.fixture
def folder(tmp_path):
    student = create_model("p3d_tiny", num_classes=3, seed=4, blocks="AB")
    transfer3d.save(
        student, tmp_path / "s.safetensors", class_names=NAMES, provenance={"made_by": "a test", "top1": 0.5}
    )
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
    cfg = config["pretrained_cfg"]
    assert cfg["input_size"] == [3, student.clip.frames, student.clip.size, student.clip.size]
    assert (tuple(cfg["mean"]), tuple(cfg["std"])) == (student.clip.mean, student.clip.std)


def test_the_card_has_front_matter_that_the_hub_reads(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transfer3d"
    assert card.data.pipeline_tag == "video-classification"
    assert {"video", "p3d"} <= set(card.data.tags)
    assert "run, jump, sit" in card.text
    assert '"made_by": "a test"' in card.text


def test_no_folder_is_made_of_a_broken_checkpoint(tmp_path):
    (tmp_path / "s.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError):
        write_hub_folder(tmp_path / "s.safetensors", tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
