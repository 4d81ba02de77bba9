"""Batch size and number of steps, settled before step 1, and what they will cost."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from transfer3d.batch import ClipBatch
from transfer3d.data.source import VideoSet
from transfer3d.engine.distributed import gather_list
from transfer3d.engine.memory_plan import Plan, plan_batch, readable_bytes, readable_seconds
from transfer3d.errors import DataError, UsageError
from transfer3d.layout import ClipSpec
from transfer3d.objectives.objective import Objective
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.session import Session

LARGEST_AUTO_BATCH = 32


def plan_steps(session: Session, objective: Objective, clip: ClipSpec, videos: VideoSet) -> Recipe:
    """Settles batch size and number of steps, and says what they will cost.

    Returns:
        The recipe with `batch_size` and `max_steps` as numbers.

    Raises:
        UsageError: the batch is too small or does not divide among the processes, or the recipe says
            neither epochs nor max_steps.
        DataError: fewer than two different videos for each process.
    """
    recipe, world = session.recipe, session.accelerator.num_processes
    different = len(set(videos.sources))
    _check_sizes(recipe, world, different)
    shares = world * recipe.accumulate
    largest = min(LARGEST_AUTO_BATCH, 1 << (max(different // shares, 1).bit_length() - 1))

    def make_batch(count: int) -> ClipBatch:
        units = (clip.units,) if clip.units > 1 else ()
        shape = (count, *units, len(clip.mean), clip.frames, clip.size, clip.size)
        names = [str(number) for number in range(count)]
        labels = torch.zeros(count, dtype=torch.long)
        return ClipBatch(torch.randint(0, 256, shape, dtype=torch.uint8), labels, names, names)

    own = None if recipe.batch_size == "auto" else recipe.batch_size // shares
    plan = plan_batch(objective, session.accelerator, make_batch, batch_size=own, largest=largest)
    plan = replace(plan, batch_size=min(gather_list(session.accelerator, [plan.batch_size])))
    total = plan.batch_size * shares
    by_epochs = None if recipe.epochs is None else max(round(recipe.epochs * len(videos) / total), 1)
    steps = min(count for count in (by_epochs, recipe.max_steps) if count is not None)
    _say_plan(session, plan, total, steps, len(videos))
    if recipe.lr_base_batch is not None:
        rate = recipe.lr * total / recipe.lr_base_batch
        session.say(f"lr = {recipe.lr:g} * {total} / {recipe.lr_base_batch} = {rate:g}")
    every = recipe.validate_every
    if every is None and recipe.needs_scores:
        every = max(math.ceil(len(videos) / total), 1)
    return recipe.model_copy(update={"batch_size": total, "max_steps": steps, "validate_every": every})


def _check_sizes(recipe: Recipe, world: int, different: int) -> None:
    if recipe.epochs is None and recipe.max_steps is None:
        raise UsageError("the recipe has neither epochs nor max_steps. Give one with --set.")
    if different < 2 * world:
        raise DataError(
            f"{different} different videos for {world} processes: each needs at least two. Give more videos.",
        )
    if recipe.batch_size == "auto":
        return
    shares = f"{world} processes" + (f" x accumulate={recipe.accumulate}" if recipe.accumulate > 1 else "")
    if recipe.batch_size % (world * recipe.accumulate):
        raise UsageError(f"batch_size={recipe.batch_size} does not divide among {shares}.")
    if recipe.batch_size < 2 * world * recipe.accumulate:
        raise UsageError(f"batch_size={recipe.batch_size}: each of {shares} needs at least two clips.")


def _say_plan(session: Session, plan: Plan, total: int, steps: int, videos: int) -> None:
    world = session.accelerator.num_processes
    where = f" on {world} processes" if world > 1 else ""
    session.say(
        f"{steps} steps of {total} clips ({steps * total / videos:.1f} epochs){where}, "
        f"{session.recipe.precision}: "
        f"about {readable_bytes(plan.step_bytes)} of {readable_bytes(plan.free_bytes)} free memory and "
        f"{readable_seconds(plan.step_seconds * steps)} of computing"
    )
    if not plan.fits:
        session.say("warning: this is expected not to fit into memory; a smaller batch_size does")
