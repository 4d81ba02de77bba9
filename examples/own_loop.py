"""Correspondence in a loop of my own: a torch DataLoader, accelerate, nothing else of the tool's engine."""

import timm
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

import transfer3d
from transfer3d.data import VideoDataset, collate_clips

student = transfer3d.create_model("p3d_tiny", num_classes=0)
objective = transfer3d.Correspondence(transfer3d.FrozenTeacher(timm.create_model("test_resnet")), student)
# A map-style torch Dataset.
dataset = VideoDataset("digits/videos/unlabelled", clip=student.clip, training=True)
loader = DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=collate_clips, drop_last=True)

accelerator = Accelerator()
optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)  # the frozen teacher's are not among them
objective, optimizer, loader = accelerator.prepare(objective, optimizer, loader)
for batch in loader:
    report = objective(batch)  # negatives come from all processes
    accelerator.backward(report.total)
    optimizer.step()
    optimizer.zero_grad()
print({name: round(float(value), 3) for name, value in report.parts.items()})
