"""A loss of my own, trained by the tool's own loop: checkpoints, resume and processes come with it."""

import timm
import torch
import torch.nn.functional as F

import transfer3d
from transfer3d import ClipBatch, FrozenTeacher, LossReport, Trainer, TrainerConfig


class CosineRegression(torch.nn.Module):
    """The student's feature points where the teacher's does."""

    def __init__(self, teacher: FrozenTeacher, student: transfer3d.VideoStudent) -> None:
        super().__init__()
        self.teacher = teacher  # frozen by its type: never optimised, never saved
        self.student = student
        self.project = torch.nn.Linear(student.num_features, teacher.num_features)

    def forward(self, batch: ClipBatch) -> LossReport:
        target = self.teacher(batch.clips).features
        # uint8 goes in: the student knows its own mean and std. It has no classes: features come out.
        prediction = self.project(self.student(batch.clips))
        loss = 1 - F.cosine_similarity(prediction, target).mean()
        return LossReport(loss, {"cosine_loss": loss.detach()})


teacher = FrozenTeacher(timm.create_model("test_resnet"))
student = transfer3d.create_model("p3d_tiny", num_classes=0)
videos = transfer3d.open_videos("digits/shards", split="unlabelled")
trainer = Trainer(
    CosineRegression(teacher, student),
    videos,
    TrainerConfig(steps=6, batch_size=8, lr=0.01),
    output_dir="runs/cosine",
)
print(trainer.run())
transfer3d.save(student, "cosine.safetensors")
assert transfer3d.load("cosine.safetensors").num_features == student.num_features
