"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[
    str | None,
    typer.Option(
        help="Shard folder, class folders, a flat folder of videos (unlabelled), or a folder written by "
        "`synth`. Default: the built-in moving digits."
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="timm|FILE|none",
        help="Weights of the image model: `timm` = pretrained from the hub, a file, or `none` = random.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="Run folder. Default: `runs/COMMAND-STUDENT-N`.")
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="Recipe: a built-in name (`transfer3d recipe ls`) or a TOML file."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. `clip.frames=16`. Repeatable."
    ),
]
StudentSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change an option of the family, e.g. `tubelet=4`. Repeatable."
    ),
]
Epochs = Annotated[float | None, typer.Option(metavar="N", help="Passes over the videos.")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Optimiser steps; with --epochs, whichever ends first."),
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Clips per step over all processes; auto: the largest batch that fits in memory.",
    ),
]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an unfinished run (name it with -o).")]
LARGEST_SEED = 2**63 - 1
LARGEST_NUMPY_SEED = 2**32 - 1  # also scikit-learn's


def seed(help: str, largest: int = LARGEST_SEED) -> Any:
    """Returns an option for a number from 0 to `largest`, which its help does not mention."""

    def check(value: int | None) -> int | None:
        if value is not None and value > largest:
            raise typer.BadParameter(f"{value} is not in the range x<={largest}.")
        return value

    return typer.Option(metavar="N", min=0, callback=check, help=help)


Seed = Annotated[int | None, seed("Seed of all random values.")]
Precision = Annotated[
    str | None,
    typer.Option(metavar="auto|bf16|fp32", help="auto: bf16 if the hardware supports it, else fp32."),
]
Account = Annotated[bool, typer.Option("--account", help="List every tensor, not every stage.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Decoding processes per training process.")
]
DecodingWorkers = Annotated[int, typer.Option(metavar="N", min=0, help="Decoding processes.")]
Split = Annotated[str, typer.Option(help="Split of the data.")]
Clips = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="dense: evenly spaced clips per video. [default: 1]")
]
Crops = Annotated[int | None, typer.Option(metavar="1|3|10", help="dense: crops of each clip. [default: 1]")]
LABELLED_DATA = "Labelled videos: shard folder, class folders, or a folder written by `synth`."
