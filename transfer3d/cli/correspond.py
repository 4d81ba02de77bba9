"""`transfer3d correspond`."""

from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import progress_console


def correspond(
    teacher: Annotated[
        str | None,
        typer.Option(help="Teacher: a timm model (densenet121), a student's checkpoint, or hf:org/name."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="timm|FILE|none", help="The teacher's weights. Default: timm (pretrained, from the hub)."
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="Student name or checkpoint file. Default: chosen to match the teacher."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="Choice of negative pairs: in-batch, one-to-one or hard. Default: in-batch."
        ),
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
    """Train a video student by image-video correspondence, without labels.

    Example: `transfer3d correspond --teacher densenet121 --data my_videos/`
    """
    from transfer3d.run.training.recipe_options import resolve, resumed_folder
    from transfer3d.run.training.train import train

    chosen = [] if pairs is None else [f"correspondence.pairs={pairs}"]
    resolved = resolve(
        "correspond",
        recipe,
        [*chosen, *(set_ or ())],
        resumed=resumed_folder(out, resume),
        teacher=teacher,
        weights=weights,
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
    train(resolved, "correspond", out=out, resume=resume, console=progress_console())
