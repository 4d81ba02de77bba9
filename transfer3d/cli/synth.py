"""`transfer3d synth`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli.mistakes import option_error
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import progress_console


def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder; new, or a finished one.")],
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Same seed, same frames, byte for byte.")] = 0,
    background: Annotated[
        str, typer.Option(metavar="weak|strong|plain", help="strong allows shortcuts in a matching task.")
    ] = "weak",
    poses: Annotated[
        str, typer.Option(metavar="slight|free", help="free: more rotation and scaling; harder to learn.")
    ] = "slight",
    frames: Annotated[int, typer.Option(metavar="N", min=2, help="Frames per video.")] = 16,
    size: Annotated[int, typer.Option(metavar="N", min=16, help="Height and width in pixels, even.")] = 64,
    train: Annotated[
        int, typer.Option(metavar="N", min=1, help="Labelled training videos per class (40 classes).")
    ] = 25,
    val: Annotated[int, typer.Option(metavar="N", min=0, help="Validation videos per class.")] = 5,
    test: Annotated[int, typer.Option(metavar="N", min=0, help="Test videos per class.")] = 10,
    unlabelled: Annotated[int, typer.Option(metavar="N", min=0, help="Unlabelled videos in total.")] = 2000,
) -> None:
    """Write the built-in dataset, moving digits, as H.264 videos and as shards.

    Example: `transfer3d synth digits/ --train 8 --unlabelled 500`
    """
    from pydantic import ValidationError

    from transfer3d.data.moving_digits import PARTS, SynthConfig, synthesise
    from transfer3d.engine.distributed import is_main_process

    if not is_main_process():
        return
    given = {
        "seed": seed,
        "background": background,
        "poses": poses,
        "frames": frames,
        "size": size,
        "train": train,
        "val": val,
        "test": test,
        "unlabelled": unlabelled,
    }
    try:
        config = SynthConfig.model_validate(given)
    except ValidationError as error:
        raise option_error(error) from None
    synthesise(folder, config, progress_console())
    counts = ", ".join(f"{config.count(part)} {part}" for part in PARTS)
    stdout().print(f"{folder}: {counts} videos as files (videos/), as shards (shards/), stills (images/)")
