"""`transfer3d inflate`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json


def inflate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="timm model, e.g. resnet50.")],
    to: Annotated[str, typer.Option(help="Family, e.g. p3d, densenet3d, t3d.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Checkpoint to write. Default: `./STUDENT.safetensors`."),
    ] = None,
    weights: options.Weights = "timm",
    temporal_init: Annotated[
        str,
        typer.Option(metavar="RULE", help="How a 2D kernel fills its temporal taps: center, mean or random."),
    ] = "center",
    frames: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Frames of a clip. Default: the family's.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Height and width of a clip; a ViT's positions are resampled. Default: the network's own.",
        ),
    ] = None,
    set_values: options.StudentSet = None,
    num_classes: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="New head with this many classes; default: keep the 2D head."),
    ] = None,
    in_chans: Annotated[
        int, typer.Option(metavar="N", min=1, help="Input channels (flow: 2, depth: 1).")
    ] = 3,
    seed: Annotated[int, options.seed("Seed of all random values.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    account: options.Account = False,
    json: options.Json = False,
) -> None:
    """Inflate a timm image model to a video student, with a report and a proof.

    The report counts each stage's tensors: copied, reshaped (the same values with an axis of 1 for time),
    inflated (a kernel got temporal taps), resampled (positions), fresh (no 2D counterpart) or dropped.
    `--account` lists every tensor.

    The proof: on a still clip the student must have the image model's output.

    Example: `transfer3d inflate resnet50 --to p3d -o p3d.safetensors`
    """
    from transfer3d.engine.distributed import is_main_process
    from transfer3d.run.checkpoints.inflate import inflate_to_file

    if not is_main_process():
        return
    done = inflate_to_file(
        model,
        to,
        out,
        weights=weights,
        temporal_init=temporal_init,
        frames=frames,
        size=size,
        family_options=set_values or (),
        num_classes=num_classes,
        in_chans=in_chans,
        seed=seed,
        force=force,
    )
    if json:
        print_json(done.to_dict())
    else:
        stdout().print(done.text(tensors=account))
