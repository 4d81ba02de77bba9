"""The teacher: a network that is frozen by its type."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.image import image_facts, weights_digest
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of B clips.

    Attributes:
        features_BD: float, detached.
        logits_BK: its class scores; None where it has no classes.
    """

    features_BD: Tensor
    logits_BK: Tensor | None


class FrozenTeacher(nn.Module):
    """A network that teaches: a 2D one looks at the frames of a clip one by one (T3D, section 3.2).

    Its parameters need no gradient, `train()` leaves it in eval mode, and its own mean and std are used. One
    that takes a single size of frames, as most ViTs, has them scaled to it.

    Args:
        network: a timm model with `forward_features` and `forward_head`, or a `VideoStudent`, which looks at
            the whole clip.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.of_clips = isinstance(network, VideoStudent)
        if isinstance(network, VideoStudent):
            self.name, self.num_features = network.model_name, network.num_features
            self.mean, self.std, self.num_classes = network.clip.mean, network.clip.std, network.num_classes
            self.size = None
        else:
            facts = image_facts(network)
            self.name, self.num_features = facts.name, facts.num_features
            self.mean, self.std = facts.mean, facts.std
            self.size = facts.size if facts.takes_one_size else None
            self.num_classes = int(getattr(network, "num_classes", 0))
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: BatchNorm statistics must never move."""
        return super().train(False)

    @torch.no_grad()
    def look(self, clips_u8: Tensor) -> Lesson:
        """Averages the pooled features, and the class scores, of all frames of each clip.

        Args:
            clips_u8: uint8, B C T H W or B U C T H W, values 0..255.
        """
        batch, channels = clips_u8.shape[0], clips_u8.shape[-4]
        if self.of_clips:
            seen = normalise(clips_u8, self.mean, self.std)
        else:
            frames_NCHW = clips_u8.movedim(-4, -3).reshape(-1, channels, *clips_u8.shape[-2:])
            seen = self._scaled(normalise(frames_NCHW, self.mean, self.std))
        maps = self.network.forward_features(seen)  # type: ignore[operator]
        features_ND = self.network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        logits_NK = self.network.forward_head(maps) if self.num_classes else None  # type: ignore[operator]

        def mean(each: Tensor) -> Tensor:
            return each.float().reshape(batch, -1, each.shape[-1]).mean(1)

        return Lesson(mean(features_ND), None if logits_NK is None else mean(logits_NK))

    def _scaled(self, frames_NCHW: Tensor) -> Tensor:
        if self.size is not None and frames_NCHW.shape[-2:] != (self.size, self.size):
            frames_NCHW = F.interpolate(frames_NCHW, (self.size, self.size), mode="bilinear", antialias=True)
        return frames_NCHW.contiguous(memory_format=torch.channels_last)

    def forward(self, clips_u8: Tensor) -> Tensor:
        """Returns the features of `look`, B D."""
        return self.look(clips_u8).features_BD

    def check(self, clip: ClipSpec) -> None:
        """Raises UsageError where the network cannot take the frames of such a clip."""
        if isinstance(self.network, VideoStudent) and (self.network.clip.units > 1) != (clip.units > 1):
            raise UsageError(
                f"teacher {self.name} takes clips of {self.network.clip.units} units, the student of "
                f"{clip.units}. Take a student of the teacher's kind, or another teacher.",
            )
        units = (clip.units,) if self.of_clips and clip.units > 1 else ()
        shape = (1, *units, len(clip.mean), clip.frames if self.of_clips else 1, clip.size, clip.size)
        try:
            self(torch.zeros(shape, dtype=torch.uint8, device=next(self.parameters()).device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"teacher {self.name} cannot take frames of {clip.size}x{clip.size} pixels and "
                f"{len(clip.mean)} channels ({str(error).splitlines()[0]}). "
                "Set clip.size, or take another teacher.",
            ) from error

    def identity(self) -> str:
        """Returns the sha256 of all that its lessons follow from: weights, and what it does with pixels."""
        made_of = self.network.model_args if isinstance(self.network, VideoStudent) else {}
        facts = [self.digest(), self.name, self.mean, self.std, made_of]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

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
