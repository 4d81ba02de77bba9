"""A student whose class is the brightest colour, and videos of one colour after another."""

import numpy as np
import torch
from torch import nn

from transfer3d.layout import ClipSpec
from transfer3d.models.student import VideoStudent

CLIP = ClipSpec(frames=4, stride=2, size=16, crop=16, mean=(0.0,) * 3, std=(1.0,) * 3)


class Colours(nn.Module):
    """A trunk that sees red, green and blue."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.brightness = nn.Parameter(torch.ones(()))

    def forward(self, clips):
        return self.brightness * clips


def colour_student():
    student = VideoStudent(Colours(), num_classes=3, clip=CLIP, model_name="colours", model_args={})
    student.head.weight.data = 20 * torch.eye(3)
    student.head.bias.data.zero_()
    student.class_names = ["red", "green", "blue"]
    return student.eval()


def coloured(*parts):
    """Frames [N, 32, 48, 3]: (colour, count) one after the other."""
    frames = [np.zeros((count, 32, 48, 3), np.uint8) for _, count in parts]
    for (colour, _), pixels in zip(parts, frames, strict=True):
        pixels[..., colour] = 230
    return np.concatenate(frames)
