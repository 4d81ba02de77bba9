"""What a resumed run refuses, and what a run leaves behind when it ends badly."""

import json
import resource
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import UsageError
from transfer3d.files import sha256_file
from transfer3d.recipes.load import dump, load_recipe
from transfer3d.run.training.recipe_options import changed_keys, resolve, resumed_folder

TINY = ["--set", "max_steps=4", "--set", "batch_size=8", "--set", "save_every=2", "--workers", "0"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def correspond(data, out, *more):
    return run("correspond", "--recipe", "demo/tiny-correspond", "--data", data, "-o", out, *TINY, *more)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, digits_folder):
    """A correspondence run whose process died after its last checkpoint, before it was marked as finished."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    code = (
        "import os, sys\n"
        "from transfer3d.engine.run_folder import RunFolder\n"
        "RunFolder.finish = lambda *_: os._exit(9)\n"
        "from transfer3d.cli.main import main\n"
        f"sys.argv = ['transfer3d', 'correspond', '--recipe', 'demo/tiny-correspond', '--weights', 'none',"
        f" '--data', {str(digits_folder / 'shards')!r}, '-o', {str(out)!r}, *{TINY!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    return out


@pytest.fixture
def broken(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_a_run_that_died_before_publishing_is_finished_with_a_model(broken, digits_folder):
    result = correspond(digits_folder / "shards", broken, "--weights", "none", "--resume")
    assert result.exit_code == 0, result.output
    assert "resuming at step 4" in result.output
    assert transfer3d.load(broken / "model.safetensors").num_classes == 0
    assert json.loads((broken / "exit.rank0.json").read_text())["exit_code"] == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--set", "lr=0.5"], "lr=0.05"),
        (["--student", "t3d_tiny"], "student='p3d_tiny'"),
        (["--weights", "timm"], "weights='none'"),
        (["--set", "batch_size=16"], "batch_size=8"),
    ],
)
def test_a_changed_recipe_is_refused_and_nothing_is_touched(broken, digits_folder, change, named):
    before = (broken / "recipe.toml").read_bytes()
    given = ["--weights", "none", *change] if "--weights" not in change else change
    result = correspond(digits_folder / "shards", broken, "--resume", *given)
    assert result.exit_code == 2, result.output
    assert named in result.output
    assert (broken / "recipe.toml").read_bytes() == before


@pytest.mark.parametrize("way", ["--data", "--set"])
def test_the_same_data_at_another_place_and_other_data_there(way, broken, digits_folder, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(digits_folder / "shards", moved)
    given = ["--data", moved] if way == "--data" else ["--set", f"data={moved}"]
    command = ("correspond", "-o", broken, "--resume", "--workers", "0")
    result = run(*command, "--data", digits_folder / "videos" / "val")
    assert result.exit_code == 2, result.output
    assert "another data" in result.output
    result = run(*command, *given)
    assert result.exit_code == 0, result.output
    assert str(moved) in (broken / "recipe.toml").read_text()
    assert "resuming at step 4" in result.output


def test_a_checkpoint_at_another_place_and_another_one_there(tmp_path):
    for name, seed in (("a", 0), ("c", 1)):
        student = transfer3d.create_model("p3d_tiny", num_classes=2, seed=seed)
        transfer3d.save(student, tmp_path / f"{name}.safetensors")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "run").mkdir()
    stored = load_recipe("demo/tiny-finetune", student=str(tmp_path / "a.safetensors"))
    (tmp_path / "run" / "recipe.toml").write_text(dump(stored))
    digest = sha256_file(tmp_path / "a.safetensors")
    (tmp_path / "run" / "started.json").write_text(json.dumps({"files": {"student": digest}}))
    same = str(tmp_path / "b.safetensors")
    assert resolve("finetune", None, (), resumed=tmp_path / "run", student=same).student == same
    with pytest.raises(UsageError, match="student="):
        resolve("finetune", None, (), resumed=tmp_path / "run", student=str(tmp_path / "c.safetensors"))


def test_other_data_under_the_same_name_is_refused(broken, digits_folder, tmp_path):
    recipe = broken / "recipe.toml"
    other = digits_folder / "videos" / "val"
    recipe.write_text(recipe.read_text().replace(str(digits_folder / "shards"), str(other)))
    result = run("correspond", "-o", broken, "--resume")
    assert result.exit_code == 2, result.output
    assert "another data" in result.output
    assert json.loads((broken / "exit.rank0.json").read_text())["exit_code"] == 2


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path, digits_folder):
    result = correspond(digits_folder / "shards", tmp_path / "typo", "--weights", "none", "--resume")
    assert result.exit_code == 2
    assert "holds no run" in result.output


def test_what_was_left_open_is_no_change_and_what_was_given_is():
    stored = load_recipe("demo/tiny-finetune", ["batch_size=8", "max_steps=20", "precision=bf16"])
    assert not changed_keys(stored, load_recipe("demo/tiny-finetune", ["batch_size='auto'", "workers=7"]))
    assert changed_keys(stored, load_recipe("demo/tiny-finetune", ["optimizer.momentum=0.5"]))
    # Of epochs and max_steps the smaller number is kept: a larger one may have been given, a smaller one not.
    stored = stored.model_copy(update={"epochs": 3.0})
    assert changed_keys(stored, stored.model_copy(update={"max_steps": 19})) == ["max_steps=20"]
    assert not changed_keys(stored, stored.model_copy(update={"max_steps": 99}))
    with pytest.raises(UsageError, match="seed = -1"):
        load_recipe("demo/tiny-finetune", ["seed=-1"])


@pytest.mark.slow
@pytest.mark.proc
def test_a_full_disk_ends_with_5_and_leaves_the_last_checkpoint(tmp_path, digits_folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    command = [sys.executable, "-m", "transfer3d", "correspond", "--recipe", "demo/tiny-correspond"]
    command += [
        "--weights",
        "none",
        "--data",
        str(digits_folder / "shards"),
        "-o",
        str(tmp_path / "run"),
        *TINY,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 5, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").rglob("*.partial*"))


def test_a_bad_validation_file_is_named_as_evaluate_names_it(tmp_path, digits_folder):
    for split in ("train", "val"):
        for name in ("3_left", "7_up"):
            shutil.copytree(digits_folder / "videos" / "train" / name, tmp_path / "data" / split / name)
    (tmp_path / "data" / "val" / "7_up" / "bad.mp4").write_bytes(b"no video")
    result = run("finetune", "p3d_tiny", "--data", tmp_path / "data", "-o", tmp_path / "run", *TINY)
    assert result.exit_code == 3, result.output
    assert "bad.mp4" in result.output


def test_a_teacher_that_cannot_take_the_frames_is_named(tmp_path, digits_folder):
    of_flow = tmp_path / "flow.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", in_chans=2), of_flow)
    result = run(
        "correspond", "--teacher", of_flow, "--student", "p3d_tiny",
        "--data", digits_folder / "shards", "-o", tmp_path / "run", *TINY,
    )  # fmt: skip
    assert result.exit_code == 2, result.output
    assert "teacher p3d_tiny cannot take frames of 32x32 pixels and 3 channels" in result.output


def test_only_a_run_that_is_gone_on_with_gives_its_recipe(tmp_path):
    assert resumed_folder(tmp_path, True) == tmp_path
    assert resumed_folder(tmp_path, False) is None
    assert resumed_folder(None, False) is None
