"""`transfer3d export`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Checkpoint, Hub folder, or hf_hub:user/name@revision.")
    ],
    format: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="onnx, torch (torch.export), openvino, or hub: a folder for the Hugging Face hub.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File (hub: folder) to write. Default: named after the student."),
    ] = None,
    provenance: Annotated[
        str,
        typer.Option(
            metavar="short|full",
            help="How much provenance to include; short: no recipe, no paths of data or files.",
        ),
    ] = "short",
    int8: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="OpenVINO in int8, calibrated on these videos; the accuracy loss is printed."
        ),
    ] = None,
    license: Annotated[
        str,
        typer.Option(
            metavar="ID", help="Hub: the model card's licence, e.g. apache-2.0. Default: the image model's."
        ),
    ] = "",
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Hub: dataset used for training or testing, by its hub name. Repeatable."
        ),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Hub: upload the folder to this repository.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    json: options.Json = False,
) -> None:
    """Export a checkpoint for other programs, checked against the original's outputs.

    `preprocess.json` is written beside it: how to turn a video into the network's input.

    ONNX needs the extra `export`: `pip install 'transfer3d[export]'`; OpenVINO the extra `openvino`.

    Example: `transfer3d export p3d_resnet50.safetensors --format onnx -o p3d.onnx`
    """
    from transfer3d.export.model_card import CardInfo
    from transfer3d.run.checkpoints.export import export_checkpoint

    done = export_checkpoint(
        file,
        format,
        out,
        force=force,
        provenance=provenance,
        int8=int8,
        info=CardInfo(license=license, datasets=tuple(dataset or ())),
        repository=push,
    )
    if json:
        print_json(done.to_dict())
    else:
        stdout().print(str(done))
