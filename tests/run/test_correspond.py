"""`transfer3d correspond`: its options reach what learns; what it says at its end, and what it refuses."""

import json
import re

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.models.measure import count_gmac
from transfer3d.objectives import correspondence
from transfer3d.objectives.correspondence import Correspondence
from transfer3d.recipes.load import load_recipe
from transfer3d.run.training import correspond
from transfer3d.run.training.paired_student import with_paired_student
from transfer3d.run.training.students import build_student
from transfer3d.weights.metadata import read_metadata

CLIPS = 8
TEACHER = ["--teacher", "test_resnet", "--weights", "none"]
TINY = ["--recipe", "demo/tiny-correspond", "--workers", "0"]
STEPS = ["--set", "max_steps=3", "--set", f"batch_size={CLIPS}", "--set", "log_every=1"]


@pytest.fixture
def data(digits_folder):
    return digits_folder / "shards"


def run(data, out, *arguments, teacher=TEACHER):
    command = ["correspond", *teacher, *TINY, *STEPS, "--data", data, "-o", out, *arguments]
    return CliRunner().invoke(app, [str(word) for word in command])


def setting(*pairs):
    return [word for pair in pairs for word in ("--set", f"correspondence.{pair}")]


@pytest.mark.parametrize("pairs", ["one-to-one", "hard"])
def test_pairs_are_chosen_as_asked(data, tmp_path, monkeypatch, pairs):
    asked, choose = [], correspondence.choose_negatives

    def noted(different_BB, belief_BB, pairs):
        asked.append(pairs)
        return choose(different_BB, belief_BB, pairs)

    monkeypatch.setattr(correspondence, "choose_negatives", noted)
    done = run(data, tmp_path / "run", "--pairs", pairs)
    assert done.exit_code == 0, done.output
    assert len(asked) >= 3
    assert set(asked) == {pairs}


@pytest.mark.parametrize("view", ["same", "independent", "centre"])
def test_the_teacher_is_shown_the_view_that_was_asked_for(data, tmp_path, monkeypatch, view):
    batches, embed = [], Correspondence.embed

    def noted(self, batch):
        if len(batch) == CLIPS:  # not those that memory is planned with
            batches.append(batch)
        return embed(self, batch)

    monkeypatch.setattr(Correspondence, "embed", noted)
    assert run(data, tmp_path / "run", *setting(f"teacher_view={view}")).exit_code == 0
    assert len(batches) == 3
    for batch in batches:
        assert (batch.teacher_clips is None) == (view == "same")
        assert (batch.teacher_view_keys is None) == (view != "centre")
        assert view == "same" or not torch.equal(batch.teacher_clips, batch.clips)


def test_a_later_run_asks_the_teacher_for_nothing_and_another_crop_for_all(data, tmp_path):
    kept = setting("teacher_view=centre", f"cache={tmp_path / 'teacher'}")
    said = [
        re.search(r"the teacher ran on (\d+) of (\d+) clips", run(data, tmp_path / name, *kept, *more).output)
        for name, more in {"first": (), "again": (), "other": ("--set", "clip.size=24")}.items()
    ]
    assert [tuple(map(int, found.groups())) for found in said if found] == [(24, 24), (0, 24), (24, 24)]


def test_teacher_outputs_of_an_interrupted_run_are_kept(data, tmp_path, monkeypatch):
    compare, count = Correspondence.compare, []

    def ends(self, embeddings):
        count.extend([1] * (len(embeddings.sources) == CLIPS))
        if len(count) == 2:
            raise RuntimeError("ended")
        return compare(self, embeddings)

    monkeypatch.setattr(Correspondence, "compare", ends)
    run(data, tmp_path / "run", *setting("teacher_view=centre", f"cache={tmp_path / 'teacher'}"))
    monkeypatch.undo()
    done = run(data, tmp_path / "again", *setting("teacher_view=centre", f"cache={tmp_path / 'teacher'}"))
    assert "the teacher ran on 8 of 24 clips" in done.output


