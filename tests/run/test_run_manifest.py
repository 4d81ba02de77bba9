"""What a run notes of its start: counts of real folders, and nothing that names a person or a place."""

import json
import platform
import socket
from types import SimpleNamespace

import pytest
import torch
from endless import ENDLESS, place_endless
from media import write_numbered

from transfer3d.data.source import open_videos
from transfer3d.data.subset import Subset
from transfer3d.files import MAX_JSON_BYTES
from transfer3d.recipes.load import load_recipe
from transfer3d.run.training.recipe_options import recorded_files
from transfer3d.run.training.run_manifest import write_manifest


@pytest.fixture
def videos(tmp_path):
    """Three videos of one class and one of another, which has a damaged file too."""
    for name in ("run/a", "run/b", "run/c", "walk/a", "walk/b"):
        write_numbered(tmp_path / "videos" / f"{name}.mp4", 8)
    (tmp_path / "videos" / "walk" / "b.mp4").write_text("no video")
    return open_videos(tmp_path / "videos", split=None, labelled=True)


def noted(folder, videos, held_out, processes=3):
    accelerator = SimpleNamespace(num_processes=processes)
    recipe = load_recipe("demo/tiny-finetune", student=str(folder / "student.safetensors"))
    session = SimpleNamespace(folder=folder, path=folder, accelerator=accelerator, recipe=recipe)
    write_manifest(session, videos, held_out)
    return (folder / "started.json").read_text(encoding="utf-8")


def test_what_is_noted_of_the_data_is_what_lies_there(videos, tmp_path):
    data = json.loads(noted(tmp_path, videos, Subset(videos, [0, 3])))["data"]
    assert (data["videos"], data["held_out"]) == (4, 2)
    assert data["classes"] == {"run": 3, "walk": 1}
    ((path, reason),) = data["dropped"]
    assert path.endswith("walk/b.mp4")
    assert reason
    assert data["digest"] == videos.digest
    assert json.loads(noted(tmp_path, videos, None))["data"]["held_out"] == 0


def test_the_machine_is_noted_without_names_of_hosts_users_and_places(videos, tmp_path, monkeypatch):
    for owner, name in ((socket, "gethostname"), (platform, "node")):
        monkeypatch.setattr(owner, name, lambda: "secret")
    for name in ("USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("HOME", "/home/secret")
    (tmp_path / "secret").mkdir()
    monkeypatch.chdir(tmp_path / "secret")
    text = noted(tmp_path, Subset(videos, range(3)), None)
    environment = json.loads(text)["environment"]
    assert environment["processes"] == 3
    assert torch.__version__.startswith(environment["torch"])
    assert "secret" not in text


def test_a_process_without_a_folder_notes_nothing():
    write_manifest(SimpleNamespace(folder=None), None, None)


@pytest.mark.parametrize("kind", [*ENDLESS, "long"])
def test_what_never_ends_or_is_too_long_is_no_record(kind, tmp_path):
    path = tmp_path / "started.json"
    path.write_text('{"files": {"teacher": "00"}}')
    assert recorded_files(tmp_path) == {"teacher": "00"}
    path.unlink()
    if kind == "long":
        with path.open("wb") as file:
            file.truncate(MAX_JSON_BYTES + 1)
    else:
        place_endless(path, kind)
    assert recorded_files(tmp_path) == {}
