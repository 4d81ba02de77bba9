"""A step of correspondence as it is written from the paper: fp32, a pass for each set of pairs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _scaled(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    shape = (1, -1) + (1,) * (pixels.ndim - 2)
    low, high = (torch.tensor(values, device=pixels.device).view(shape) for values in (mean, std))
    return (pixels.float() / 255 - low) / high


class PlainCorrespondence:
    """The teacher and the student see the matched pairs, then the mismatched ones."""

    def __init__(self, teacher: nn.Module, student: nn.Module, features: tuple[int, int]) -> None:
        self.teacher, self.student = teacher.eval().requires_grad_(False), student.train()
        self.head = nn.Sequential(
            nn.Linear(sum(features), 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 2)
        )
        self.parameters = [*student.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-3, momentum=0.9, nesterov=True)

    def _pairs(self, frames: Tensor, clips: Tensor) -> Tensor:
        count, _, length = frames.shape[:3]
        with torch.no_grad():
            maps = self.teacher.forward_features(frames.transpose(1, 2).flatten(0, 1))  # type: ignore[operator]
            pooled = self.teacher.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        of_frames = pooled.view(count, length, -1).mean(1)
        return self.head(torch.cat([of_frames, self.student(clips)], 1))

    def step(self, clips_u8: Tensor, frames: tuple, clips: tuple) -> None:
        """One step on B clips: B matched pairs, and each clip with the frames of its neighbour.

        Args:
            clips_u8: B C T H W.
            frames: the teacher's mean and std.
            clips: the student's mean and std.
        """
        seen, shown = _scaled(clips_u8, *clips), _scaled(clips_u8, *frames)
        matched = self._pairs(shown, seen)
        mismatched = self._pairs(shown.roll(1, 0), seen)
        ones = torch.ones(len(clips_u8), dtype=torch.long, device=clips_u8.device)
        loss = (F.cross_entropy(matched, ones) + F.cross_entropy(mismatched, 0 * ones)) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
