"""Stages that follow one another in one run folder, and students that start from related ones."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import UsageError, WeightsError
from transfer3d.recipes.load import dump, load_recipe, stages_of
from transfer3d.run.training.warm_start import start_from
from transfer3d.weights.metadata import read_metadata

STAGED = """
extends = "demo/tiny-finetune"
student = "v4d_tiny"
max_steps = 2
batch_size = 8
precision = "fp32"
workers = 0

[stages.taught]
task = "correspond"
student = "i3ds_tiny"
teacher = "test_resnet"
weights = "none"
correspondence.pairs = "one-to-one"

[stages.still]
student = "i3ds_tiny"
data_share = 0.5

[stages.blocks_at_rest]
optimizer.lr_scale = { "*.after*" = 0 }
clip = { units = 4, frames = 2 }

[stages.all]
clip = { units = 4, frames = 2 }
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "staged.toml"
    path.write_text(STAGED)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_segments_train_a_student_of_single_clips_and_correspond_refuses_them(tmp_path, digits_folder):
    options = ("--data", digits_folder / "shards", "--set", "segments=3", "--set", "max_steps=2")
    common = ("--set", "batch_size=4", "--set", "workers=0", "--set", "precision=fp32")
    done = run(
        "finetune", "t3d_tiny", "--recipe", "demo/tiny-finetune", *options, *common, "-o", tmp_path / "r"
    )
    assert done.exit_code == 0, done.output
    assert "mirror images" not in done.stderr  # the demo's recipe mirrors nothing
    assert transfer3d.load(tmp_path / "r" / "model.safetensors").clip.units == 1
    assert "segments = 3" in (tmp_path / "r" / "recipe.toml").read_text()
    mirrored = run("finetune", "t3d_tiny", "--recipe", "demo/tiny-finetune", *options, *common,
                   "--set", "augment.flip=true", "--set", "max_steps=1", "-o", tmp_path / "m")  # fmt: skip
    assert "'0_left' and '0_right' and 9 more pairs are mirror images of each other" in mirrored.stderr
    refused = run(
        "correspond", "--teacher", "test_densenet", "--weights", "none", *options, "-o", tmp_path / "c"
    )
    assert refused.exit_code == 2
    assert "segments=3 is for finetune" in refused.stderr


def weights(path):
    return transfer3d.load(path).state_dict()


def test_stages_are_recipes_of_their_own_and_survive_a_round_trip(recipe, tmp_path):
    staged = load_recipe(recipe, ["stages.still.lr=0.5"])
    stages = stages_of(staged)
    assert list(stages) == ["taught", "still", "blocks_at_rest", "all"]
    assert (stages["taught"].task, stages["still"].task) == ("correspond", "finetune")
    assert (stages["still"].lr, stages["all"].lr) == (0.5, staged.lr)
    assert stages["all"].clip.size == staged.clip.size
    again = tmp_path / "again.toml"
    again.write_text(dump(staged))
    assert list(stages_of(load_recipe(again)).items()) == list(stages.items())


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("stages.still.lrr=1", "staged.toml, stage still: unknown key 'lrr' (did you mean 'lr'?), value 1."),
        ("stages.still.clip.size=0", "stage still: clip.size = 0"),
        ("stages.stil.data=x", "no stage 'stil' (did you mean 'still'?). The recipe has taught, still, "),
        ("stages={'a/b'={lr=1}}", "staged.toml: stages.a/b.[key]: a stage's name has letters, digits"),
    ],
)
def test_a_wrong_key_in_a_stage_is_named(recipe, override, named):
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe, [override])
    assert named in str(caught.value)


def test_a_stage_in_a_linked_folder_is_refused_before_the_first_one(recipe, digits_folder, tmp_path):
    out, other = tmp_path / "run", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    (out / "still").symlink_to(other)
    done = run("finetune", "--recipe", recipe, "--data", digits_folder / "shards", "-o", out)
    assert done.exit_code == 2
    assert "run/still is a link" in done.stderr
    assert [path.name for path in out.iterdir()] == ["still"]
    assert not list(other.iterdir())


