"""The way back from a checkpoint, over real files."""

import pytest

import transfer3d
from transfer3d.files import sha256_file
from transfer3d.insight.report.chain import LONGEST, chain_of


@pytest.fixture(scope="module")
def student():
    return transfer3d.create_model("p3d_tiny", num_classes=3)


def save(student, path, **said):
    transfer3d.save(student, path, provenance=said)
    return path


def named(path):
    return {"checkpoint": str(path), "sha256": sha256_file(path)}


def titles(path):
    return [link.title for link in chain_of(path)]


def test_from_the_image_model_over_the_teacher_to_the_labels(student, tmp_path):
    inflated = save(
        student,
        tmp_path / "a.safetensors",
        made_by="inflate",
        source="resnet18",
        source_digest="1f",
        weights="timm",
    )
    teacher = {"name": "resnet50", "weights": "timm", "digest": "2e"}
    taught = save(
        student, tmp_path / "b.safetensors", made_by="correspond", parent=named(inflated), teacher=teacher
    )
    tuned = save(student, tmp_path / "c.safetensors", made_by="finetune", parent=named(taught))
    links = chain_of(tuned)
    assert [link.title for link in links] == [
        "Image model",
        "Inflated",
        "Teacher, frozen",
        "Trained by correspondence, without labels",
        "Fine-tuned on labels",
    ]
    facts = [dict(link.rows) for link in links]
    assert facts[0] == {"image model": "resnet18", "weights": "timm", "digest": "1f"}
    assert facts[2] == {"image model": "resnet50", "weights": "timm", "digest": "2e"}
    assert facts[3]["file's sha256"] == f"{sha256_file(taught)}, holds"
    assert [link.beside for link in links] == [False, False, True, False, False]


def test_a_released_file_and_random_weights_are_beginnings(student, tmp_path):
    source = {"file": "p3d.pth", "sha256": "3d"}
    imported = save(student, tmp_path / "a.safetensors", made_by="import", kind="p3d-pytorch", source=source)
    assert titles(imported) == ["Released checkpoint", "Imported"]
    scratch = save(
        student,
        tmp_path / "b.safetensors",
        made_by="finetune",
        parent={"checkpoint": None, "model": "p3d_tiny"},
    )
    assert titles(scratch) == ["Random weights", "Fine-tuned on labels"]


def test_a_parent_that_is_gone_or_another_file_ends_the_chain(student, tmp_path):
    parent = save(student, tmp_path / "a.safetensors", made_by="inflate")
    child = save(student, tmp_path / "b.safetensors", made_by="finetune", parent=named(parent))
    save(student, parent, made_by="import")
    first = dict(chain_of(child)[0].rows)
    assert "its content has changed" in first["file"]
    parent.unlink()
    assert "not found" in dict(chain_of(child)[0].rows)["file"]
    assert titles(child) == ["Checkpoint not found", "Fine-tuned on labels"]


def test_a_parent_on_the_hub_is_named_and_not_fetched(student, tmp_path, monkeypatch):
    monkeypatch.setattr("transfer3d.insight.report.chain.locate", lambda _: pytest.fail("asked for a file"))
    parent = {"checkpoint": "hf_hub:someone/student@1f", "sha256": "2e"}
    child = save(student, tmp_path / "a.safetensors", made_by="finetune", parent=parent)
    assert titles(child) == ["Checkpoint of the hub", "Fine-tuned on labels"]


@pytest.mark.parametrize(
    "said", [{"parent": 7, "teacher": [1], "made_by": {"x": 1}}, {"parent": {"checkpoint": 5}}, {}]
)
def test_provenance_of_any_shape_is_shown_as_far_as_it_goes(student, tmp_path, said):
    assert len(titles(save(student, tmp_path / "a.safetensors", **said))) <= 2


def test_a_circle_ends(student, tmp_path, monkeypatch):
    path = save(
        student,
        tmp_path / "a.safetensors",
        parent={"checkpoint": str(tmp_path / "a.safetensors"), "sha256": "x"},
    )
    monkeypatch.setattr("transfer3d.insight.report.chain.file_holds", lambda *_: True)
    assert len(chain_of(path)) == LONGEST
