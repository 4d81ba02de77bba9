"""What a student makes of every video of a set: each is decoded once, its clips are averaged."""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from transfer3d.data.pipeline import view_batches
from transfer3d.data.subset import Subset
from transfer3d.data.videoset import VideoSet
from transfer3d.data.views import ViewPlan, Views
from transfer3d.engine.distributed import on_main
from transfer3d.engine.memory_format import channels_last
from transfer3d.errors import NonFiniteError
from transfer3d.evaluation.micro_batches import MicroBatches, first_size
from transfer3d.insight.features.layers import LayerReader
from transfer3d.insight.features.parts import FeatureParts
from transfer3d.layout import ClipSpec
from transfer3d.nn.pixels import normalise
from transfer3d.progress import progress

CLIPS = 20
"""Of each video: P3D, section 5. The paper does not say where they lie: here they are spread evenly."""
PART_VIDEOS, PART_S = 32, 60.0
"""A part is written after so many videos of a process, or after so many seconds."""


def feature_plan(clip: ClipSpec, clips: int = CLIPS) -> ViewPlan:
    """Returns the views whose features are averaged.

    Args:
        clip: what the student wants. One view of a video-level family has `clip.units` clips.
        clips: of each video.
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
    """Fills `parts` with what it lacks of the videos, each by one process.

    Args:
        reader: of the student's layers; the student is put in eval mode.
        videos: labelled or not.
        accelerator: device, precision, processes.
        plan: the views of a video; their vectors are averaged.
        parts: claimed.
        clips_per_step: clips in one forward pass, halved whenever memory does not suffice; None = by size.
        workers: decoding processes.
        console: for progress; None shows none.

    Raises:
        DataError: a video cannot be decoded.
        UsageError: a layer has no feature maps.
        SetupError: one view does not fit into memory.
        NonFiniteError: a feature is NaN or infinite.
    """
    done = on_main(accelerator, parts.keys)
    left = Subset(videos, [number for number, key in enumerate(videos.keys) if key not in done])
    world = accelerator.num_processes if len(left) >= accelerator.num_processes else 1
    if accelerator.process_index >= world or not len(left):
        return  # fewer videos than processes: the first one takes them
    student = reader.student
    channels_last(student.eval().to(accelerator.device))
    widths: dict[str, int] = {}

    def forward(clips_u8: Tensor, most: int) -> Tensor:
        clips = normalise(clips_u8.to(accelerator.device), student.clip.mean, student.clip.std)
        with accelerator.autocast():
            vectors = reader.read(clips)
        widths.update({name: vector_BD.shape[1] for name, vector_BD in vectors.items()})
        return torch.cat(list(vectors.values()), 1)

    size = clips_per_step or first_size(student.clip, accelerator.device)
    clips_of_a_view = plan.clips_of_a_view(student.clip)
    micro = MicroBatches(forward, size, clips_of_a_view=clips_of_a_view, divisible=False)
    batches = view_batches(
        left,
        student.clip,
        plan=plan,
        batch_size=max(size // (plan.count * clips_of_a_view), 1),
        rank=accelerator.process_index,
        world=world,
        workers=workers,
    )
    keys: list[str] = []
    rows: list[Tensor] = []

    def write() -> None:
        layers = torch.cat(rows).split(list(widths.values()), 1)
        parts.add(keys, dict(zip(widths, layers, strict=True)))
        keys.clear()
        rows.clear()

    quiet = console is None or not accelerator.is_main_process
    shown = Console(stderr=True) if console is None else console
    total = -(-len(videos) // world)
    begun, written = total - -(-len(left) // world), time.monotonic()
    with progress("extracting", total, console=shown, quiet=quiet, start=begun) as bar:
        for batch in batches:
            names = batch.keys[:: plan.count]
            vectors_ND = _averaged(micro, batch.views, plan.count)
            _refuse_non_finite(names, vectors_ND)
            keys += names
            rows.append(vectors_ND)
            bar.update(len(names))
            if len(keys) >= PART_VIDEOS or time.monotonic() - written > PART_S:
                write()
                written = time.monotonic()
    if keys:
        write()


def _averaged(micro: MicroBatches, views: Views, count: int) -> Tensor:
    """Returns the mean over each video's views, [N, D]; of a short video many views are one, seen once."""
    indices, place = views.indices.unique(dim=0, return_inverse=True)
    distinct = Views(views.frames_u8, indices, views.scale_V[: len(indices)])
    return micro.scores(distinct)[place].unflatten(0, (-1, count)).mean(1)


def _refuse_non_finite(keys: list[str], vectors_ND: Tensor) -> None:
    for key, finite in zip(keys, vectors_ND.isfinite().all(1).tolist(), strict=True):
        if not finite:
            raise NonFiniteError(f"{key}: its features are not finite. Use --precision fp32.")
