"""Test protocols: which views of a video are scored, and how they become one score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from transfer3d.data.pipeline import view_batches
from transfer3d.data.source import VideoSet
from transfer3d.engine.distributed import gather_list
from transfer3d.errors import DataError
from transfer3d.models.student import VideoStudent
from transfer3d.nn.pixels import normalise
from transfer3d.progress import progress


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """Which views of a video are looked at.

    Attributes:
        clips: clips spread evenly over the video; 1 = its centre.
        views_per_step: views in one forward pass.
    """

    clips: int = 1
    views_per_step: int = 64


@dataclass(frozen=True)
class Scores:
    """Softmax scores of every view of every video, in the dataset's order.

    Attributes:
        keys: one for each video.
        labels: class number, or -1.
        views_VK: for each video, float32 probabilities of its views.
    """

    keys: Sequence[str]
    labels: Sequence[int]
    views_VK: Sequence[Tensor]

    @property
    def videos_NK(self) -> Tensor:
        """The mean over the views: what a video is judged by."""
        return torch.stack([views_VK.mean(0) for views_VK in self.views_VK])


def refuse_dropped(videos: VideoSet, data: str) -> None:
    """Raises DataError where files were left out: an evaluation leaves nothing out."""
    if videos.dropped:
        first = videos.dropped[0]
        raise DataError(
            "E301",
            f"{len(videos.dropped)} bad files in {data}, the first is {first.path}: {first.reason}. "
            "An evaluation leaves nothing out: mend or remove them.",
        )


@torch.no_grad()
def score_videos(
    student: VideoStudent,
    videos: VideoSet,
    accelerator: Accelerator,
    plan: ViewPlan,
    *,
    workers: int = 0,
    console: Console | None = None,
) -> Scores:
    """Scores every video once, whatever the number of processes.

    Args:
        student: put in eval mode, and back into its own mode afterwards.
        videos: labelled or not.
        accelerator: device, precision, processes.
        plan: the views.
        workers: decoding processes.
        console: for progress; None shows none.

    Raises:
        DataError: a video cannot be decoded; nothing is left out in silence.
    """
    was_training = student.training
    student.eval().to(accelerator.device)
    found: dict[str, list[Tensor]] = {}
    batches = view_batches(
        videos,
        student.clip,
        views=plan.clips,
        batch_size=max(plan.views_per_step // plan.clips, 1),
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=workers,
    )
    quiet = console is None or not accelerator.is_main_process
    share = -(-len(videos) // accelerator.num_processes)
    with progress("evaluating", share, console=console or Console(stderr=True), quiet=quiet) as bar:
        for batch in batches:
            clips = normalise(batch.clips_u8.to(accelerator.device), student.clip.mean, student.clip.std)
            with accelerator.autocast():
                logits_BK = student(clips)
            before = len(found)
            for key, scores_K in zip(batch.keys, logits_BK.float().softmax(-1).cpu(), strict=True):
                found.setdefault(key, []).append(scores_K)
            bar.update(len(found) - before)
    student.train(was_training)
    return _collect(videos, gather_list(accelerator, list(found.items())))


def _collect(videos: VideoSet, rows: list[tuple[str, list[Tensor]]]) -> Scores:
    """Puts the rows of all processes into the dataset's order, each key once."""
    by_key = dict(rows)
    missing = [key for key in videos.keys if key not in by_key]
    if missing or len(by_key) != len(videos):
        raise AssertionError(f"expected {len(videos)} videos, scored {len(by_key)}; missing {missing[:3]}")
    labels = [-1 if label is None else label for label in videos.labels]
    return Scores(list(videos.keys), labels, [torch.stack(by_key[key]) for key in videos.keys])
