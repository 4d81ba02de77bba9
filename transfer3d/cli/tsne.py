"""`transfer3d tsne`."""

from pathlib import Path
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json


def tsne(
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help=".safetensors of `transfer3d features`.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="X.png", help="Figure to write, PNG or SVG.")],
    layer: Annotated[str, typer.Option(help="Layer of the features.")] = "pool5",
    perplexity: Annotated[
        float | None,
        typer.Option(help="Approximate number of neighbours of a point. [default: 30, less for few videos]"),
    ] = None,
    seed: Annotated[int, options.seed("Same seed, same coordinates.", options.LARGEST_NUMPY_SEED)] = 0,
    color_by: Annotated[
        str,
        typer.Option(
            metavar="auto|class|PART",
            help="class, or 1, 2, ... for that part of class names such as 3_left; auto: a panel for each "
            "part, if class names have parts.",
        ),
    ] = "auto",
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV: key, class, x, y.")] = False,
) -> None:
    """Plot videos by t-SNE of their features, after PCA to 50 dimensions (P3D, figure 7).

    Example: `transfer3d tsne features.safetensors -o tsne.png`
    """
    from transfer3d.errors import UsageError
    from transfer3d.run.pages.tsne import draw_tsne

    if json and csv:
        raise UsageError("--json and --csv: choose one.")
    report = draw_tsne(features, layer=layer, perplexity=perplexity, seed=seed, color_by=color_by, out=out)
    if json:
        print_json(report)
    elif csv:
        import csv as writer
        import sys

        from transfer3d.text import cell

        table = writer.DictWriter(sys.stdout, ("key", "class", "x", "y"))
        table.writeheader()
        table.writerows({name: cell(value) for name, value in point.items()} for point in report["points"])
    else:
        size = f"{report['dimensions']} numbers, perplexity {report['perplexity']:.3g}, seed {seed}"
        stdout().print(f"wrote {out}: {len(report['points'])} videos, {layer} ({size})")
        if report["purity"] is not None:
            stdout().print(
                f"same class among a video's {report['neighbours']} nearest neighbours: "
                f"{report['purity']:.1%} in the figure, {report['feature_purity']:.1%} in the features"
            )
