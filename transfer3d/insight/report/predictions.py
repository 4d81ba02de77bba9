"""Features and scores of the centre clip of each video, for reports."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from transfer3d.data.clips import views_of_video
from transfer3d.data.decoder import Decoder
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan
from transfer3d.evaluation.inference import infer_videos
from transfer3d.evaluation.scores import Scores
from transfer3d.insight.features.file import FeatureMetadata, FeatureSet
from transfer3d.insight.features.layers import POOLED, SCORES, LayerReader
from transfer3d.models.student import UNITS_NDIM, VideoStudent


@dataclass(frozen=True)
class CentrePredictions:
    """A student's features and scores for the centre clip of each video.

    Attributes:
        student: in eval mode.
        videos: labelled or not.
        features: pooled features of the videos.
        scores: probabilities, one view of each video; None without a classifier.
    """

    student: VideoStudent
    videos: VideoSet
    features: FeatureSet
    scores: Scores | None
    _decoder: Decoder = field(default_factory=Decoder, repr=False, compare=False)

    def clip(self, index: int) -> Tensor:
        """Decodes the centre clip of a video, uint8 C T H W or U C T H W."""
        return views_of_video(
            self.videos.open(index),
            self.student.clip,
            ViewPlan(),
            name=self.videos.keys[index],
            open_video=self._decoder.open,
        ).clips()[0]

    def frames(self, index: int) -> Tensor:
        """Returns the centre clip as one row of frames, uint8 C T H W; units are concatenated."""
        clip = self.clip(index)
        return clip.transpose(0, 1).flatten(1, 2) if clip.ndim == UNITS_NDIM - 1 else clip


@torch.no_grad()
def predict_centre_clips(
    student: VideoStudent,
    videos: VideoSet,
    metadata: FeatureMetadata,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    console: Console,
) -> CentrePredictions:
    """Computes features and scores of the centre clip of every video, in this process.

    Args:
        student: put in eval mode.
        videos: labelled or not.
        metadata: metadata of the checkpoint and the data.
        accelerator: device and precision.
        workers: decoding processes.
        console: for progress.

    Raises:
        DataError: a video cannot be decoded.
        SetupError: one view does not fit into memory.
        NonFiniteError: a feature is NaN or infinite.
    """
    names = [POOLED, SCORES] if student.num_classes else [POOLED]
    reader = LayerReader(student, names)

    def compute(clips_u8: Tensor, _most: int) -> Tensor:
        vectors = reader.read(clips_u8)
        return torch.cat([vectors[name] for name in names], 1)

    outputs = infer_videos(
        student.eval(),
        videos,
        compute,
        accelerator,
        title="evaluating videos",
        workers=workers,
        console=console,
    )
    vectors_ND = torch.cat([output.vectors_VD for output in outputs])
    pooled_ND, scores_NK = vectors_ND.tensor_split([vectors_ND.shape[1] - student.num_classes], dim=1)
    features = FeatureSet.of(videos, {POOLED: pooled_ND}, metadata)
    scores = None
    if student.num_classes:
        scores = Scores(
            list(videos.keys),
            list(videos.label_sets),
            list(scores_NK.split(1)),
            multi_label=student.multi_label,
        )
    return CentrePredictions(student, videos, features, scores)
