"""The teacher: an image model that is frozen by its type."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.image import image_facts, weights_digest
from transfer3d.nn.pixels import normalise


class FrozenTeacher(nn.Module):
    """A 2D network that looks at the frames of a clip one by one (T3D, section 3.2).

    Its parameters need no gradient, `train()` leaves it in eval mode, and its own mean and std are used.

    Args:
        network: a timm model with `forward_features` and `forward_head`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        facts = image_facts(network)
        self.name, self.num_features = facts.name, facts.num_features
        self.facts = facts
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: BatchNorm statistics must never move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, clips_u8: Tensor) -> Tensor:
        """Averages the pooled features of all frames of each clip.

        Args:
            clips_u8: uint8, B C T H W or B U C T H W, values 0..255.

        Returns:
            Float features, B D, detached.
        """
        batch, channels = clips_u8.shape[0], clips_u8.shape[-4]
        frames_NCHW = clips_u8.movedim(-4, -3).reshape(-1, channels, *clips_u8.shape[-2:])
        frames_NCHW = normalise(frames_NCHW, self.facts.mean, self.facts.std)
        frames_NCHW = frames_NCHW.contiguous(memory_format=torch.channels_last)
        features = self.network.forward_features(frames_NCHW)  # type: ignore[operator]
        pooled_ND = self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled_ND.float().reshape(batch, -1, pooled_ND.shape[-1]).mean(1)

    def check(self, clip: ClipSpec) -> None:
        """Raises UsageError where the network cannot take the frames of such a clip."""
        shape = (1, len(clip.mean), 1, clip.size, clip.size)
        try:
            self(torch.zeros(shape, dtype=torch.uint8, device=next(self.parameters()).device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UsageError(
                "E220",
                f"teacher {self.name} cannot take frames of {clip.size}x{clip.size} pixels and {shape[1]} "
                f"channels ({str(error).splitlines()[0]}). Set clip.size, or take another teacher.",
            ) from error

    def digest(self) -> str:
        """Returns the sha256 of the weights and buffers: equal before and after any training."""
        return weights_digest(self.network)


def paired_student(teacher: str, known: list[str]) -> str:
    """Names the student that goes with a timm teacher when none was chosen.

    densenet121 -> t3d_densenet121, resnet50 -> p3d_resnet50; otherwise the tiny student of its kind.

    Args:
        teacher: timm model name, a pretrained tag allowed.
        known: names of the registered students.
    """
    base = teacher.split(".")[0]
    family = "t3d" if "densenet" in base else "p3d"
    paired = f"{family}_{base}"
    return paired if paired in known else f"{family}_tiny"
