"""What every training run shares: folder, processes, data, batches, checkpoints for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from rich.console import Console

from transfer3d.data.pipeline import Batch, clip_batches
from transfer3d.data.source import VideoSet
from transfer3d.engine.distributed import (
    bf16_is_fast,
    gather_list,
    leave_cores_to,
    make_accelerator,
    on_main,
)
from transfer3d.engine.fit import Plan, plan_batch, readable_bytes, readable_seconds
from transfer3d.engine.run_folder import RunFolder
from transfer3d.engine.trainer import Trainer, TrainerConfig
from transfer3d.errors import DataError, Transfer3dError, UsageError
from transfer3d.files import write_text
from transfer3d.layout import ClipSpec
from transfer3d.models.checkpoint import save
from transfer3d.models.student import VideoStudent
from transfer3d.recipes.load import dump
from transfer3d.recipes.schema import Recipe
from transfer3d.transfer.objective import Objective

LARGEST_AUTO_BATCH = 32


@dataclass
class Session:
    """One run of a training command.

    Attributes:
        recipe: the resolved recipe.
        path: the run folder.
        folder: the open run folder; None on every process but the main one.
        finished: the run was already done.
        console: for progress and facts, main process only.
    """

    recipe: Recipe
    path: Path
    folder: RunFolder | None
    accelerator: Accelerator
    console: Console
    finished: bool = False
    resume: bool = False

    def say(self, line: str) -> None:
        """Prints one line, once for all processes."""
        if self.accelerator.is_main_process:
            self.console.print(line, highlight=False, soft_wrap=True)

    def say_dropped(self, videos: VideoSet) -> None:
        """Names the files that were left out, with the reason."""
        for dropped in videos.dropped:
            self.say(f"left out {dropped.path}: {dropped.reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object
    ) -> None:
        """Writes this process's exit code (a launcher makes 1 of every other), ends the group, unlocks."""
        code = 0 if error is None else error.exit_code if isinstance(error, Transfer3dError) else 1
        rank = self.accelerator.process_index
        write_text(
            self.path / f"exit.rank{rank}.json", json.dumps({"exit_code": code, "error": str(error or "")})
        )
        if self.folder:
            self.folder.close()
        self.accelerator.end_training()


def open_session(
    recipe: Recipe, out: Path | None, *, title: str, resume: bool, console: Console | None = None
) -> Session:
    """Claims the run folder and sets up the processes.

    Args:
        recipe: the resolved recipe.
        out: run folder; None = `runs/<title>-<n>`, the first n that is free.
        title: `<command>-<student>`.
        resume: go on with an unfinished run in `out`.
        console: where to print; None = stderr.
    """
    if resume and out is None:
        raise UsageError("E212", "--resume needs the run folder. Name it with -o.")
    precision = resolve_precision(recipe.precision)
    accelerator = make_accelerator(precision)
    if accelerator.device.type == "cpu":
        leave_cores_to(recipe.workers)
    path = Path(on_main(accelerator, lambda: str(out or _free_folder(Path("runs"), title))))
    held: list[RunFolder] = []

    def claim() -> bool:
        held.append(RunFolder(path, resume=resume))
        return held[0].finished

    try:
        finished = on_main(accelerator, claim)
    except Transfer3dError:
        accelerator.end_training()
        raise
    folder = held[0] if held else None
    recipe = recipe.model_copy(update={"precision": precision})
    return Session(recipe, path, folder, accelerator, console or Console(stderr=True), finished, resume)


