"""Places that cannot be written are refused before the work, and a full disk is not a bug."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from endless import ENDLESS, place_endless
from safetensors.torch import save_file
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.data.moving_digits import SynthConfig, synthesise
from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.evaluation.scores import Scores, save_scores
from transfer3d.export.program import write_program
from transfer3d.files import atomic_path, read_regular, refuse_unwritable, sha256_file, write_text
from transfer3d.recipes.load import load_recipe
from transfer3d.weights.provenance import file_holds


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="is a file"):
        refuse_unwritable(tmp_path / "file" / "deeper" / "report.json")
    refuse_unwritable(tmp_path / "new" / "deeper" / "report.json")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "command",
    [["inflate", "test_resnet", "--to", "p3d", "--weights", "none"], ["check", "{digits}/videos/test"]],
)
def test_commands_say_so_before_they_start(command, digits_folder, tmp_path):
    (tmp_path / "file").touch()
    words = [word.format(digits=digits_folder) for word in command]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "file" / "out")])
    assert (done.exit_code, "is a file" in " ".join(done.output.split())) == (5, True), done.output


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no place that looks writable and is not")
@pytest.mark.parametrize("format", ["onnx", "torch", "hub"])
def test_a_place_that_only_looks_writable_is_refused_before_the_work(format, tmp_path, monkeypatch):
    monkeypatch.setattr("transfer3d.run.checkpoints.export.write_program", None)  # it would say so
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=2), tmp_path / "s.safetensors")
    out = "/proc/x.pt2"
    done = CliRunner().invoke(app, ["export", str(tmp_path / "s.safetensors"), "--format", format, "-o", out])
    assert (done.exit_code, f"error: {out} cannot be written" in done.output) == (5, True), done.output


@contextmanager
def disk_of(size):
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def by_atomic_path(path):
    with atomic_path(path) as partial:
        save_file({"x": torch.zeros(1000)}, partial)


WRITERS = {
    "tensors": by_atomic_path,
    "a checkpoint": lambda path: transfer3d.save(transfer3d.create_model("p3d_tiny"), path),
    "scores": lambda path: save_scores(
        Scores(["a"], [(0,)], [torch.rand(1, 1000)]), path, classes=["x"], split="test", protocol="dense"
    ),
    "a program": lambda path: write_program(transfer3d.create_model("p3d_tiny").eval(), path, {}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_ends_with_5_and_leaves_nothing_half_written(writer, tmp_path):
    with pytest.raises(SetupError, match="cannot be written.*too large") as caught, disk_of(1000):
        WRITERS[writer](tmp_path / "file.pt2")
    assert caught.value.exit_code == 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [*ENDLESS, "folder", "large"])
def test_only_regular_files_of_a_size_are_read(kind, tmp_path):
    path = tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(bytes(101))
    else:
        place_endless(path, kind)
    with pytest.raises(ValueError, match=r"not a regular file|101 bytes, more than 100"):
        read_regular(path, 100)


def test_lists_and_recipes_that_are_pipes_are_not_waited_for(tmp_path):
    for name in ("train.csv", "recipe.toml", "classInd.txt", "x.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="no videos"):
        read_listing(Request(tmp_path))
    with pytest.raises(UsageError, match="no recipe"):
        load_recipe(tmp_path / "recipe.toml")
    with pytest.raises(UsageError, match=r"train\.csv is a device or a pipe"):
        read_listing(Request(tmp_path / "train.csv"))
    with pytest.raises(UsageError, match=r"x\.json is a device or a pipe"):
        synthesise(tmp_path / "x.json", SynthConfig())


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "device"])
def test_no_device_and_no_pipe_is_replaced_by_a_file(kind, tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/null")
    else:
        monkeypatch.setattr("transfer3d.files.DEVICES", (tmp_path,))  # as a file of /dev
        path.write_text("x")
    before = path.lstat().st_ino
    for write in (refuse_unwritable, lambda path: write_text(path, "y")):
        with pytest.raises(SetupError, match="it is a device or a pipe"):
            write(path)
    assert path.lstat().st_ino == before
    assert [other.name for other in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("kind", ENDLESS)
def test_no_digest_of_what_never_ends(kind, tmp_path):
    path = tmp_path / "file"
    place_endless(path, kind)
    with pytest.raises(ValueError, match="not a regular file"):
        sha256_file(path)
    assert file_holds(path, "x") is None
