"""The student of a teacher for which none was named, and that its teacher sees its own size."""

import pytest
import torch
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import UsageError
from transfer3d.models.image import create_image_model
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.recipes.load import dump, load_recipe
from transfer3d.run.training.paired_student import with_paired_student


def completed(teacher, recipe="default/correspond", overrides=()):
    return with_paired_student(load_recipe(recipe, overrides, teacher=teacher))


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("densenet121", "t3d_densenet121"),
        ("resnet50", "p3d_resnet50"),
        ("resnet50.a1_in1k", "p3d_resnet50"),
        ("test_resnet", "p3d_tiny"),
        ("test_densenet", "t3d_tiny"),
        ("googlenet", "i3d_googlenet"),
        ("vit_small_patch16_224.augreg_in1k", "timesformer_small"),
    ],
)
def test_a_registered_student_goes_with_the_network_it_is_inflated_from(teacher, student):
    recipe = completed(teacher)
    assert recipe == load_recipe("default/correspond", teacher=teacher, student=student)


def test_any_other_convolutional_network_gets_what_i3d_makes_of_it():
    recipe = completed("test_efficientnet")
    assert (recipe.student, recipe.clip.size) == ("i3d", 160)  # timm's test networks are of 160 pixels
    assert recipe.student_args == {"spec": {"architecture": "test_efficientnet"}}
    student = transfer3d.create_model("i3d", 0, seed=recipe.seed, **recipe.student_args)
    inflated = transfer3d.inflate(create_image_model("test_efficientnet", "none"), "i3d", num_classes=0)
    assert student.state_dict().keys() == inflated.student.state_dict().keys()
    assert recipe.clip.apply(student.clip).crop == inflated.student.clip.crop
    small = completed("test_efficientnet", overrides=["clip.size=64", "student_args.depths=[1,1,1,1,1,1]"])
    assert (small.clip.size, small.clip.crop) == (64, None)
    assert set(small.student_args) == {"spec", "depths"}


def test_a_vision_transformer_of_another_shape_gets_a_timesformer():
    recipe = completed("test_vit2")
    assert (recipe.student, recipe.clip.size) == ("timesformer", 160)
    assert recipe.student_args["spec"]["architecture"] == "test_vit2"
    student = transfer3d.create_model("timesformer", 0, **recipe.student_args)
    inflated = transfer3d.inflate(create_image_model("test_vit2", "none"), "timesformer", num_classes=0)
    assert student.state_dict().keys() == inflated.student.state_dict().keys()


def test_a_network_that_cannot_be_inflated_gets_a_small_resnet_not_a_tiny_one():
    recipe = completed("xcit_nano_12_p16_224")
    assert (recipe.student, recipe.clip.size, recipe.clip.crop) == ("p3d_resnet18", 112, 128)


def test_a_teacher_that_timm_does_not_have_is_refused():
    with pytest.raises(UsageError, match="timm has no model 'resnet999'"):
        completed("resnet999")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_choice_is_said_resumed_and_loaded(digits_folder, tmp_path, monkeypatch):
    seen, embed = [], Correspondence.embed

    def noted(self, batch):
        seen.append(batch.teacher_clips.shape)
        return embed(self, batch)

    monkeypatch.setattr(Correspondence, "embed", noted)
    command = [
        *("correspond", "--recipe", "default/correspond", "--teacher", "test_efficientnet"),
        *("--weights", "none"),
        *("--data", digits_folder / "shards", "-o", tmp_path / "run", "--workers", "0"),
        *("--batch-size", "4", "--steps", "1", "--set", "clip.frames=4", "--set", "clip.stride=1"),
        *("--set", "clip.size=32", "--set", "correspondence.teacher_frames=1"),
    ]  # fmt: skip
    done = run(*command)
    assert done.exit_code == 0, done.output
    parameters = sum(p.numel() for p in transfer3d.load(tmp_path / "run" / "model.safetensors").parameters())
    said = f"student i3d of test_efficientnet: {parameters / 1e6:.1f} M parameters, clips of 4 frames"
    assert said in done.output
    assert "--student NAME" in done.output
    assert seen[-1] == torch.Size([4, 3, 4, 160, 160])
    (tmp_path / "run" / "finished.json").unlink()
    again = run(*command, "--resume")
    assert again.exit_code == 0, again.output
    assert "resuming at step 1" in again.output
    stored = load_recipe(tmp_path / "run" / "recipe.toml")
    assert stored.correspondence.teacher_view == "native"
    assert 'architecture = "test_efficientnet"' in dump(stored)
