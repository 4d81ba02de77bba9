"""The features of every video of a set: each is decoded once, and its clips' features are averaged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch import Tensor

from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan
from transfer3d.engine.distributed import on_main
from transfer3d.evaluation.inference import infer_videos
from transfer3d.insight.features.layers import LayerReader
from transfer3d.insight.features.parts import FeatureParts
from transfer3d.layout import ClipSpec

if TYPE_CHECKING:
    from accelerate import Accelerator

CLIPS = 20
"""Clips per video (P3D, section 5). The paper does not say which; here they are evenly spaced."""
PART_VIDEOS, PART_S = 32, 60.0
"""A part is written after this number of videos of a process, or of seconds."""


def feature_plan(clip: ClipSpec, clips: int = CLIPS) -> ViewPlan:
    """Returns the views whose features are averaged.

    Args:
        clip: the student's input. One view of a video-level family has `clip.units` clips.
        clips: per video.
    """
    return ViewPlan(places="even", count=max(clips // clip.units, 1))


def extract_features(
    reader: LayerReader,
    videos: VideoSet,
    accelerator: Accelerator,
    plan: ViewPlan,
    parts: FeatureParts,
    *,
    clips_per_step: int | None = None,
    workers: int = 0,
    console: Console | None = None,
) -> None:
    """Extracts the features that `parts` does not have yet; each video is processed once.

    Args:
        reader: reader of the student's layers.
        videos: labelled or not.
        accelerator: device, precision, processes.
        plan: the views of a video, whose vectors are averaged.
        parts: the partial features, already claimed.
        clips_per_step: clips in one forward pass, halved whenever memory runs out; None = by size.
        workers: decoding processes.
        console: for progress; None = no progress.

    Raises:
        DataError: a video cannot be decoded.
        UsageError: a layer has no feature maps.
        SetupError: one view does not fit into memory.
        NonFiniteError: a feature is NaN or infinite.
    """
    widths: dict[str, int] = {}

    def compute(clips_u8: Tensor, _most: int) -> Tensor:
        vectors = reader.read(clips_u8)
        widths.update({name: vector_BD.shape[1] for name, vector_BD in vectors.items()})
        return torch.cat(list(vectors.values()), 1)

    outputs = infer_videos(
        reader.student,
        videos,
        compute,
        accelerator,
        title="extracting",
        plan=plan,
        skip=on_main(accelerator, parts.keys),
        clips_per_step=clips_per_step,
        workers=workers,
        console=console,
    )
    pending: dict[str, Tensor] = {}

    def write() -> None:
        layers = torch.stack(list(pending.values())).split(list(widths.values()), 1)
        parts.add(list(pending), dict(zip(widths, layers, strict=True)))
        pending.clear()

    written = time.monotonic()
    for output in outputs:
        pending[output.key] = output.vectors_VD.mean(0)
        if len(pending) >= PART_VIDEOS or time.monotonic() - written > PART_S:
            write()
            written = time.monotonic()
    if pending:
        write()
