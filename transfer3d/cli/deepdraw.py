"""`transfer3d deepdraw`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def deepdraw(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint with a classifier.")],
    target: Annotated[str, typer.Option("--class", metavar="NAME", help="Class to draw.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="GIF or MP4 to write; a PNG film strip is written beside it.")
    ] = Path("deepdraw.gif"),
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of gradient ascent.")] = 256,
    smooth_time: Annotated[
        float,
        typer.Option(
            metavar="N", min=0, max=1, help="Smoothing of each frame towards its neighbours, per step."
        ),
    ] = 0.5,
    smooth_space: Annotated[
        float,
        typer.Option(
            metavar="N", min=0, max=1, help="Smoothing of each pixel towards its neighbours, per step."
        ),
    ] = 0.5,
    seed: Annotated[int, options.seed("Seed of noise and shifts.")] = 0,
    json: options.Json = False,
) -> None:
    """Draw a clip that maximises a class, by gradient ascent from noise.

    Example: `transfer3d deepdraw model.safetensors --class "tai chi" -o tai_chi.gif`
    """
    from transfer3d.insight.deepdraw import DrawConfig
    from transfer3d.run.inference.deepdraw import draw_class

    config = DrawConfig(steps=steps, smooth_time=smooth_time, smooth_space=smooth_space, seed=seed)
    report = draw_class(file, target, config, out=out, console=progress_console())
    if json:
        print_json(report)
        return
    for name, form in (("logit", ".1f"), ("score", ".1%")):
        noise, drawing = (format(report[name][key], form) for key in ("noise", "drawing"))
        stdout().print(f"{name}: {noise} for noise, {drawing} for the drawing")
    stdout().print(f"wrote {report['film']} and {report['strip']}")
