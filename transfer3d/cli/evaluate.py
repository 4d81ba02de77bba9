"""`transfer3d evaluate`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from transfer3d.cli import options
from transfer3d.cli.mistakes import videos_among
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json, progress_console


def evaluate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Checkpoint with a classifier; with --fuse, reports.")
    ],
    data: Annotated[str | None, typer.Option(help=options.LABELLED_DATA)] = None,
    split: options.Split = "test",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="dense: --clips x --crops; p3d: 20 random clips; t3d: all non-overlapping clips; tsn: 5 "
            "clips, averaged before the softmax; v4d: 10 units x 3 crops, algorithm 1; f4d: the same in one "
            "pass; windows: multi-scale windows of untrimmed videos; slowfast-10x3, mmaction2-10x3, "
            "pytorchvideo-10x3: as that library evaluates.",
        ),
    ] = "dense",
    clips: options.Clips = None,
    crops: options.Crops = None,
    reverse: Annotated[
        str | None,
        typer.Option(
            metavar="frames|units", help="Reverse the frames of each clip, or the order of a video's units."
        ),
    ] = None,
    seed: Annotated[int, options.seed("Seed of random clips.")] = 0,
    labels: Annotated[
        Literal["auto", "single", "multi"],
        typer.Option(help="single: top-k; multi: hit@k, for videos with several labels."),
    ] = "auto",
    fuse: Annotated[
        bool, typer.Option("--fuse", help="Average the scores of reports; for one, recompute its metrics.")
    ] = False,
    fuse_weights: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Weights of the fused reports.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="JSON report to write; scores are saved beside it.")
    ] = None,
    precision: options.Precision = None,
    workers: options.DecodingWorkers = 1,
    json: options.Json = False,
) -> None:
    """Evaluate a checkpoint by a paper's protocol, or fuse the scores of several reports.

    Example: `transfer3d evaluate runs/finetune-p3d_tiny-1/model.safetensors --data digits/ --clips 3`
    """
    from transfer3d.errors import UsageError
    from transfer3d.evaluation.protocols import named_protocol
    from transfer3d.run.inference.evaluate import evaluate_file, fuse_reports

    if fuse:
        weights = None if fuse_weights is None else _numbers(fuse_weights)
        _show(fuse_reports(files, weights=weights, labels=labels, out=out), json, out)
        return
    if len(files) == 2 and data is None:
        swapped = videos_among([str(file) for file in files]) == str(files[0])
        file, videos = reversed(files) if swapped else files
        if videos.suffix not in (".json", ".safetensors"):
            line = f"transfer3d evaluate {file} --data {videos}"
            raise UsageError(f"evaluate takes one checkpoint, and videos with --data: `{line}`.")
    if len(files) > 1 or fuse_weights is not None:
        raise UsageError("evaluate takes one checkpoint. To fuse reports, add --fuse.")
    if data is None:
        raise UsageError("evaluate needs videos. Name them with --data.")
    chosen = named_protocol(protocol, clips=clips, crops=crops, reverse=reverse, seed=seed)
    report = evaluate_file(
        files[0],
        data,
        split=split,
        protocol=chosen,
        labels=labels,
        precision=precision or "auto",
        workers=workers,
        out=out,
        console=progress_console(),
    )
    if report is not None:
        _show(report, json, out)


def _numbers(text: str) -> list[float]:
    from transfer3d.errors import UsageError

    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"--fuse-weights {text}: write numbers separated by commas, e.g. 1,1.5.") from None


def _show(report: dict[str, Any], as_json: bool, out: Path | None) -> None:
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        if name.startswith(("clip_", "video_", "mean_")):
            stdout().print(f"{name:<20} {value:.1%}")
    known = {name: value for name, value in report.get("per_class", {}).items() if value is not None}
    if len(known) > 1:
        worst = min(known, key=known.__getitem__)
        stdout().print(f"{'worst class':<20} {known[worst]:.1%} ({worst})")
    listed = f" of {report['official']} that the dataset lists" if report.get("official") else ""
    stdout().print(f"{'scored/expected':<20} {report['scored']}/{report['expected']}{listed}")
    if out is not None:
        stdout().print(f"wrote {out}, and its scores beside it")
