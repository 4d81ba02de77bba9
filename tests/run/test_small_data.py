"""The recipe for few labelled videos, and what it refuses."""

import json
import shutil

from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.errors import UsageError
from transfer3d.recipes.load import load_recipe

TINY = ["--workers", "0", "--set", "batch_size=8", "--set", "clip.size=32", "--set", "clip.frames=4"]


def run(*arguments):
    return CliRunner().invoke(app, ["finetune", *map(str, arguments), *TINY])


def test_the_preset_is_what_it_is_called():
    recipe = load_recipe("default/small-data")
    plain = load_recipe("default/finetune")
    assert 0 < recipe.head_first < 1
    assert recipe.lr < plain.lr
    assert recipe.optimizer.layer_decay < 1
    assert recipe.batch_norm == "frozen"
    assert recipe.early_stop > 0


def test_the_preset_trains_and_leaves_the_statistics_as_they_were(digits_folder, tmp_path):
    file = tmp_path / "student.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=7, seed=2), file)
    done = run(file, "--recipe", "default/small-data", "--data", digits_folder / "shards",
               "-o", tmp_path / "run", "--set", "max_steps=25", "--set", "log_every=1")  # fmt: skip
    assert done.exit_code == 0, done.output
    before, after = (transfer3d.load(path) for path in (file, tmp_path / "run" / "model.safetensors"))
    for name, value in before.named_buffers():
        assert value.equal(after.get_buffer(name)), name
    assert not before.state_dict()["trunk.stem.0.conv.weight"].equal(
        after.state_dict()["trunk.stem.0.conv.weight"]
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "val"] == [10, 20, 25]  # 80 videos: an epoch is 10


def test_without_validation_videos_it_says_what_to_set(digits_folder, tmp_path):
    shutil.copytree(digits_folder / "videos" / "train", tmp_path / "data")
    done = run("p3d_tiny", "--recipe", "default/small-data", "--data", tmp_path / "data",
               "-o", tmp_path / "run", "--set", "max_steps=2")  # fmt: skip
    assert done.exit_code == 2, done.output
    assert "early_stop=0" in " ".join(done.output.split())
    done = run("p3d_tiny", "--recipe", "default/small-data", "--data", tmp_path / "data",
               "-o", tmp_path / "run", "--set", "max_steps=2", "--set", "val_share=0.4")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "40 labelled videos" in done.output
    assert "40 for validation" in done.output


def test_parts_must_divide_the_batch(digits_folder, tmp_path):
    done = run("p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", digits_folder / "shards",
               "-o", tmp_path / "run", "--set", "accumulate=3")  # fmt: skip
    assert done.exit_code == 2
    assert "accumulate=3" in done.output


def test_the_scaled_rate_is_printed(digits_folder, tmp_path):
    done = run("p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", digits_folder / "shards",
               "-o", tmp_path / "run", "--set", "max_steps=1", "--set", "lr_base_batch=32",
               "--set", "lr=0.1")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "lr = 0.1 * 8 / 32 = 0.025" in done.output


def test_what_the_recipe_says_of_the_loss_reaches_it(digits_folder, tmp_path, monkeypatch):
    built = []

    def objective(student, *, label_smoothing, class_weights, **others):
        built.append((student.dropout.p, label_smoothing, class_weights))
        raise UsageError("enough")

    monkeypatch.setattr("transfer3d.run.training.finetune.Classification", objective)
    for number, more in enumerate(([], ["dropout=0.3", "label_smoothing=0.2", "class_weights=balanced"])):
        settings = [word for setting in more for word in ("--set", setting)]
        run("p3d_tiny", "--recipe", "demo/tiny-finetune", "--data", digits_folder / "shards",
            "-o", tmp_path / str(number), *settings)  # fmt: skip
    assert built[0][1:] == (0.0, None)
    dropout, smoothing, weights_K = built[1]
    assert (dropout, smoothing) == (0.3, 0.2)
    assert weights_K.tolist() == [1.0] * 40  # each class has two videos
