"""`transfer3d.evaluate` and `transfer3d.predict` against the bare student, called on each clip by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from moving_noise import wakeful_student, write_noise_videos

import transfer3d
from transfer3d.data.clips import views_of_video
from transfer3d.data.source import open_videos
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan
from transfer3d.engine.config import TrainerConfig
from transfer3d.errors import DataError, UsageError, WeightsError
from transfer3d.evaluation.evaluate import with_student_classes
from transfer3d.evaluation.protocols import named_protocol
from transfer3d.objectives.classification import Classification

LENGTHS = {"a/0": 50, "a/1": 7, "b/0": 33}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_noise_videos(root, LENGTHS)
    return root


@pytest.fixture(scope="module")
def videos(folder):
    return open_videos(folder, split=None, labelled=True)


@torch.no_grad()
def by_hand(student, source, clips):
    """Mean probabilities over evenly spread clips, one clip at a time."""
    views = views_of_video(source, student.clip, ViewPlan(count=clips), name="").clips()
    return torch.stack([student(view[None])[0].softmax(-1) for view in views]).mean(0)


def test_scores_and_metrics_are_those_of_the_bare_student(videos):
    student = wakeful_student("p3d", num_classes=2).train()
    result = transfer3d.evaluate(student, videos, clips=2, precision="fp32")
    assert student.training
    student.eval()
    expected_NK = torch.stack([by_hand(student, videos.open(n), 2) for n in range(3)])
    assert (result.keys, result.scores.dtype) == (videos.keys, torch.float32)
    torch.testing.assert_close(result.scores, expected_NK, atol=1e-5, rtol=1e-4)
    correct = expected_NK.argmax(1) == torch.tensor([0, 0, 1])
    assert result.metrics["video_top1"] == pytest.approx(correct.float().mean().item())
    json.dumps(result.metrics)


def test_a_protocol_is_given_by_name_or_as_an_object(videos):
    student = wakeful_student("p3d", num_classes=2)
    by_name = transfer3d.evaluate(student, videos, protocol="t3d", precision="fp32")
    as_object = transfer3d.evaluate(student, videos, protocol=named_protocol("t3d"), precision="fp32")
    assert torch.equal(by_name.scores, as_object.scores)
    assert by_name.metrics["views"] > 3
    with pytest.raises(UsageError, match="either these or a protocol"):
        transfer3d.evaluate(student, videos, protocol="t3d", clips=2)


class Numbered(VideoSet):
    """A video of each class; folders are sorted as text."""

    def __init__(self, names):
        self.keys = self.classes = sorted(names)
        self.labels = list(range(len(names)))

    def open(self, index):
        raise NotImplementedError


@pytest.mark.parametrize("first", [0, 1, 7])
def test_numbers_of_classes_are_those_of_a_student_without_names(first):
    student = wakeful_student("p3d", num_classes=12)
    videos = with_student_classes(student, Numbered([str(first + n) for n in range(12)]))
    assert [first + label for label in videos.labels] == [int(key) for key in videos.keys]
    assert videos.labels != list(range(12))
    named = Numbered(["10", "9", *"abcdefghij"])
    assert with_student_classes(student, named) is named


def test_a_student_of_other_classes_and_bad_files_are_refused(videos, folder, tmp_path):
    with pytest.raises(WeightsError, match="3 unnamed classes, the videos have 2"):
        transfer3d.evaluate(wakeful_student("p3d", num_classes=3), videos)
    student = wakeful_student("p3d", num_classes=2)
    student.class_names = ["bb", "a"]
    with pytest.raises(DataError, match=r"1 of the videos' 2 classes .* student's 2: b \(did you mean 'bb'"):
        transfer3d.evaluate(student, videos)
    student.class_names = None
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.mp4").write_bytes((folder / "a" / "0.mp4").read_bytes())
    (tmp_path / "bad" / "1.mp4").write_text("no video")
    with pytest.raises(DataError, match="bad/1.mp4"):
        transfer3d.evaluate(student, open_videos(tmp_path, split=None, labelled=True))


def test_classes_are_found_by_name_in_any_order_and_among_more(videos, folder):
    student = wakeful_student("p3d", num_classes=4)
    student.class_names = ["c", "b", "d", "a"]
    result = transfer3d.evaluate(student, videos, precision="fp32")
    best = [student.class_names[k] for k in result.scores.argmax(1).tolist()]
    right = [name == key[0] for name, key in zip(best, result.keys, strict=True)]
    assert result.metrics["video_top1"] == pytest.approx(sum(right) / 3)
    assert result.metrics["per_class"]["c"] is None
    for key in LENGTHS:
        torch.testing.assert_close(
            result.scores[list(result.keys).index(f"{key}.mp4")], by_hand(student, folder / f"{key}.mp4", 1),
            atol=1e-5, rtol=0,
        )  # fmt: skip


def test_predictions_name_the_most_probable_classes(folder, caplog):
    student = wakeful_student("p3d", num_classes=4)
    files = [folder / f"{name}.mp4" for name in ("b/0", "a/0")]
    (folder / "broken.mp4").write_text("no video")
    unnamed = transfer3d.predict(student, [*files, folder / "broken.mp4"], top=2, clips=3, precision="fp32")
    (folder / "broken.mp4").unlink()
    assert "left out" in caplog.text
    assert "broken.mp4" in caplog.text
    student.class_names = ["w", "x", "y", "z"]
    named = transfer3d.predict(student, files, top=9, clips=3, precision="fp32")
    assert [output.path for output in named] == files
    for file, output, first_two in zip(files, named, unnamed, strict=True):
        scores_K = by_hand(student, file, 3).numpy()
        order = np.argsort(-scores_K)
        assert output.classes == ["wxyz"[k] for k in order]
        assert output.probabilities == pytest.approx(scores_K[order].tolist(), abs=1e-5)
        assert first_two.classes == [f"class {k}" for k in order[:2]]
        assert all(isinstance(probability, float) for probability in output.probabilities)


def test_a_checkpoint_brings_its_class_names(folder, tmp_path):
    transfer3d.save(wakeful_student("p3d", num_classes=2), tmp_path / "s.safetensors", class_names=["l", "r"])
    student = transfer3d.load(tmp_path / "s.safetensors")
    (output,) = transfer3d.predict(student, [folder / "a" / "0.mp4"])
    assert set(output.classes) == {"l", "r"}
    transfer3d.save(student, tmp_path / "again.safetensors")
    assert transfer3d.load(tmp_path / "again.safetensors").class_names == ["l", "r"]
    student.reset_classifier(2)
    assert student.class_names is None


def test_no_classifier_no_prediction(folder):
    with pytest.raises(UsageError, match="no classifier"):
        transfer3d.predict(wakeful_student("p3d", num_classes=0), [folder / "a" / "0.mp4"])


TWO_PROCESSES = """
import json, sys
from moving_noise import wakeful_student
import transfer3d
from transfer3d.data.source import open_files, open_videos
from accelerate import PartialState
folder, out = sys.argv[1:]
student = wakeful_student("p3d", num_classes=2)
videos = open_videos(folder, split=None, labelled=True)
result = transfer3d.evaluate(student, videos, clips=2, precision="fp32")
(one,) = transfer3d.predict(student, [folder + "/a/0.mp4"], precision="fp32")  # fewer than processes
answer = [list(result.keys), result.scores.tolist(), result.metrics["scored"], one.classes, one.probabilities]
with open(f"{out}.{PartialState().process_index}", "w") as file:
    json.dump([PartialState().num_processes, answer], file)
