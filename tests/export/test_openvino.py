"""OpenVINO in fp32 and int8: the student's answers, what int8 loses, and what is refused."""

import sys

import pytest
import torch
from media import write_numbered

import transfer3d
from transfer3d.errors import SetupError, UsageError
from transfer3d.export.agreement import random_clips
from transfer3d.export.openvino import openvino_runner, write_openvino
from transfer3d.export.quantisation import quantisation_loss
from transfer3d.models.factory import create_model
from transfer3d.models.registry import list_models
from transfer3d.run.checkpoints.export import export_checkpoint
from transfer3d.run.checkpoints.int8 import _evenly_spaced, _splits

NAMES = ["run", "jump", "sit"]


@pytest.fixture
def openvino():
    pytest.importorskip("nncf", reason="the extra `openvino` is not installed")
    return pytest.importorskip("openvino", reason="the extra `openvino` is not installed")


@pytest.fixture
def videos(tmp_path):
    """Six videos of three classes, with a split to test on."""
    for split in ("train", "test"):
        for number, name in enumerate(NAMES):
            write_numbered(tmp_path / "videos" / split / name / "1.mp4", 20 + number)
    return str(tmp_path / "videos")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"end in \.xml"):
        write_openvino(create_model("p3d_tiny"), tmp_path / "m.onnx", {})


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SetupError, match=r"pip install 'transfer3d\[openvino\]'"):
        write_openvino(create_model("p3d_tiny"), tmp_path / "m.xml", {})
    assert not list(tmp_path.iterdir())


def test_int8_is_openvinos(exported, tmp_path):
    with pytest.raises(UsageError, match="--format openvino"):
        export_checkpoint(str(exported / "s.safetensors"), "onnx", tmp_path / "m.onnx", int8="videos")


def test_the_files_give_the_students_answers(openvino, exported, tmp_path):
    checkpoint = str(exported / "s.safetensors")
    done = export_checkpoint(checkpoint, "openvino", tmp_path / "m.xml")
    assert [file.name for file in done.files] == ["m.xml", "m.bin", "preprocess.json"]
    assert done.agreement is not None
    assert done.agreement.difference < 1e-4
    network = openvino.Core().compile_model(tmp_path / "m.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    student = transfer3d.load(checkpoint)
    clips = random_clips(student, batch=5, seed=9)
    with torch.no_grad():
        actual = torch.from_numpy(network({"clips": clips.numpy()})["logits"])
        torch.testing.assert_close(actual, student(clips), rtol=1e-4, atol=1e-4)
    said = openvino.Core().read_model(tmp_path / "m.xml").get_rt_info("transfer3d.model").value
    assert said == "p3d_tiny"
    (tmp_path / "m.xml").unlink()
    with pytest.raises(UsageError, match=r"m\.bin exists"):
        export_checkpoint(checkpoint, "openvino", tmp_path / "m.xml")


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models("*_tiny"))
def test_every_family(openvino, name, tmp_path):
    assert write_openvino(create_model(name, num_classes=3).eval(), tmp_path / "m.xml", {}).difference < 1e-4


@pytest.mark.slow
def test_int8_says_what_it_loses(openvino, exported, videos, tmp_path):
    checkpoint = str(exported / "s.safetensors")
    loss = export_checkpoint(checkpoint, "openvino", tmp_path / "m.xml", int8=videos).int8
    assert loss is not None
    assert (loss.calibration_clips, loss.clips, loss.held_out) == (3, 3, True)
    assert loss.probability < 0.1
    student = transfer3d.load(checkpoint)
    clips = random_clips(student, batch=2)
    with torch.no_grad():
        original = student(clips)
    (quantised,) = openvino_runner(tmp_path / "m.xml")([clips])
    assert not torch.allclose(quantised, original, rtol=1e-4)
    assert 'element_type="i8"' in (tmp_path / "m.xml").read_text()


def test_the_loss_is_counted_over_all_clips():
    student = create_model("p3d_tiny", num_classes=3).eval()
    torch.nn.init.zeros_(student.head.weight)
    student.head.bias.data = torch.tensor([2.0, 1.0, 0.0])  # class 0, whatever it sees
    clips = random_clips(student, batch=2)
    batches = [(clips, torch.tensor([0, 0])), (clips, torch.tensor([1, 0]))]
    answers = iter([torch.tensor([[9.0, 0, 0], [0, 9.0, 0]]), torch.tensor([[0, 9.0, 0], [9.0, 0, 0]])])
    loss = quantisation_loss(student, lambda _: [next(answers)], batches, calibration_clips=7, held_out=True)
    assert (loss.clips, loss.same_class, loss.top1, loss.quantised_top1) == (4, 0.5, 0.75, 0.75)
    assert "calibrated on 7 clips" in str(loss)
    assert "top-1 75.0%, in fp32 75.0% (+0.0 points)" in str(loss)
    unlabelled = [(clips, torch.tensor([-1, -1]))]
    same = quantisation_loss(
        student, lambda _: [student(clips)], unlabelled, calibration_clips=2, held_out=False
    )
    assert (same.same_class, same.probability, same.top1) == (1.0, 0.0, None)
    assert "the calibration clips" in str(same)
    assert "top-1" not in str(same)


def test_of_several_labels_a_video_probabilities_are_compared_one_by_one():
    student = create_model("p3d_tiny", num_classes=2).eval()
    student.multi_label = True
    torch.nn.init.zeros_(student.head.weight)
    batches = [(random_clips(student, batch=1), torch.tensor([0]))]
    student.head.bias.data = torch.zeros(2)  # 1/2 each
    answer = torch.tensor([[0.0, 3.0]]).log()  # 0 and 3/4
    loss = quantisation_loss(student, lambda _: [answer], batches, calibration_clips=1, held_out=True)
    assert loss.probability == pytest.approx((0.5 + 0.25) / 2)
    assert loss.top1 is None


def test_clips_to_calibrate_on_and_to_ask_about(videos, tmp_path):
    student = create_model("p3d_tiny", num_classes=3)
    student.class_names = NAMES[::-1]
    calibration, tested, held_out = _splits(student, videos)
    assert held_out
    assert (len(calibration), len(tested)) == (3, 3)
    assert list(tested.classes) == NAMES[::-1]
    write_numbered(tmp_path / "flat" / "a.mp4", 20)
    write_numbered(tmp_path / "flat" / "b.mp4", 21)
    calibration, tested, held_out = _splits(student, str(tmp_path / "flat"))
    assert not held_out
    assert calibration.keys == tested.keys
    assert len(_evenly_spaced(calibration, 1)) == 1
