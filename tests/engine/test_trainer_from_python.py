"""The trainer as a library: videos in, a run folder out; resumed, refused, bit-equal after a break."""

import json
import os
import subprocess
import sys
from itertools import islice

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import transfer3d
from transfer3d.data.source import open_videos
from transfer3d.engine.run_folder import FINISHED, sha256_file
from transfer3d.engine.trainer import step_seed
from transfer3d.weights.metadata import read_metadata


@pytest.fixture
def videos(digits_folder):
    return open_videos(digits_folder / "shards", split="train", labelled=True)


def trainer(videos, folder=None, *, steps=4, resume=False, **settings):
    student = transfer3d.create_model("p3d_tiny", num_classes=len(videos.classes), drop_rate=0.5)
    config = {"batch_size": 8, "lr": 0.05, "workers": 0, "precision": "fp32", "log_every": 1, "save_every": 2}
    return transfer3d.Trainer(
        transfer3d.Classification(student),
        videos,
        transfer3d.TrainerConfig(steps=steps, **{**config, **settings}),
        output_dir=folder,
        resume=resume,
    )


def interrupted_after_its_checkpoint(run):
    step = run._train_step

    def train_step(batch):
        if run.step == 3:
            raise KeyboardInterrupt
        return step(batch)

    run._train_step = train_step
    with pytest.raises(KeyboardInterrupt):
        run.run()


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_run_leaves_log_checkpoints_and_a_student_that_says_what_it_is(videos, tmp_path):
    metrics = trainer(videos, tmp_path / "run").run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] == metrics["loss"]
    assert (tmp_path / "run" / "checkpoints" / "step-4").is_dir()
    metadata = read_metadata(tmp_path / "run" / "model.safetensors")
    assert metadata.class_names == list(videos.classes)
    assert metadata.provenance["data_digest"] == videos.digest
    with pytest.raises(transfer3d.UsageError, match="holds a finished run"):
        trainer(videos, tmp_path / "run")


def test_a_resumed_run_ends_with_the_same_bits(videos, tmp_path):
    trainer(videos, tmp_path / "whole").run()
    interrupted_after_its_checkpoint(trainer(videos, tmp_path / "run"))
    with pytest.raises(transfer3d.UsageError, match="unfinished run"):
        trainer(videos, tmp_path / "run")
    with pytest.raises(transfer3d.UsageError, match="lr=0.05") as refused:
        trainer(videos, tmp_path / "run", resume=True, lr=0.01)
    assert refused.tb  # as a notebook keeps it, with the refused trainer and its folder
    again = trainer(videos, tmp_path / "run", resume=True, log_every=2)
    assert again.step == 2
    again.run()
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_state_of_version_0_1_is_resumed(videos, tmp_path):
    """Its classification objective was the student itself, so that names lack `student.`."""
    trainer(videos, tmp_path / "whole").run()
    interrupted_after_its_checkpoint(trainer(videos, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "checkpoints" / "step-2"
    tensors = load_file(checkpoint / "state.safetensors")
    old = {name.replace("model.student.", "model."): tensor for name, tensor in tensors.items()}
    assert old.keys() != tensors.keys()
    save_file(old, checkpoint / "state.safetensors")
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    file = checkpoint / "state.safetensors"
    manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
    trainer(videos, tmp_path / "run", resume=True).run()
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_data_that_end_early_do_not_make_a_finished_run(videos, tmp_path):
    run = trainer(videos, tmp_path / "run")
    batches = run.batches
    run.batches = lambda first: islice(batches(first), 3)
    with pytest.raises(transfer3d.UsageError, match="the data ended after step 3 of 4"):
        run.run()
    assert not (tmp_path / "run" / FINISHED).exists()
    again = trainer(videos, tmp_path / "run", resume=True)
    assert again.step == 2
    assert again.run()["loss"] > 0


def test_a_student_that_learns_a_teachers_classes_does_not_get_the_names_of_the_videos(videos):
    from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
    from transfer3d.objectives.teacher import FrozenTeacher

    count = len(videos.classes)
    teacher = FrozenTeacher(timm.create_model("test_resnet", num_classes=count))
    student = transfer3d.create_model("p3d_tiny", num_classes=count)
    before = student.class_names
    config = transfer3d.TrainerConfig(steps=1, lr=0.1, batch_size=2)
    transfer3d.Trainer(Correspondence(teacher, student, CorrespondenceConfig(kd=1.0)), videos, config)
    assert student.class_names == before != list(videos.classes)
    transfer3d.Trainer(transfer3d.Classification(student), videos, config)
    assert student.class_names == list(videos.classes)


def test_nothing_is_written_without_a_folder(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert trainer(videos, steps=1).run()["loss"] > 0
    assert not list(tmp_path.iterdir())


def test_a_rate_for_a_batch_size_needs_the_batch_size():
    with pytest.raises(ValidationError, match="set batch_size"):
        transfer3d.TrainerConfig(steps=1, lr=0.1, lr_base_batch=256)
    assert transfer3d.TrainerConfig(steps=1, lr=0.1, lr_base_batch=256, batch_size=64).lr_factor == 0.25


def test_videos_need_a_batch_size_that_divides(videos):
    with pytest.raises(transfer3d.UsageError, match="no batch_size"):
        trainer(videos, batch_size=None)
    with pytest.raises(transfer3d.UsageError, match="accumulate=3"):
        trainer(videos, accumulate=3)


def test_an_objective_without_a_student_says_what_is_missing(videos):
    with pytest.raises(transfer3d.UsageError, match="student"):
        transfer3d.Trainer(
            torch.nn.Linear(2, 2), videos, transfer3d.TrainerConfig(steps=1, lr=0.1, batch_size=2)
        )


@pytest.mark.slow
@pytest.mark.slow
def test_the_seed_of_a_step_is_its_own_and_the_same_in_every_interpreter():
    cells = [(seed, step, rank) for seed in (0, 7) for step in range(50) for rank in range(4)]
    seeds = {step_seed(*cell) for cell in cells}
    assert len(seeds) == len(cells)
    assert all(0 <= seed < 2**63 for seed in seeds)
    code = "from transfer3d.engine.trainer import step_seed; print(step_seed(7, 3, 1))"
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert int(said.stdout) == step_seed(7, 3, 1), said.stderr
