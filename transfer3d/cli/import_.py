"""`transfer3d import`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json


def import_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="p3d-pytorch, v4d-release, t3d-densenet3d, pytorchvideo-slow, torchvision-video, "
            "transformers-vivit, transformers-timesformer or transformers-videomae.",
        ),
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="State dict: PyTorch (weights only) or safetensors.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Checkpoint to write. Default: `./STUDENT.safetensors`."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Settings that are not in a state dict; p3d-pytorch: `blocks=A|B|C|ABC` (default ABC); "
            "transformers: `heads=12`, vivit also `frames=32`, videomae `frames=16` and `size=224`. "
            "Repeatable.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    account: options.Account = False,
    json: options.Json = False,
) -> None:
    """Convert a released checkpoint to a student that computes the same, with a report of its tensors.

    Example: `transfer3d import p3d-pytorch p3d63.pth -o p3d63.safetensors --set blocks=ABC`
    """
    from transfer3d.run.checkpoints.import_ import import_to_file

    done = import_to_file(kind, file, out, settings=settings or (), force=force)
    if json:
        print_json(done.to_dict())
    else:
        stdout().print(done.text(tensors=account))