"""


@pytest.mark.slow
@pytest.mark.proc
def test_two_processes_share_three_videos_and_both_have_the_whole_result(folder, videos, tmp_path):
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    paths = [str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run(
        [*command, "2", str(tmp_path / "two.py"), str(folder), str(tmp_path / "two")],
        env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads((tmp_path / f"two.{rank}").read_text()) for rank in (0, 1)]
    assert [processes for processes, _ in answers] == [2, 2]
    student = wakeful_student("p3d", num_classes=2)
    alone = transfer3d.evaluate(student, videos, clips=2, precision="fp32")
    (predicted,) = transfer3d.predict(student, [folder / "a" / "0.mp4"], precision="fp32")
    for _, (keys, scores, scored, classes, probabilities) in answers:
        assert (keys, scored) == (list(alone.keys), 3)
        torch.testing.assert_close(torch.tensor(scores), alone.scores)
        assert classes == list(predicted.classes)
        assert probabilities == pytest.approx(list(predicted.probabilities))


def test_training_gives_a_student_the_names_of_its_classes(videos, folder):
    student = wakeful_student("p3d", num_classes=2)
    config = TrainerConfig(steps=1, batch_size=2, lr=0.01, precision="fp32")
    transfer3d.Trainer(Classification(student), videos, config).run()
    (output,) = transfer3d.predict(student, [folder / "a" / "0.mp4"])
    assert set(output.classes) == {"a", "b"}
