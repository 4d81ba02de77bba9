"""`transfer3d finetune`."""

from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import progress_console


def finetune(
    student: Annotated[
        str | None,
        typer.Argument(metavar="STUDENT|FILE", help="Student name (from scratch) or checkpoint file."),
    ] = None,
    data: options.Data = None,
    out: options.Out = None,
    recipe: options.RecipeName = None,
    set_: options.Set = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    resume: options.Resume = False,
    seed: options.Seed = None,
    precision: options.Precision = None,
    workers: options.Workers = None,
) -> None:
    """Train a student on labelled videos: from scratch, an inflated file or a correspondence checkpoint.

    Example: `transfer3d finetune p3d_resnet50.safetensors --data my_videos/ --epochs 30`
    """
    from transfer3d.run.training.recipe_options import resolve, resumed_folder
    from transfer3d.run.training.train import train

    resolved = resolve(
        "finetune",
        recipe,
        set_ or (),
        resumed=resumed_folder(out, resume),
        student=student,
        data=data,
        epochs=epochs,
        max_steps=steps,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        precision=precision,
        workers=workers,
    )
    train(resolved, "finetune", out=out, resume=resume, console=progress_console())
