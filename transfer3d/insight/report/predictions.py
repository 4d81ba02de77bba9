"""One look at some videos for a report: the centre clip of each gives features and scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from transfer3d.data.clips import views_of_video
from transfer3d.data.pipeline import view_batches
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan
from transfer3d.engine.memory_format import channels_last
from transfer3d.errors import NonFiniteError
from transfer3d.evaluation.micro_batches import MicroBatches, first_size
from transfer3d.evaluation.scores import Scores
from transfer3d.insight.features.file import FeatureMetadata, FeatureSet
from transfer3d.insight.features.layers import POOLED, SCORES, LayerReader
from transfer3d.models.student import UNITS_NDIM, VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.progress import progress


@dataclass(frozen=True)
class CentrePredictions:
    """What a student makes of videos.

    Attributes:
        student: that looked, in eval mode.
        videos: that it looked at.
        features: its pooled features.
        scores: probabilities, one view of each video; None without a classifier.
    """

    student: VideoStudent
    videos: VideoSet
    features: FeatureSet
    scores: Scores | None

    def clip(self, index: int) -> Tensor:
        """Decodes the clip of a video that was looked at, uint8 C T H W or U C T H W."""
        name = self.videos.keys[index]
        return views_of_video(self.videos.open(index), self.student.clip, ViewPlan(), name=name).clips()[0]

    def frames(self, index: int) -> Tensor:
        """Returns the same as one row of frames, uint8 C T H W; those of several units follow one another."""
        clip = self.clip(index)
        return clip.transpose(0, 1).flatten(1, 2) if clip.ndim == UNITS_NDIM - 1 else clip


@torch.no_grad()
def predict_centre_clips(
    student: VideoStudent,
    videos: VideoSet,
    facts: FeatureMetadata,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    console: Console,
) -> CentrePredictions:
    """Looks at the centre of every video, in this process.

    Args:
        student: put in eval mode.
        videos: labelled or not.
        facts: of checkpoint and data.
        accelerator: device and precision.
        workers: decoding processes.
        console: for progress.

    Raises:
        DataError: a video cannot be decoded.
        SetupError: one view does not fit into memory.
        NonFiniteError: a feature is NaN or infinite.
    """
    channels_last(student.eval().to(accelerator.device))
    names = [POOLED, SCORES] if student.num_classes else [POOLED]
    reader = LayerReader(student, names)

    def forward(clips_u8: Tensor, most: int) -> Tensor:
        clips = normalise(clips_u8.to(accelerator.device), student.clip.mean, student.clip.std)
        with accelerator.autocast():
            vectors = reader.read(clips)
        return torch.cat([vectors[name] for name in names], 1)

    size, units = first_size(student.clip, accelerator.device), student.clip.units
    micro = MicroBatches(forward, size, clips_of_a_view=units, divisible=False)
    rows: list[Tensor] = []
    with progress("looking at videos", len(videos), console=console) as bar:
        for batch in view_batches(videos, student.clip, batch_size=max(size // units, 1), workers=workers):
            rows.append(micro.scores(batch.views))
            bar.update(len(batch.keys))
    both = torch.cat(rows)
    pooled_ND, scores_NK = both.tensor_split([both.shape[1] - student.num_classes], dim=1)
    if not pooled_ND.isfinite().all():
        raise NonFiniteError(f"{student.model_name}: its features are not finite. Use --precision fp32.")
    features = FeatureSet(
        keys=videos.keys,
        label_sets=videos.label_sets,
        sources=videos.sources,
        classes=videos.classes,
        layers={POOLED: pooled_ND},
        metadata=facts,
    )
    scores = None
    if student.num_classes:
        scores = Scores(list(videos.keys), list(videos.label_sets), list(scores_NK.split(1)))
    return CentrePredictions(student, videos, features, scores)
