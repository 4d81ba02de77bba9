"""Image-video correspondence: do these frames and this clip belong together?

Temporal 3D ConvNets (Diba et al. 2017, arXiv:1711.08200), sections 3.2 and 4.5. A frozen image model
sees the frames, the student sees the clip; their features are concatenated and pass fc 512, fc 128 and a
2-way softmax. Only the student and this head learn.

Beyond the paper: with `pairs="in-batch"` the B clips and B frame sets of a batch make B positives and up
to B(B - 1) negatives. The first layer is linear, so all pairs cost one sum. Positives and negatives weigh
one half each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.transfer.objective import ClipBatch, LossReport
from transfer3d.transfer.teacher import FrozenTeacher


class CorrespondenceConfig(BaseModel):
    """How frames and clips are paired, and the head that judges them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: Literal["in-batch", "one-to-one"] = "in-batch"
    """in-batch: every frame set with every clip; one-to-one: one negative for each positive (the paper)."""
    hidden: tuple[PositiveInt, PositiveInt] = (512, 128)
    """Widths of fc1 and fc2."""


class PairHead(nn.Module):
    """The matching classifier: concatenate -> fc1 -> ReLU -> fc2 -> ReLU -> 2.

    fc1 over a concatenation is the sum of two linear layers, so each feature passes its half only once.
    """

    def __init__(self, frame_features: int, clip_features: int, hidden: tuple[int, int] = (512, 128)) -> None:
        super().__init__()
        self.fc1_frames = nn.Linear(frame_features, hidden[0], bias=False)
        self.fc1_clip = nn.Linear(clip_features, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.classifier = nn.Linear(hidden[1], 2)

    def forward(self, frames_BD: Tensor, clips_BD: Tensor) -> Tensor:
        """Judges every frame set against every clip.

        Args:
            frames_BD: the teacher's features of B frame sets.
            clips_BD: the student's features of B clips.

        Returns:
            Logits, B (frames) x B (clips) x 2; index 1 means that they belong together.
        """
        hidden = self.fc1_frames(frames_BD)[:, None] + self.fc1_clip(clips_BD)[None]
        return self.classifier(functional.relu(self.fc2(functional.relu(hidden))))


class CorrespondenceStudent(nn.Module):
    """What learns: the student and the head, wrapped as one module."""

    def __init__(self, student: VideoStudent, teacher_features: int, config: CorrespondenceConfig) -> None:
        super().__init__()
        self.student = student
        self.head = PairHead(teacher_features, student.num_features, config.hidden)

    def forward(self, clips: Tensor, frames_BD: Tensor) -> Tensor:
        """Returns the logits of all pairs, B x B x 2 (see `PairHead`); clips are normalised floats."""
        features = self.student.forward_features(clips)
        return self.head(frames_BD, self.student.forward_head(features, pre_logits=True))


def correspondence_loss(
    logits_BB2: Tensor, sources: Sequence[str], pairs: Literal["in-batch", "one-to-one"] = "in-batch"
) -> LossReport:
    """Cross-entropy of the matching task, positives and negatives at one half each.

    Args:
        logits_BB2: row = frames, column = clip.
        sources: source video of each item; a pair from one source is no negative.
        pairs: which off-diagonal pairs count; "one-to-one" draws one frame set of another video for each clip
            from torch's generator.

    Where all clips of a batch come from one source there is no negative: the matched half counts alone.
    """
    count, device = len(sources), logits_BB2.device
    ids = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    source_B = torch.tensor([ids[source] for source in sources], device=device)
    different_BB = source_B[:, None] != source_B[None]
    if pairs == "one-to-one":
        different_BB = _one_negative_each(different_BB)
    matched_B2 = logits_BB2.diagonal().T.float()
    matched_loss = functional.cross_entropy(matched_B2, matched_B2.new_ones(count, dtype=torch.long))
    matched = (matched_B2.argmax(1) == 1).float().mean()
    mismatched_M2 = logits_BB2[different_BB].float()
    if len(mismatched_M2) == 0:
        return LossReport(matched_loss / 2, {"loss": matched_loss.detach() / 2, "matched_accuracy": matched})
    zeros_M = mismatched_M2.new_zeros(len(mismatched_M2), dtype=torch.long)
    mismatched_loss = functional.cross_entropy(mismatched_M2, zeros_M)
    total = (matched_loss + mismatched_loss) / 2
    mismatched = (mismatched_M2.argmax(1) == 0).float().mean()
    return LossReport(
        total,
        {
            "loss": total.detach(),
            "matched_accuracy": matched,
            "mismatched_accuracy": mismatched,
            "balanced_accuracy": (matched + mismatched) / 2,
        },
    )


def _one_negative_each(different_BB: Tensor) -> Tensor:
    """Draws, for each clip that has any, one frame set of another video from torch's generator."""
    having_M = different_BB.any(0).nonzero()[:, 0]
    chosen_BB = torch.zeros_like(different_BB)
    if len(having_M):
        drawn_M = torch.multinomial(different_BB.T[having_M].float(), 1)[:, 0]
        chosen_BB[drawn_M, having_M] = True
    return chosen_BB


class Correspondence:
    """The objective of T3D: a student learns to match a frozen teacher's view of the same frames.

    Args:
        teacher: frozen image model, outside of everything that is optimised or saved.
        student: any student; it sees the same pixels as the teacher, normalised its own way.
        config: pairing and head.
        seed: of the head's weights.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        student: VideoStudent,
        config: CorrespondenceConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.config = config or CorrespondenceConfig()
        self.teacher, self.clip = teacher, student.clip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trainable = CorrespondenceStudent(student, teacher.num_features, self.config)

    def loss(self, trainable: nn.Module, batch: ClipBatch) -> LossReport:
        """Returns the matching loss and the matched, mismatched and balanced accuracies (chance: 0.5)."""
        frames_BD = self.teacher(batch.clips_u8)
        logits_BB2 = trainable(normalise(batch.clips_u8, self.clip.mean, self.clip.std), frames_BD)
        return correspondence_loss(logits_BB2, batch.sources, self.config.pairs)
