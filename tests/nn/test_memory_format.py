"""Modules compute in channels-last layout, and are given back as they were."""

import torch

import transfer3d
from transfer3d.data.source import open_videos
from transfer3d.models.factory import create_model
from transfer3d.nn.memory_format import channels_last

LAST = torch.channels_last_3d


def layouts(module):
    kernels = [p for p in module.parameters() if p.ndim == 5 and p[0, 0].numel() > 1]
    assert kernels
    return {(p.is_contiguous(), p.is_contiguous(memory_format=LAST)) for p in kernels}


def test_the_layout_lasts_as_long_as_the_context():
    student = create_model("p3d_tiny", num_classes=0)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert (True, False) in layouts(student)
    with channels_last(student):
        assert all(last for _, last in layouts(student))
        with channels_last(student):
            pass
        assert all(last for _, last in layouts(student))  # the inner one changed nothing
    assert all(plain for plain, _ in layouts(student))
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_a_trained_and_tested_student_answers_as_its_file_does(digits_folder, tmp_path):
    videos = open_videos(digits_folder, split="train", labelled=True)
    student = create_model("p3d_tiny", num_classes=len(videos.classes))
    config = transfer3d.TrainerConfig(steps=2, batch_size=8, lr=0.01, workers=0, precision="fp32")
    transfer3d.Trainer(transfer3d.Classification(student), videos, config).run()
    transfer3d.evaluate(student, videos, precision="fp32")
    transfer3d.save(student, tmp_path / "student.safetensors")
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        again = transfer3d.load(tmp_path / "student.safetensors")(clips)
        assert not student.training
        assert torch.equal(again, student(clips))
