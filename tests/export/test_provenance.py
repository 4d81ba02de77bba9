"""What exports say of their origin: no recipe, no path of data or of this machine, unless asked."""

import json
import zipfile
from pathlib import Path

import pytest

import transfer3d
from transfer3d.errors import UsageError
from transfer3d.export.agreement import Agreement
from transfer3d.models.factory import create_model
from transfer3d.run.checkpoints.export import export_checkpoint
from transfer3d.weights.metadata import read_metadata
from transfer3d.weights.provenance import public_provenance

ROOT = Path(transfer3d.__file__).parents[1]
PRIVATE = (b"secret", b"/home/someone", b"recipe")


@pytest.fixture
def checkpoint(exported):
    return str(exported / "s.safetensors")


@pytest.fixture
def written(monkeypatch):
    """Writes the metadata alone, in place of a graph."""

    def write(student, path, metadata):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dict(metadata)))
        return Agreement(difference=0.0, shapes=(), open_axes=())

    monkeypatch.setattr("transfer3d.run.checkpoints.export.write_onnx", write)


def private_words(files, *folders):
    """What none of the files may hold, and one does; those inside of archives are read one by one."""
    here = [str(folder).encode() for folder in (ROOT, Path.home(), Path(json.__file__).parent, *folders)]
    contents = [file.read_bytes() for file in files]
    for file in files:
        if file.suffix == ".pt2":
            with zipfile.ZipFile(file) as archive:
                contents += map(archive.read, archive.namelist())
    return [word for word in (*PRIVATE, *here) for content in contents if word in content]


@pytest.mark.slow
def test_neither_recipe_nor_path_is_in_an_onnx_file(exported):
    assert not private_words([exported / "m.onnx", exported / "preprocess.json"], exported)


@pytest.mark.slow
@pytest.mark.proc
def test_nor_in_a_program(checkpoint, tmp_path):
    done = export_checkpoint(checkpoint, "torch", tmp_path / "m.pt2")
    assert not private_words(done.files, tmp_path)


def test_nor_in_a_hub_folder(checkpoint, tmp_path):
    done = export_checkpoint(checkpoint, "hub", tmp_path / "hub")
    assert len(done.files) == 4
    assert not private_words(done.files, tmp_path)


def test_private_words_are_seen(checkpoint, tmp_path):
    done = export_checkpoint(checkpoint, "hub", tmp_path / "hub", provenance="full")
    assert set(private_words(done.files)) >= set(PRIVATE)


def test_all_of_it_where_it_is_asked_for(checkpoint, origin, tmp_path, written):
    export_checkpoint(checkpoint, "hub", tmp_path / "hub", provenance="full")
    assert read_metadata(tmp_path / "hub").provenance == origin
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["provenance"] == origin
    export_checkpoint(checkpoint, "onnx", tmp_path / "m.onnx", provenance="full")
    strings = json.loads((tmp_path / "m.onnx").read_text())
    assert json.loads(strings["transfer3d.provenance"]) == origin


def test_what_stays_says_which_files_they_were(checkpoint, origin, tmp_path):
    said = public_provenance(origin)
    assert said["parent"] == {"checkpoint": "p3d.safetensors", "sha256": "ab" * 32}
    assert said["teacher"] == {"name": "teacher.safetensors", "weights": "hf_hub:timm/resnet18.a1_in1k"}
    assert said["metrics"] == origin["metrics"]
    assert set(said) == {"made_by", "parent", "teacher", "metrics"}
    export_checkpoint(checkpoint, "hub", tmp_path / "hub")
    hub, original = read_metadata(tmp_path / "hub"), read_metadata(checkpoint)
    assert hub.provenance == said
    assert hub.digest == original.digest
    assert transfer3d.load(tmp_path / "hub").model_args == original.model_args


def test_another_models_sidecar_is_not_overwritten(checkpoint, tmp_path, written):
    other = str(tmp_path / "other.safetensors")
    transfer3d.save(create_model("p3d_tiny", num_classes=5), other)
    export_checkpoint(checkpoint, "onnx", tmp_path / "m.onnx")
    export_checkpoint(checkpoint, "onnx", tmp_path / "again.onnx")  # the same model: the same file
    with pytest.raises(UsageError, match="--provenance some"):
        export_checkpoint(other, "onnx", tmp_path / "third.onnx", provenance="some")
    assert not (tmp_path / "third.onnx").exists()
    export_checkpoint(other, "onnx", tmp_path / "other.onnx")
    classes = {path.name: json.loads(path.read_text())["num_classes"] for path in tmp_path.glob("*.json")}
    assert classes == {"preprocess.json": 3, "other.preprocess.json": 5}