@pytest.mark.slow
def test_a_staged_run_that_dies_in_a_stage_resumes_to_the_same_student(recipe, digits_folder, tmp_path):
    arguments = ["finetune", "--recipe", recipe, "--data", digits_folder / "shards", "-o"]
    straight = run(*arguments, tmp_path / "straight")
    assert straight.exit_code == 0, straight.output
    often = ["--set", "save_every=1"]
    code = (
        "import os, sys\n"
        "from transfer3d.engine.run_folder import RunFolder\n"
        "whole = RunFolder.save_checkpoint\n"
        "def save(folder, *rest, **more):\n"
        "    whole(folder, *rest, **more)\n"
        "    if folder.path.name == 'blocks_at_rest':\n"
        "        os._exit(9)\n"
        "RunFolder.save_checkpoint = save\n"
        "from transfer3d.cli.main import main\n"
        f"sys.argv = {['transfer3d', *map(str, [*arguments, tmp_path / 'broken']), *often]!r}\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    out = tmp_path / "broken"
    assert not (out / "all").exists()
    resumed = run("finetune", "-o", out, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "resuming at step 1" in resumed.output
    assert resumed.output.count("finished run: nothing to do") == 2
    for name in ("blocks_at_rest", "all", "."):
        first, second = (
            weights(folder / name / "model.safetensors") for folder in (tmp_path / "straight", out)
        )
        assert all(torch.equal(first[key], second[key]) for key in first), name
    still, rest, last = (
        weights(out / name / "model.safetensors") for name in ("still", "blocks_at_rest", "all")
    )
    fresh = transfer3d.create_model("v4d_tiny", num_classes=40).state_dict()
    blocks = [key for key in rest if ".after" in key]
    assert set(rest) - set(still) == set(blocks)
    assert all(torch.equal(rest[key], fresh[key]) for key in blocks)  # at rest: weights and statistics
    assert any(not torch.equal(last[key], fresh[key]) for key in blocks)
    assert not torch.equal(still["head.weight"], rest["head.weight"])
    assert (still["head.weight"] - rest["head.weight"]).abs().max() < 0.1  # the same head, a step later
    assert (
        read_metadata(out / "model.safetensors")
        .provenance["parent"]["checkpoint"]
        .endswith("blocks_at_rest/model.safetensors")
    )
    assert json.loads((out / "finished.json").read_text())["steps"] == 2
    assert "nothing to do" in run("finetune", "-o", out, "--resume").output


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ("data=nowhere", 2, "stage all: nowhere does not exist"),
        ("start=old.safetensors", 4, "old.safetensors"),
    ],
)
def test_what_a_later_stage_lacks_is_said_before_the_first(
    recipe, digits_folder, tmp_path, change, code, named
):
    out = tmp_path / "run"
    done = run(
        "finetune", "--recipe", recipe, "--data", digits_folder / "shards", "-o", out,
        "--set", f"stages.all.{change}",
    )  # fmt: skip
    assert done.exit_code == code, done.output
    assert named in " ".join(done.output.split())
    assert not out.exists()


def test_a_start_takes_over_everything_it_finds_a_place_for(tmp_path):
    plain = transfer3d.create_model("i3ds_tiny", num_classes=3, seed=5)
    transfer3d.save(plain, tmp_path / "plain.safetensors", class_names=["a", "b", "c"])
    for names, kept in ((["a", "b", "c"], True), (["a", "b", "x"], False)):
        student = transfer3d.create_model("v4d_tiny", num_classes=3, seed=6)
        before = {key: value.clone() for key, value in student.state_dict().items()}
        line = start_from(student, str(tmp_path / "plain.safetensors"), names)
        after = student.state_dict()
        for key, value in plain.state_dict().items():
            assert torch.equal(after[key], value if kept or not key.startswith("head.") else before[key])
        assert all(torch.equal(after[key], before[key]) for key in after if ".after" in key)
        assert ("with its head" in line) == kept


def test_a_start_from_another_family_is_refused(tmp_path):
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=3), tmp_path / "p3d.safetensors")
    student = transfer3d.create_model("v4d_tiny", num_classes=3)
    with pytest.raises(WeightsError, match="v4d_tiny does not fit"):
        start_from(student, str(tmp_path / "p3d.safetensors"), ["a", "b", "c"])
