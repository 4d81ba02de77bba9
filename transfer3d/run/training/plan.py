"""The plan of a training run: batch size, number of steps, and their estimated cost."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.config import TrainerConfig, Training
from transfer3d.engine.distributed import gather_list, on_main
from transfer3d.engine.memory_plan import MemoryPlan, plan_batch, readable_bytes, readable_seconds
from transfer3d.engine.network_options import recompute_activations
from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.layout import ClipSpec
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.session import Session

LARGEST_AUTO_BATCH = 32


def plan_training(session: Session, objective: nn.Module, clip: ClipSpec, videos: VideoSet) -> TrainerConfig:
    """Determines batch size and number of steps, and prints the estimated cost.

    Raises:
        UsageError: the batch is too small or not divisible by the processes, or the recipe has neither
            epochs nor max_steps.
        DataError: fewer than two different videos for each process.
        SetupError: the disk has too little space for the run.
    """
    recipe, world = session.recipe, session.accelerator.num_processes
    different = len(set(videos.sources))
    _check_sizes(recipe, world, different)
    _warn_of_short_videos(session, clip, videos)
    shares = world * recipe.accumulate
    largest = min(LARGEST_AUTO_BATCH, 1 << (max(different // shares, 1).bit_length() - 1))

    def make_batch(count: int) -> ClipBatch:
        clips = torch.randint(0, 256, clip.shape(count), dtype=torch.uint8)
        names = [str(number) for number in range(count)]
        batch = ClipBatch(clips, torch.zeros(count, dtype=torch.long), names, names)
        if (teacher_clip := getattr(objective, "teacher_clip", clip)) == clip:
            return batch
        return replace(batch, teacher_clips=torch.zeros(teacher_clip.shape(count), dtype=torch.uint8))

    if recipe.activation_checkpointing:
        recompute_activations(objective)
    share = None if recipe.batch_size == "auto" else recipe.batch_size // shares
    plan = plan_batch(objective, session.accelerator, make_batch, batch_size=share, largest=largest)
    plan = replace(plan, batch_size=min(gather_list(session.accelerator, [plan.batch_size])))
    batch_size = plan.batch_size * shares
    by_epochs = None if recipe.epochs is None else max(round(recipe.epochs * len(videos) / batch_size), 1)
    steps = min(count for count in (by_epochs, recipe.max_steps) if count is not None)
    _say_plan(session, plan, batch_size, steps, len(videos))
    if recipe.max_steps is not None and steps < recipe.max_steps:
        needed = math.ceil(recipe.max_steps * batch_size / len(videos))
        session.say(
            f"epochs={recipe.epochs:g} ends after {steps} steps, before max_steps={recipe.max_steps}; to get "
            f"there, add --epochs {needed}"
        )
    if recipe.lr_base_batch is not None:
        rate = recipe.lr * batch_size / recipe.lr_base_batch
        session.say(f"lr = {recipe.lr:g} * {batch_size} / {recipe.lr_base_batch} = {rate:g}")
    every = recipe.validate_every
    if every is None and recipe.needs_scores:
        every = max(math.ceil(len(videos) / batch_size), 1)
    config = trainer_config(recipe, steps=steps, batch_size=batch_size, validate_every=every)
    on_main(session.accelerator, partial(_refuse_full_disk, session.path, objective, config))
    return config


def trainer_config(
    recipe: Recipe, *, steps: int, batch_size: int, validate_every: int | None = None
) -> TrainerConfig:
    """Returns the configuration of the trainer: the recipe's shared keys with steps and batch size."""
    shared = {key: getattr(recipe, key) for key in Training.model_fields}
    return TrainerConfig(**{**shared, "validate_every": validate_every}, steps=steps, batch_size=batch_size)


def recorded_recipe(recipe: Recipe, config: TrainerConfig) -> Recipe:
    """Returns the recipe with the planned values, as recorded in the run folder and the checkpoints."""
    settled = {"batch_size": config.batch_size, "max_steps": config.steps}
    return recipe.model_copy(update={**settled, "validate_every": config.validate_every})


def _check_sizes(recipe: Recipe, world: int, different: int) -> None:
    if recipe.epochs is None and recipe.max_steps is None:
        raise UsageError("the recipe has neither epochs nor max_steps. Set one with --set.")
    if different < 2 * world:
        raise DataError(
            f"{different} different videos for {world} processes: each needs at least two. Add videos."
        )
    if recipe.batch_size == "auto":
        return
    shares = f"{world} processes" + (f" x accumulate={recipe.accumulate}" if recipe.accumulate > 1 else "")
    if recipe.batch_size % (world * recipe.accumulate):
        raise UsageError(f"batch_size={recipe.batch_size} is not divisible by {shares}.")
    if recipe.batch_size < 2 * world * recipe.accumulate:
        raise UsageError(f"batch_size={recipe.batch_size}: each of {shares} needs at least two clips.")


def _refuse_full_disk(folder: Path, objective: nn.Module, config: TrainerConfig) -> None:
    """Raises SetupError if the disk is too small for the run's checkpoints and models."""
    learning = sum(p.nbytes for p in objective.parameters() if p.requires_grad)
    weights = sum(tensor.nbytes for tensor in objective.state_dict().values())
    moments = learning * (2 if config.optimizer.name == "adamw" else 1)
    averaged = weights if config.optimizer.average is not None else 0
    needed = (config.keep_checkpoints + 1) * (weights + moments + averaged) + 2 * weights
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{folder}: checkpoints and models need {readable_bytes(needed)}, but only "
            f"{readable_bytes(free)} are free. Choose another disk with -o."
        )


def _warn_of_short_videos(session: Session, clip: ClipSpec, videos: VideoSet) -> None:
    short = sum(0 < count < clip.window for count in videos.frame_counts)
    if 2 * short > len(videos):
        session.say(
            f"warning: {short} of {len(videos)} videos are shorter than the {clip.window} frames that a clip "
            f"of {clip.frames} at stride {clip.stride} spans, and end with repeated frames. Try --set "
            "clip.stride=1"
        )


def _say_plan(session: Session, plan: MemoryPlan, batch_size: int, steps: int, videos: int) -> None:
    world = session.accelerator.num_processes
    where = f" on {world} processes" if world > 1 else ""
    session.say(
        f"{steps} steps of {batch_size} clips ({steps * batch_size / videos:.1f} epochs){where}, "
        f"{session.recipe.precision}: "
        f"about {readable_bytes(plan.step_bytes)} of {readable_bytes(plan.free_bytes)} free memory and "
        f"{readable_seconds(plan.step_seconds * steps)} of computing"
    )
    if not plan.fits:
        session.say("warning: this probably does not fit into memory; try a smaller batch_size")
