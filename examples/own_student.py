"""Any module as a student: taught without labels, then fine-tuned, saved, and loaded again."""

import timm
import torch
from torch import nn

import transfer3d
from transfer3d import ClipSpec, Correspondence, FrozenTeacher, Trainer, TrainerConfig


@transfer3d.register_model("tiny_c3d", clip=ClipSpec(frames=8, stride=1, size=32))
class TinyC3D(nn.Module):
    """What a student must have: num_features, and feature maps B D T' H' W' from clips B C T H W."""

    num_features = 32

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(in_chans, 16, 3, 2, 1), nn.ReLU(), nn.Conv3d(16, 32, 3, 2, 1), nn.ReLU()
        )

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.layers(clips)


assert "tiny_c3d" in transfer3d.list_models()
student = transfer3d.create_model("tiny_c3d", num_classes=0)
teacher = FrozenTeacher(timm.create_model("test_resnet"))
unlabelled = transfer3d.open_videos("digits/shards", split="unlabelled")
Trainer(Correspondence(teacher, student), unlabelled, TrainerConfig(steps=6, batch_size=8, lr=0.01)).run()

train = transfer3d.open_videos("digits/shards", split="train")
student.reset_classifier(len(train.classes))
Trainer(transfer3d.Classification(student), train, TrainerConfig(steps=6, batch_size=8, lr=0.01)).run()
transfer3d.save(student, "tiny_c3d.safetensors", class_names=train.classes)
again = transfer3d.load("tiny_c3d.safetensors")
clips = torch.randn(2, 3, 8, 32, 32)
assert torch.equal(again.eval()(clips), student.eval()(clips))
