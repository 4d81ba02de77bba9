"""The result as people read it: Markdown tables and the label curve, from the records alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from result.setting import LABEL_CURVE, MAIN, OBJECTIVES, PAIRS, SHORTCUT, SLIGHT
from result.statistics import interval, paired_difference
from transfer3d.files import atomic_path, write_text
from transfer3d.insight.pictures import figures

BEGIN, END = "<!-- transfer result: begin -->", "<!-- transfer result: end -->"
MAIN_ROWS = [row.name for row in MAIN]
VARIANTS = ["scratch", "correspondence", *(row.name for row in (*OBJECTIVES, *PAIRS))]
STRONG = [row.name for row in SHORTCUT]
EASIER = [row.name for row in SLIGHT]

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
        own = by_seed(records, row)
        if not own:
            continue
        shown = [
            interval(list(by_seed(records, row, m).values())).text() for m in ("top1", "digit", "motion")
        ]
        paired = own.keys() & reference.keys() if row != baseline else set[int]()
        against = paired_difference(own, reference).text(signed=True) if paired else ""
        matching = [
            r["transfer"]["metrics"].get("balanced_accuracy")
            for r in records
            if r["row"] == row and r["transfer"]
        ]
        known = [value for value in matching if value is not None]
        matched = f"{sum(known) / len(known):.2f}" if known else ""
        lines.append(f"| {row} | {' | '.join(shown)} | {against} | {matched} | {len(own)} |")
    return lines


def markdown(facts: Mapping[str, Any], records: Records) -> str:
    """Returns all tables that there are records for."""
    setting, test = facts["setting"], facts["setting"]["test"] * 40
    seeds = len(by_seed(records, "scratch"))
    labelled_steps = setting["finetune_steps"] or "as many as tuning chose"
    lines = [
        f"Top-1, digits and motions in % of {test} test videos, mean ± half the 95 % interval over {seeds} "
        f"seeds (Student's t). {setting['labels']} labelled videos per class, {setting['unlabelled']} "
        f"unlabelled; steps of 32 clips: {setting['transfer_steps']} without labels, {labelled_steps} with.",
        "",
        *accuracy_table(records, MAIN_ROWS, "scratch"),
    ]
    if any(by_seed(records, row.name) for row in (*OBJECTIVES, *PAIRS)):
        lines += ["", "Objectives and pairs:", "", *accuracy_table(records, VARIANTS, "scratch")]
    if any(by_seed(records, row) for row in STRONG):
        lines += ["", "The shortcut:", "", *accuracy_table(records, STRONG, STRONG[0])]
    if any(by_seed(records, row) for row in EASIER):
        lines += ["", "The dataset's default, slight poses:", ""]
        lines += accuracy_table(records, EASIER, EASIER[0])
    return "\n".join(lines) + "\n"


def write_readme(readme: Path, text: str) -> None:
    """Puts the tables between the file's markers.

    Raises:
        ValueError: it has no markers.
    """
    before = readme.read_text(encoding="utf-8")
    if BEGIN not in before or END not in before:
        raise ValueError(f"{readme} has no '{BEGIN}' and '{END}'")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    write_text(readme, marked.sub(lambda _: f"{BEGIN}\n{text}{END}", before))


def write_curve(records: Records, picture: Path) -> bool:
    """Draws accuracy over labels with 95 % intervals; returns False where no record is of the curve."""
    curve = [record for record in records if record["study"] == "labels"]
    if not curve:
        return False
    figure = figures.new_figure(7, 4)
    axes = figure.subplots()
    for number, row in enumerate(MAIN):
        points = []
        for labels in LABEL_CURVE:
            values = list(by_seed(curve, f"{row.name}, {labels} labels").values())
            if values:
                found = interval(values)
                points.append((labels, 100 * found.mean, 0 if found.count < 2 else 100 * found.half))
        if points:
            x, y, half = zip(*points, strict=True)
            style = {"color": figures.COLOURS[number], "linestyle": figures.DASHES[number]}
            axes.errorbar(x, y, half, label=row.name, capsize=3, **style)
    axes.set_xscale("log")
    axes.set_xticks(LABEL_CURVE, [str(labels) for labels in LABEL_CURVE])
    axes.minorticks_off()
    axes.set_xlabel("labelled videos per class")
    axes.set_ylabel("test accuracy (top-1), %")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(picture) as partial:
        partial.write_bytes(figures.to_png(figure))
    return True
