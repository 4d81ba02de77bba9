"""Videos of moving noise, and small students that look at them: a wrong frame or crop changes the answer."""

import numpy as np
import torch
from media import encode

from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model

FPS = 10


def noise_video(frames, seed=0):
    """Returns the bytes of a video of 40x60 pixels."""
    picture = np.random.default_rng(seed).integers(0, 256, (10, 200, 3), np.uint8).repeat(4, 0)
    return encode(np.stack([np.roll(picture, 5 * number, 1)[:, :60] for number in range(frames)]), fps=FPS)


def write_noise_videos(root, lengths):
    """Writes videos by their names and numbers of frames, each with a picture of its own."""
    for seed, (name, frames) in enumerate(lengths.items()):
        path = root / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise_video(frames, seed))


def wakeful_student(family, *, num_classes=2, **clip):
    """Returns a tiny student, in eval mode, that looks at its input: no zero branch, and a large head."""
    student = create_model(f"{family}_tiny", num_classes=num_classes, seed=1)
    student.clip = ClipSpec.from_dict({**student.clip.to_dict(), "size": 32, "crop": 40, **clip})
    generator = torch.Generator().manual_seed(0)
    for name, parameter in student.named_parameters():
        if name.endswith("scale") or name.startswith("head"):
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return student.eval()