def resolve_precision(precision: str) -> str:
    """Turns "auto" into bf16 where the machine computes it in hardware, into fp32 elsewhere.

    Raises:
        UsageError: it is none of auto, bf16, fp32.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise UsageError("E215", f"--precision {precision}: there are auto, bf16 and fp32.")
    if precision != "auto":
        return precision
    return "bf16" if bf16_is_fast() else "fp32"


def _free_folder(root: Path, title: str) -> Path:
    number = 1
    while (root / f"{title}-{number}").exists():
        number += 1
    return root / f"{title}-{number}"


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
    largest = min(LARGEST_AUTO_BATCH, 1 << (max(different // world, 1).bit_length() - 1))

    def make_batch(count: int) -> Batch:
        units = (clip.units,) if clip.units > 1 else ()
        shape = (count, *units, len(clip.mean), clip.frames, clip.size, clip.size)
        names = [str(number) for number in range(count)]
        labels = torch.zeros(count, dtype=torch.long)
        return Batch(torch.randint(0, 256, shape, dtype=torch.uint8), labels, names, names)

    own = None if recipe.batch_size == "auto" else recipe.batch_size // world
    plan = plan_batch(objective, session.accelerator, make_batch, batch_size=own, largest=largest)
    plan = replace(plan, batch_size=min(gather_list(session.accelerator, [plan.batch_size])))
    total = plan.batch_size * world
    by_epochs = None if recipe.epochs is None else max(round(recipe.epochs * len(videos) / total), 1)
    steps = min(count for count in (by_epochs, recipe.max_steps) if count is not None)
    _say_plan(session, plan, total, steps, len(videos))
    return recipe.model_copy(update={"batch_size": total, "max_steps": steps})


def _check_sizes(recipe: Recipe, world: int, different: int) -> None:
    if recipe.epochs is None and recipe.max_steps is None:
        raise UsageError("E213", "the recipe has neither epochs nor max_steps. Give one with --set.")
    if different < 2 * world:
        raise DataError(
            "E313",
            f"{different} different videos for {world} processes: each needs at least two. Give more videos.",
        )
    if recipe.batch_size == "auto":
        return
    if recipe.batch_size % world:
        raise UsageError("E213", f"batch_size={recipe.batch_size} does not divide among {world} processes.")
    if recipe.batch_size < 2 * world:
        raise UsageError(
            "E213", f"batch_size={recipe.batch_size}: each of {world} processes needs at least two clips."
        )


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


def fit(
    session: Session,
    objective: Objective,
    student: VideoStudent,
    videos: VideoSet,
    *,
    facts: Mapping[str, Any],
    identity: Mapping[str, str] | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
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
    """
    recipe = plan_steps(session, objective, student.clip, videos)
    accelerator, folder = session.accelerator, session.folder
    if folder and not session.resume:
        write_text(session.path / "recipe.toml", dump(recipe))

    def batches(first_step: int) -> Iterable[Batch]:
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
        )

    def publish(name: str, metrics: Mapping[str, Any]) -> None:
        provenance = {key: value for key, value in facts.items() if key != "class_names"}
        provenance |= {"recipe": dump(recipe), "data_digest": videos.digest, "metrics": dict(metrics)}
        target = session.path / f"{name}.safetensors"
        save(student, target, class_names=facts.get("class_names"), provenance=provenance)

    trainer = Trainer(
        objective,
        batches,
        trainer_config(recipe),
        accelerator=accelerator,
        folder=folder,
        publish=publish,
        validate=validate,
        identity={"data": videos.digest, **(identity or {})},
        console=session.console,
    )
    if session.resume:
        trainer.resume()
        session.say(f"resuming at step {trainer.step}" if trainer.step else "no checkpoint yet: from step 0")
    metrics = trainer.run()
    if folder:
        publish("model", metrics)  # again, for a run that died between its last checkpoint and here
        folder.finish({"steps": recipe.max_steps, "metrics": dict(metrics)})
    return metrics


def trainer_config(recipe: Recipe) -> TrainerConfig:
    """Picks out of a planned recipe what the trainer needs."""
    return TrainerConfig(
        steps=recipe.max_steps or 1,
        lr=recipe.lr,
        seed=recipe.seed,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        log_every=recipe.log_every,
        save_every=recipe.save_every,
        validate_every=recipe.validate_every,
    )
