"""A student's scores for every video of a set: each is decoded once, views go through in parts that fit."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from transfer3d.data.pipeline import view_batches
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.distributed import gather_list
from transfer3d.engine.memory_format import channels_last
from transfer3d.errors import DataError, NonFiniteError
from transfer3d.evaluation.micro_batches import Forward, MicroBatches, first_size
from transfer3d.evaluation.protocols import CENTRE, Protocol, check_protocol
from transfer3d.evaluation.scores import Scores
from transfer3d.models.combinations import combination_scores
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.progress import progress

Row = tuple[str, Tensor, Tensor]  # key, probabilities of the views [V, K], their scales [V]


def refuse_dropped(videos: VideoSet, data: str) -> None:
    """Raises DataError where files were left out: an evaluation leaves nothing out."""
    if videos.dropped:
        first = videos.dropped[0]
        raise DataError(
            f"{len(videos.dropped)} bad files in {data}, the first is {first.path}: {first.reason}. "
            "An evaluation leaves nothing out: mend or remove them.",
        )


@torch.no_grad()
def score_videos(
    student: VideoStudent,
    videos: VideoSet,
    accelerator: Accelerator,
    protocol: Protocol = CENTRE,
    *,
    clips_per_step: int | None = None,
    workers: int = 0,
    console: Console | None = None,
) -> Scores:
    """Scores every video once, whatever the number of processes.

    Args:
        student: put in eval mode, and back into its own mode afterwards.
        videos: labelled or not.
        accelerator: device, precision, processes.
        protocol: the views; without it the one at each video's centre.
        clips_per_step: clips in one forward pass, halved whenever memory does not suffice; None = by size.
        workers: decoding processes.
        console: for progress; None shows none.

    Raises:
        DataError: a video cannot be decoded; nothing is left out in silence.
        UsageError: the student cannot be tested so.
        SetupError: one view does not fit into memory.
        NonFiniteError: a score is NaN.
    """
    check_protocol(protocol, student)
    was_training = student.training
    channels_last(student.eval().to(accelerator.device))
    clip, plan = protocol.clip_for(student.clip), protocol.plan
    size = clips_per_step or first_size(clip, accelerator.device)
    by_combination = protocol.combinations and clip.units > 1
    parts = MicroBatches(
        _forward(student, accelerator, by_combination),
        size,
        clips_of_a_view=plan.clips_of_a_view(clip),
        divisible=by_combination,
    )
    clips_of_a_video = (plan.views_of_a_video(clip) or size) * plan.clips_of_a_view(clip)
    batches = view_batches(
        videos,
        clip,
        plan=plan,
        batch_size=max(size // clips_of_a_video, 1),
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=workers,
    )
    quiet = console is None or not accelerator.is_main_process
    share = -(-len(videos) // accelerator.num_processes)
    rows: list[Row] = []
    with progress("evaluating", share, console=console or Console(stderr=True), quiet=quiet) as bar:
        for batch in batches:
            scores_VK = parts.scores(batch.views)
            found = _rows(batch.keys, scores_VK, batch.views.scale_V)
            rows += found
            bar.update(len(found))
    student.train(was_training)
    return _collect(videos, gather_list(accelerator, rows), protocol)


def _forward(student: VideoStudent, accelerator: Accelerator, by_combination: bool) -> Forward:
    """Returns what makes probabilities of clips."""

    def forward(clips_u8: Tensor, most: int) -> Tensor:
        clips = normalise(clips_u8.to(accelerator.device), student.clip.mean, student.clip.std)
        with accelerator.autocast():
            if by_combination:
                return combination_scores(student, clips, chunk=most)
            return student(clips).float().softmax(-1)

    return forward


def _rows(keys: list[str], scores_VK: Tensor, scale_V: Tensor) -> list[Row]:
    """Puts together what belongs to one video: its views follow one another."""
    starts = [view for view, key in enumerate(keys) if view == 0 or key != keys[view - 1]]
    ends = [*starts[1:], len(keys)]
    for start, end in zip(starts, ends, strict=True):
        if not scores_VK[start:end].isfinite().all():
            raise NonFiniteError(f"{keys[start]}: its scores are not finite. Use --precision fp32.")
    return [
        (keys[start], scores_VK[start:end].clone(), scale_V[start:end].clone())
        for start, end in zip(starts, ends, strict=True)
    ]


def _collect(videos: VideoSet, rows: list[Row], protocol: Protocol) -> Scores:
    """Puts the rows of all processes into the dataset's order, each key once."""
    by_key = {key: (views_VK, scale_V) for key, views_VK, scale_V in rows}
    missing = [key for key in videos.keys if key not in by_key]
    if missing or not len(by_key) == len(rows) == len(videos):
        raise AssertionError(f"expected {len(videos)} videos, scored {len(rows)}; missing {missing[:3]}")
    views, scales = zip(*(by_key[key] for key in videos.keys), strict=True)
    return Scores(list(videos.keys), list(videos.label_sets), list(views), list(scales), protocol.pooling)
