"""The result as people read it: Markdown tables and the label curve, from the records alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from result.setting import HALVES, MAIN, OBJECTIVES, PAIRS, SHORTCUT
from result.statistics import Interval, interval, paired_difference
from transfer3d.files import atomic_path, write_text
from transfer3d.insight.pictures import figures

BEGIN, END = "<!-- transfer result: begin -->", "<!-- transfer result: end -->"
MAIN_ROWS = [row.name for row in MAIN]
VARIANTS = ["scratch", "correspondence", *(row.name for row in (*OBJECTIVES, *PAIRS))]
STRONG = [row.name for row in SHORTCUT]
HALF_ROWS, HALF_BASELINE = [row.name for row in HALVES], "halves: inflated from 0-4"

Records = Sequence[Mapping[str, Any]]


def by_seed(records: Records, row: str, metric: str = "top1") -> dict[int, float]:
    """Returns a row's values by seed."""
    return {record["seed"]: record[metric] for record in records if record["row"] == row}


def accuracy_table(records: Records, rows: Iterable[str], baseline: str) -> list[str]:
    """Returns the lines of a table: accuracies, and the paired difference to the baseline."""
    lines = [
        f"| student | top-1 | digit | motion | against {baseline} (paired) | matching | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    reference = by_seed(records, baseline)
    for row in rows:
        values = by_seed(records, row)
        if not values:
            continue
        shown = [
            interval(list(by_seed(records, row, m).values())).text() for m in ("top1", "digit", "motion")
        ]
        paired = values.keys() & reference.keys() if row != baseline else set[int]()
        against = paired_difference(values, reference).text(signed=True) if paired else ""
        matching = [
            r["transfer"]["metrics"].get("balanced_accuracy")
            for r in records
            if r["row"] == row and r["transfer"]
        ]
        known = [value for value in matching if value is not None]
        matched = f"{sum(known) / len(known):.2f}" if known else ""
        lines.append(f"| {row} | {' | '.join(shown)} | {against} | {matched} | {len(values)} |")
    return lines


def markdown(shared: Mapping[str, Any], records: Records) -> str:
    """Returns all tables for which there are records."""
    setting = shared["setting"]
    steps = setting["finetune_steps"] or "as many as tuning chose"
    lines = [
        f"Top-1, digits and motions in % of {setting['test'] * 40} test videos, the same for all seeds; mean "
        "± half the 95 % interval over seeds of labels, weights and order (Student's t). "
        f"{setting['labels']} labelled videos per class, {setting['unlabelled']} unlabelled; steps of 32 "
        f"clips: {setting['transfer_steps']} without labels; with labels, {steps}. Matching: balanced "
        "accuracy on training clips.",
        "",
        *accuracy_table(records, MAIN_ROWS, "scratch"),
    ]
    if any(by_seed(records, row.name) for row in (*OBJECTIVES, *PAIRS)):
        lines += ["", "Objectives and pairs:", "", *accuracy_table(records, VARIANTS, "scratch")]
    if any(by_seed(records, row) for row in STRONG):
        lines += ["", "The shortcut:", "", *accuracy_table(records, STRONG, STRONG[0])]
    if any(by_seed(records, row) for row in HALF_ROWS):
        lines += ["", "Image networks that have learnt half of the digits:", ""]
        lines += accuracy_table(records, HALF_ROWS, HALF_BASELINE)
        found = {row: by_seed(records, row, "digit") for row in HALF_ROWS}
        differences = (
            f"{row} {paired_difference(values, found[HALF_BASELINE]).text(signed=True)}"
            for row, values in found.items()
            if values and row != HALF_BASELINE and found[HALF_BASELINE]
        )
        lines += ["", f"In the digit, against {HALF_BASELINE} (paired): {'; '.join(differences)}."]
    return "\n".join(lines) + "\n"


def write_page(page: Path, text: str) -> None:
    """Puts the tables between the page's markers.

    Raises:
        ValueError: it has no markers.
    """
    before = page.read_text(encoding="utf-8")
    if BEGIN not in before or END not in before:
        raise ValueError(f"{page} has no '{BEGIN}' and '{END}'")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    write_text(page, marked.sub(lambda _: f"{BEGIN}\n{text}{END}", before))


def label_curve(records: Records, row: str) -> dict[int, Interval]:
    """Returns a main row's top-1 over seeds, by labelled videos per class: its own and the curve's."""
    values: dict[int, list[float]] = {}
    for record in records:
        if record["row"] == row or record["row"].startswith(f"{row}, "):
            values.setdefault(record["labels_per_class"], []).append(record["top1"])
    return {labels: interval(values[labels]) for labels in sorted(values)}


def write_curve(records: Records, picture: Path) -> bool:
    """Draws accuracy over labels with 95 % intervals; returns False where no record is of the curve."""
    if not any(record["study"] == "labels" for record in records):
        return False
    figure = figures.new_figure(7, 4)
    axes = figure.subplots()
    curves = {row: label_curve(records, row) for row in MAIN_ROWS}
    for number, (row, curve) in enumerate(curves.items()):
        means = [100 * point.mean for point in curve.values()]
        halves = [100 * point.half if point.count > 1 else 0 for point in curve.values()]
        style = {"color": figures.COLOURS[number], "linestyle": figures.DASHES[number]}
        axes.errorbar([*curve], means, halves, label=row, capsize=3, **style)
    ticks = sorted({labels for curve in curves.values() for labels in curve})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(labels) for labels in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labelled videos per class")
    axes.set_ylabel("test accuracy (top-1), %")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(picture) as partial:
        partial.write_bytes(figures.to_png(figure))
    return True
