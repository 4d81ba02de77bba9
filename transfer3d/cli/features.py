"""`transfer3d features`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def features(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint.")],
    data: Annotated[
        str,
        typer.Option(
            help="Videos: shard folder, class folders, a flat folder (with --split unlabelled), or a folder "
            "written by `synth`."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="File to write: NAME.safetensors; for other programs NAME.parquet or NAME.npz.",
        ),
    ],
    split: Annotated[str, typer.Option(help="Split of the data; `unlabelled` ignores classes.")] = "train",
    layers: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="pool5: the classifier's input; prob: its softmax; or layers of the trunk, such as res4, "
            "res5c or blocks.2, averaged over T, H and W; res5c@7: averaged over T and within 7 x 7 cells.",
        ),
    ] = "pool5",
    clips: Annotated[
        int, typer.Option(metavar="N", min=1, help="Evenly spaced clips per video; features are averaged.")
    ] = 20,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="p3d", help="p3d: 20 random clips of each video instead (P3D, section 4)."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random clips.")] = 0,
    format: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="safetensors, parquet or npz. Default: by the file's name."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted extraction, with the same command.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    precision: options.Precision = None,
    workers: Annotated[int, typer.Option(metavar="N", min=0, help="Decoding processes per process.")] = 1,
    json: options.Json = False,
) -> None:
    """Extract a student's features of every video: pooled and from named layers, with keys and labels.

    Every video is decoded once. Several processes (`accelerate launch -m transfer3d features ...`) share the
    work; the numbers are the same. Parquet needs the extra `parquet`: `pip install 'transfer3d[parquet]'`.

    Example: `transfer3d features model.safetensors --data digits/ --layers pool5,res4 -o train.safetensors`
    """
    from transfer3d.run.inference.features import extract_file

    report = extract_file(
        file,
        data,
        split=split,
        layers=[name.strip() for name in layers.split(",")],
        out=out,
        clips=clips,
        protocol=protocol,
        seed=seed,
        format=format,
        resume=resume,
        force=force,
        precision=precision or "auto",
        workers=workers,
        console=progress_console(),
    )
    if report is None:
        return
    if json:
        print_json(report)
    elif "videos" not in report:
        stdout().print(f"{out} exists already: nothing to do")
    else:
        widths = ", ".join(f"{name} ({width})" for name, width in report["layers"].items())
        stdout().print(f"wrote {out}: {report['videos']} videos, {widths}")
