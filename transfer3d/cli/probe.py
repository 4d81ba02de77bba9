"""`transfer3d probe`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def probe(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FEATURES...",
            help=".safetensors of `transfer3d features`: the training part of each split.",
        ),
    ],
    test: Annotated[
        list[Path] | None,
        typer.Option(
            "--test", metavar="FEATURES", help="Test part of each split, in the same order. Repeatable."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="splits: train and test, mean over splits; leave-one-out: each source video is classified "
            "by all others; pairs: same action or not (ASLAN); pca: accuracy against dimensions.",
        ),
    ] = "splits",
    layer: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Layers. [default: pool5; for pairs all in the file]"),
    ] = None,
    method: Annotated[str, typer.Option(metavar="svm|logistic|knn", help="svm is linear.")] = "svm",
    value: Annotated[
        float | None,
        typer.Option(help="C, or k of knn. Default: chosen by cross-validation on the training part."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="pairs: CSV with the columns first,second,same,fold.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="X.png", help="pca: figure of the curve to write, PNG or SVG.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="JSON report to write.")] = None,
    seed: Annotated[int, options.seed("Seed of the cross-validation.", options.LARGEST_NUMPY_SEED)] = 0,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes for the cross-validation.")] = 1,
    json: options.Json = False,
) -> None:
    """Measure how well a linear SVM, logistic regression or nearest neighbours classify frozen features.

    Features are standardised by the training part, each vector is divided by its norm, and C is chosen by
    cross-validation. P3D only specifies a linear SVM and, for pairs, the division by the norm; the rest, and
    ten of the twelve similarities of pairs, are our choice: results are not comparable with printed decimals.

    Example: `transfer3d probe train.safetensors --test test.safetensors`
    """
    from transfer3d.insight.probing.probe import ProbeConfig
    from transfer3d.run.pages.probe import probe_files

    report = probe_files(
        files,
        tests=test or [],
        protocol=protocol,
        layers=None if layer is None else [name.strip() for name in layer.split(",")],
        pairs=pairs,
        config=ProbeConfig(method=method, value=value, seed=seed, workers=workers),
        out=out,
        plot=plot,
        console=progress_console(),
    )
    if json:
        print_json(report)
    else:
        for result in report["results"]:
            stdout().print("\n".join(_lines(result)))
        stdout().print(f"{'chance':<24} {report['chance']:.1%}")


def _lines(result: dict[str, Any]) -> list[str]:
    """Returns the numbers of a layer, one per line."""
    if "points" in result:
        return [
            f"{result['layer'] + ', ' + str(point['dimensions']) + ' dimensions':<24} {point['accuracy']:.1%}"
            for point in result["points"]
        ]
    if "similarities" in result:
        area = "" if result["auc"] is None else f", AUC {result['auc']:.3f}"
        error = f"± {result['standard_error']:.1%} over {len(result['folds'])} folds"
        return [f"{'+'.join(result['layers']):<24} {result['accuracy']:.1%} {error}{area}", result["note"]]
    each = [f"{fold['accuracy']:.1%}" for fold in result.get("folds", [])]
    splits = f" ({', '.join(each)})" if len(each) > 1 else ""
    shown = {"top-3": "top3", "mAP": "mean_ap"}
    more = "".join(f", {name} {result[key]:.1%}" for name, key in shown.items() if key in result)
    return [f"{result['layer']:<24} {result['accuracy']:.1%}{splits}{more}"]