def test_a_cache_that_cannot_be_written_is_refused_before_the_work(data, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(data, tmp_path / "run", *setting("teacher_view=centre", f"cache={tmp_path / 'file'}"))
    assert done.exit_code == 5, done.output
    assert "cannot be written" in done.output
    assert not list(tmp_path.glob("run/*.safetensors"))


def test_what_went_wrong_is_said_at_the_end_and_on_the_page(data, tmp_path):
    done = run(data, tmp_path / "run", "--set", "lr=1e-9")
    assert done.exit_code == 0, done.output
    said = "the matching task is at chance"
    assert f"warning: {said}" in done.output
    assert f"Warning: {said}" in (tmp_path / "run" / "report.html").read_text()


def test_a_teacher_that_has_changed_is_a_bug_and_no_student(data, tmp_path, monkeypatch):
    embed = Correspondence.embed

    def spoils(self, batch):
        next(self.teacher.network.buffers()).add_(1e-3)
        return embed(self, batch)

    monkeypatch.setattr(Correspondence, "embed", spoils)
    done = run(data, tmp_path / "run")
    assert done.exit_code == 1
    assert "the frozen teacher's weights have changed" in done.output


def test_kd_hands_the_teachers_classes_on_and_refuses_others(data, tmp_path):
    names = [f"class {number}" for number in range(3)]
    elder, other = tmp_path / "elder.safetensors", tmp_path / "other.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=3), elder, class_names=names)
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=3), other, class_names=names[::-1])
    arguments = ["--student", "t3d_tiny", *setting("kd=1", "match=0")]
    done = run(data, tmp_path / "run", *arguments, teacher=["--teacher", elder])
    assert done.exit_code == 0, done.output
    assert f"teacher {elder} (weights: its own)" in done.output
    facts = read_metadata(tmp_path / "run" / "model.safetensors")
    assert facts.class_names == names
    assert facts.provenance["teacher"]["weights"] == "its own"
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] > 0
    assert "balanced_accuracy" not in last
    arguments = ["--student", other, *setting("kd=1")]
    refused = run(data, tmp_path / "no", *arguments, teacher=["--teacher", elder])
    assert refused.exit_code == 2
    assert "have different classes" in refused.output


@pytest.mark.parametrize(
    ("teacher", "student", "said"),
    [
        ("v4d_tiny", "p3d_tiny", "teacher v4d_tiny takes clips of 4 units, the student of 1"),
        ("p3d_tiny", "v4d_tiny", "teacher p3d_tiny takes clips of 1 units, the student of 4"),
    ],
)  # fmt: skip
def test_a_video_teacher_that_sees_other_clips_than_the_student_is_named(
    data, tmp_path, teacher, student, said
):
    elder = tmp_path / "elder.safetensors"
    transfer3d.save(transfer3d.create_model(teacher, num_classes=0), elder)
    done = run(data, tmp_path / "run", "--student", student, teacher=["--teacher", elder])
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_weights_are_not_for_a_teacher_that_is_a_checkpoint(data, tmp_path):
    elder = tmp_path / "elder.safetensors"
    transfer3d.save(transfer3d.create_model("p3d_tiny", num_classes=0), elder)
    done = run(
        data, tmp_path / "run", "--student", "p3d_tiny", teacher=["--teacher", elder, "--weights", "none"]
    )
    assert done.exit_code == 2
    assert "has its own weights: leave --weights out" in done.output


def test_without_data_it_says_what_this_is_and_where_the_papers_recipe_is(data, tmp_path, monkeypatch):
    monkeypatch.setattr(correspond, "data_folder", lambda session: str(data))
    words = [
        "correspond",
        *TEACHER,
        "--student",
        "p3d_tiny",
        "--workers",
        "0",
        "--steps",
        "1",
        "--batch-size",
        "2",
    ]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "within 10 minutes on two cores" in done.stderr
    assert "--recipe t3d/sec4.4-supervision-transfer" in done.stderr
    assert "of computing" in done.stderr


@pytest.mark.parametrize("teacher", ["densenet121", "resnet50"])
def test_the_rehearsal_without_data_is_ten_minutes_of_two_cores(teacher):
    """A core computes about 19 GMAC a second in these small layers; ten minutes of two are 22800."""
    recipe = with_paired_student(load_recipe("demo/correspond", teacher=teacher))
    with torch.device("meta"):
        student = build_student(recipe, num_classes=0)
        image = timm.create_model(teacher, num_classes=0)
    frames = torch.empty(student.clip.frames, 3, student.clip.size, student.clip.size, device="meta")
    with FlopCounterMode(display=False) as counter:
        image(frames)
    a_clip = 3 * count_gmac(student) + counter.get_total_flops() / 2e9
    assert 1000 < a_clip * recipe.batch_size * recipe.max_steps < 12_000
