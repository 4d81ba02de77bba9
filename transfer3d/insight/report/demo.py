"""The demo's page and summary figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer3d.files import atomic_path, write_text
from transfer3d.insight.pictures import figures
from transfer3d.insight.report import page
from transfer3d.insight.report.curves import MATCHING, curves, overlaid
from transfer3d.insight.report.page import Section
from transfer3d.insight.report.record import Evaluation
from transfer3d.insight.report.sections import confusion_section


@dataclass(frozen=True)
class StudentResult:
    """The result of one starting point of a student.

    Attributes:
        name: in tables and legends.
        start: one-line description of its initial weights.
        report: report of the evaluation on the test split (see `evaluation.metrics.video_metrics`).
        log: rows of its metrics.jsonl.
    """

    name: str
    start: str
    report: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class DemoSummary:
    """The content of the page.

    Attributes:
        classes: names, `<digit>_<motion>`.
        students: in the order of the table.
        correspondence_log: rows of the correspondence run's metrics.jsonl.
        teacher_accuracy: accuracy of the teacher on unseen still digits, 0..1.
        setting: one line: labels, clips, steps, seed.
        proof: result of the inflation's parity check in one line.
        strips: sample clips, uint8 C T H W, with their class.
    """

    classes: Sequence[str]
    students: Sequence[StudentResult]
    correspondence_log: Sequence[Mapping[str, Any]]
    teacher_accuracy: float
    setting: str
    proof: str
    strips: Sequence[tuple[str, np.ndarray]]

    @property
    def best(self) -> StudentResult:
        """The student with the highest test accuracy."""
        return max(self.students, key=lambda student: student.report["video_top1"])


def table_rows(summary: DemoSummary) -> list[tuple[str, str, str, str, str, str]]:
    """Returns name, top-1, digit, motion, top-5 and start of each student, as text."""
    rows = []
    for student in summary.students:
        digit, motion = part_accuracies(student.report["confusion"], summary.classes)
        top1, top5 = student.report["video_top1"], student.report["video_top5"]
        rows.append((student.name, *(f"{100 * x:.1f} %" for x in (top1, digit, motion, top5)), student.start))
    return rows


def part_accuracies(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[float, float]:
    """Returns the accuracies of the digit alone and of the motion alone, for `<digit>_<motion>` classes."""
    parts = [name.split("_", 1) for name in classes]
    total = sum(sum(row) for row in confusion)
    right = [0, 0]
    for true, row in zip(parts, confusion, strict=True):
        for guess, count in zip(parts, row, strict=True):
            for part in (0, 1):
                right[part] += count * (true[part] == guess[part])
    return right[0] / total, right[1] / total


def write_report(summary: DemoSummary, html: Path, picture: Path) -> None:
    """Writes the self-contained page and the summary figure."""
    chance = 1 / len(summary.classes)
    accuracies = {student.name: student.report["video_top1"] for student in summary.students}
    bars = figures.new_figure(5.4, 0.55 * len(summary.students) + 1.1)
    figures.draw_bars(bars.subplots(), accuracies, chance=chance, label="test accuracy (top-1), %")
    header = ("student", "top-1", "digit", "motion", "top-5", "starts from")
    best = summary.best
    tested = Evaluation(
        metrics=best.report, classes=summary.classes, split="test", source=summary.setting, data=""
    )
    sections = [
        Section(
            "Result",
            [
                page.table(header, table_rows(summary), numbers=(1, 2, 3, 4)),
                page.svg_figure(figures.to_svg(bars), "Test accuracy by starting point."),
            ],
            f"Test videos show drawings that are in no training video. {summary.setting}",
        ),
        Section(
            "Input of the students",
            [page.png_figure(figures.film_strip(clip), name) for name, clip in summary.strips],
            "Sample test clips, time runs to the right.",
        ),
        Section(
            "Learning by correspondence",
            [curves(summary.correspondence_log)],
            "Do these frames and this clip come from the same video? No labels are used; chance is 50 %.",
        ),
        Section(
            "Fine-tuning",
            [overlaid({student.name: student.log for student in summary.students})],
            "With the same labelled videos, steps and hyper-parameters for all.",
        ),
        confusion_section(tested, title=f"Confusion of the best student ({best.name})"),
        Section("Inflation's proof", [page.preformatted(summary.proof)]),
    ]
    note = (
        f"A small image model learnt still digits ({100 * summary.teacher_accuracy:.1f} % accuracy on unseen "
        "ones). It was turned into video students in two ways: by inflation, and as a teacher without labels."
    )
    write_text(html, page.page("transfer3d demo", note, sections))
    with atomic_path(picture) as partial:
        partial.write_bytes(figures.to_png(_summary(summary, accuracies, chance)))


def _summary(summary: DemoSummary, accuracies: Mapping[str, float], chance: float) -> Any:
    """Draws bars, matching curves and film strips in one figure."""
    from io import BytesIO

    from PIL import Image

    figure = figures.new_figure(10, 5.2)
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 2.1))
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    left, right = top.subplots(1, 2)
    figures.draw_bars(left, accuracies, chance=chance, label="test accuracy (top-1), %")
    left.set_title("few labels: where the student starts from", fontsize=10)
    MATCHING.draw_on(right, MATCHING.series(summary.correspondence_log))
    right.set_title("correspondence: learning without labels", fontsize=10)
    strips = summary.strips[:4]
    for axes, (name, clip) in zip(bottom.subplots(2, 2).flat, strips, strict=False):
        axes.imshow(np.asarray(Image.open(BytesIO(figures.film_strip(clip)))))
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    return figure
