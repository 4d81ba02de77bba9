"""The heads between a student's features and a teacher's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

EMBEDDING = 128


class PairHead(nn.Module):
    """The matching classifier of T3D section 3.2: concatenate -> fc1 -> ReLU -> fc2 -> ReLU -> 2.

    fc1 of a concatenation is the sum of two linear layers, so each feature passes through its half once.

    Args:
        frame_features: size of the teacher's features.
        clip_features: size of the student's.
        hidden: widths of fc1 and fc2.
        standardise: first standardise both features by BatchNorm without affine parameters. A teacher with
            random weights has nearly equal features for all frames, which would slow the head's learning.
    """

    def __init__(
        self,
        frame_features: int,
        clip_features: int,
        hidden: tuple[int, int] = (512, 128),
        *,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.standard_frames = nn.BatchNorm1d(frame_features, affine=False) if standardise else nn.Identity()
        self.standard_clips = nn.BatchNorm1d(clip_features, affine=False) if standardise else nn.Identity()
        self.fc1_frames = nn.Linear(frame_features, hidden[0], bias=False)
        self.fc1_clip = nn.Linear(clip_features, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.classifier = nn.Linear(hidden[1], 2)

    def forward(self, frames_MD: Tensor, clips_BD: Tensor) -> Tensor:
        """Compares every frame set with every clip.

        Args:
            frames_MD: the teacher's features of M frame sets.
            clips_BD: the student's features of B clips.

        Returns:
            Logits, M (frames) x B (clips) x 2; index 1 = they match.
        """
        frames_MD, clips_BD = self.standard_frames(frames_MD), self.standard_clips(clips_BD)
        hidden = self.fc1_frames(frames_MD)[:, None] + self.fc1_clip(clips_BD)[None]
        return self.classifier(functional.relu(self.fc2(functional.relu(hidden))))


class SimilarityHead(nn.Module):
    """The cosine similarity of every frame set with every clip, after a projection of both."""

    def __init__(self, frame_features: int, clip_features: int) -> None:
        super().__init__()
        self.frames = nn.Linear(frame_features, EMBEDDING)
        self.clips = nn.Linear(clip_features, EMBEDDING)

    def forward(self, frames_MD: Tensor, clips_BD: Tensor) -> Tensor:
        """Returns M (frames) x B (clips), -1..1."""
        frames_ME = functional.normalize(self.frames(frames_MD), dim=1)
        return frames_ME @ functional.normalize(self.clips(clips_BD), dim=1).T


class FeatureHead(nn.Module):
    """Linear regression from the student's feature onto the teacher's standardised feature.

    Through standardisation by BatchNorm every dimension has the same weight, and predicting the mean has an
    error of 1. The projection is always needed: pooled features after a ReLU are never negative.
    """

    def __init__(self, frame_features: int, clip_features: int) -> None:
        super().__init__()
        self.standard = nn.BatchNorm1d(frame_features, affine=False)
        self.guess = nn.Linear(clip_features, frame_features)

    def forward(self, frames_BD: Tensor, clips_BD: Tensor) -> Tensor:
        """Returns the mean squared error, a scalar."""
        return functional.mse_loss(self.guess(clips_BD).float(), self.standard(frames_BD.float()))
