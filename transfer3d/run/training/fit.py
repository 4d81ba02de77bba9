"""Training as every command does it: plan, train, leave checkpoints for others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transfer3d.batch import ClipBatch
from transfer3d.data.drawing import Second
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.source import VideoSet
from transfer3d.engine.config import TrainerConfig, Training
from transfer3d.engine.run_folder import RECIPE
from transfer3d.engine.tracker import open_tracker
from transfer3d.engine.trainer import Trainer
from transfer3d.files import write_text
from transfer3d.models.checkpoint import save
from transfer3d.models.student import VideoStudent
from transfer3d.objectives.objective import Objective
from transfer3d.recipes.load import dump
from transfer3d.recipes.schema import Recipe
from transfer3d.run.training.plan import plan_steps
from transfer3d.run.training.run_manifest import note_start
from transfer3d.run.training.session import Session


def fit(
    session: Session,
    objective: Objective,
    student: VideoStudent,
    videos: VideoSet,
    *,
    facts: Mapping[str, Any],
    identity: Mapping[str, str] | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    held_out: VideoSet | None = None,
    second: Second = "none",
) -> Mapping[str, float]:
    """Plans, trains, and leaves `model.safetensors` in the run folder.

    Args:
        session: the open session.
        objective: what learns; `student` is the part of it that others want.
        student: written to model.safetensors and best.safetensors.
        videos: what it is trained on.
        identity: digests that a resumed run must find again, besides the data's.
        facts: further provenance of the checkpoint, JSON-able; `class_names` becomes its own entry.
        validate: see `Trainer`.
        held_out: the videos that it looks at.
        second: whether batches bring another view of their clips' frames, see `clip_batches`.
    """
    recipe = plan_steps(session, objective, student.clip, videos)
    config = trainer_config(recipe)
    accelerator, folder = session.accelerator, session.folder

    def batches(first_step: int) -> Iterable[ClipBatch]:
        return clip_batches(
            videos,
            student.clip,
            batch_size=int(recipe.batch_size),
            steps=recipe.max_steps or 0,
            seed=recipe.seed,
            augment=recipe.augment,
            start_step=first_step,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            workers=recipe.workers,
            max_bad_fraction=recipe.max_bad_fraction,
            balanced=recipe.balanced,
            second=second,
        )

    def publish(name: str, metrics: Mapping[str, Any]) -> None:
        provenance = {key: value for key, value in facts.items() if key != "class_names"}
        provenance |= {"recipe": dump(recipe), "data_digest": videos.digest, "metrics": dict(metrics)}
        target = session.path / f"{name}.safetensors"
        save(student, target, class_names=facts.get("class_names"), provenance=provenance)

    tracker = open_tracker(recipe.tracker, session.path, recipe.model_dump()) if folder else None
    trainer = Trainer(
        objective,
        batches,
        config,
        accelerator=accelerator,
        folder=folder,
        publish=publish,
        validate=validate,
        identity={"data": videos.digest, **(identity or {})},
        tracker=tracker,
        console=session.console,
    )
    if session.resume:
        trainer.resume()
        session.say(f"resuming at step {trainer.step}" if trainer.step else "no checkpoint yet: from step 0")
    elif folder:  # not before everything is in order: it makes the folder that of an unfinished run
        write_text(session.path / RECIPE, dump(recipe))
    note_start(session, videos, held_out)
    try:
        metrics = trainer.run()
    finally:
        if tracker:
            tracker.finish()
    if trainer.step < config.steps:
        session.say(
            f"stopped early at step {trainer.step}: no better score in {recipe.early_stop} validations"
        )
    if folder:
        folder.finish({"steps": trainer.step, "metrics": dict(metrics)})
    return metrics


def trainer_config(recipe: Recipe) -> TrainerConfig:
    """Picks out of a planned recipe what the trainer needs."""
    shared = {key: getattr(recipe, key) for key in Training.model_fields}
    batch_size = None if recipe.batch_size == "auto" else recipe.batch_size
    return TrainerConfig(steps=recipe.max_steps or 1, batch_size=batch_size, **shared)
