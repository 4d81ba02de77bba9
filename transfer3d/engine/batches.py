"""The training batches of this process, as required by an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from accelerate import Accelerator
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.config import TrainerConfig
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec


def clip_of(objective: nn.Module) -> ClipSpec:
    """Returns the clip spec of an objective's batches: its own, or its student's.

    Raises:
        UsageError: it has neither.
    """
    for owner in (objective, getattr(objective, "student", None)):
        if isinstance(clip := getattr(owner, "clip", None), ClipSpec):
            return clip
    raise UsageError(
        f"{type(objective).__name__} has no student with a clip, so no batches can be made for it. Set its "
        "attribute `student` to a VideoStudent, or pass a function that returns batches instead of videos."
    )


def batches_for(
    objective: nn.Module, videos: VideoSet, config: TrainerConfig, accelerator: Accelerator
) -> Callable[[int], Iterable[ClipBatch]]:
    """Returns a function that yields this process's share of each batch, from a given step on.

    Raises:
        UsageError: the batch size is missing, or not divisible by the processes and accumulation steps.
    """
    clip, batch_size = clip_of(objective), config.batch_size
    shares = accelerator.num_processes * config.accumulate
    if batch_size is None:
        raise UsageError(
            "TrainerConfig has no batch_size. Set it to the clips of one step, all processes together."
        )
    if batch_size % shares:
        raise UsageError(
            f"batch_size={batch_size} is not divisible by {accelerator.num_processes} processes x "
            f"accumulate={config.accumulate}."
        )

    def batches(first_step: int) -> Iterable[ClipBatch]:
        return clip_batches(
            videos,
            clip,
            batch_size=batch_size,
            steps=config.steps,
            seed=config.seed,
            augment=config.augment,
            start_step=first_step,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            workers=config.workers,
            max_bad_fraction=config.max_bad_fraction,
            balanced=config.balanced,
            teacher_view=getattr(objective, "teacher_view", "none"),
            teacher_clip=getattr(objective, "teacher_clip", None),
            multi_label=getattr(objective, "multi_label", False),
        )

    return batches
