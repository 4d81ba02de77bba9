"""Measures how much a checkpoint depends on the order of frames."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.evaluation.evaluate import with_student_classes
from transfer3d.evaluation.protocols import Protocol
from transfer3d.evaluation.scoring import score_videos
from transfer3d.insight.order import order_figure, order_results, orders_for
from transfer3d.insight.pictures.figure_file import check_figure_path, write_figure
from transfer3d.run.inference.evaluate import report_header
from transfer3d.run.inference.session import inference_session


def measure_orders(
    file: Path,
    data: str,
    *,
    split: str,
    protocol: Protocol,
    precision: str,
    workers: int,
    out: Path | None,
    console: Console,
) -> dict[str, Any] | None:
    """Returns top-1, its drop and the changed predictions for each frame order; None on other processes.

    Each video is decoded once.

    Args:
        file: checkpoint with a classifier.
        data: labelled videos.
        split: split of the data.
        protocol: the views; its orders are replaced by all orders that the student supports.
        precision: "auto", "bf16" or "fp32".
        workers: decoding processes per process.
        out: PNG or SVG file for the figure; None = no figure.
        console: for progress.

    Raises:
        UsageError: `out` is not a figure file, or the student cannot be tested this way.
        WeightsError: the checkpoint's classes are not those of the data.
        DataError: a file is bad; a test skips no video.
    """
    if out is not None:
        check_figure_path(out)
    with inference_session(file, precision=precision, console=console) as session:
        student = session.student
        videos = with_student_classes(student, session.open_videos(data, split))
        orders = orders_for(student.clip)
        protocol = replace(protocol, plan=replace(protocol.plan, orders=orders))
        scores = score_videos(
            student, videos, session.accelerator, protocol, workers=workers, console=console
        )
    if not session.is_main:
        return None
    results = order_results(scores, orders, videos.classes)
    if out is not None:
        title = f"{student.model_name} on {len(videos)} videos ({split})"
        write_figure(order_figure(results, chance=1 / len(videos.classes), title=title), out)
    rows = [asdict(result) for result in results]
    return {
        **report_header(session, data, videos, split, protocol),
        "scored": len(videos),
        "orders": {row.pop("order"): row for row in rows},
    }
