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
        views_NVK: float32 probabilities.
    """

    keys: Sequence[str]
    labels: Sequence[int]
    views_NVK: Tensor

    @property
    def videos_NK(self) -> Tensor:
        """The mean over the views: what a video is judged by."""
        return self.views_NVK.mean(1)


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
    found: dict[str, tuple[int, Tensor]] = {}
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
            views = batch.clips_u8.flatten(0, 1).to(accelerator.device)
            with accelerator.autocast():
                logits = student(normalise(views, student.clip.mean, student.clip.std))
            scores_BVK = logits.float().softmax(-1).unflatten(0, batch.clips_u8.shape[:2]).cpu()
            for key, label, scores_VK in zip(batch.keys, batch.labels_B.tolist(), scores_BVK, strict=True):
                found[key] = (label, scores_VK)
            bar.update(len(batch.keys))
    student.train(was_training)
    return _collect(videos, gather_list(accelerator, list(found.items())))


def _collect(videos: VideoSet, rows: list[tuple[str, tuple[int, Tensor]]]) -> Scores:
    """Puts the rows of all processes into the dataset's order, each key once."""
    by_key = dict(rows)
    missing = [key for key in videos.keys if key not in by_key]
    if missing or len(by_key) != len(videos):
        raise AssertionError(f"expected {len(videos)} videos, scored {len(by_key)}; missing {missing[:3]}")
    labels = [by_key[key][0] for key in videos.keys]
    return Scores(list(videos.keys), labels, torch.stack([by_key[key][1] for key in videos.keys]))
