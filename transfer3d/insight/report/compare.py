"""The comparison page of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from transfer3d.insight.report import page
from transfer3d.insight.report.curves import overlaid
from transfer3d.insight.report.final import Number, final_numbers
from transfer3d.insight.report.numbers import class_results, percent
from transfer3d.insight.report.page import Cell, Section
from transfer3d.insight.report.record import RunRecord
from transfer3d.insight.report.sections import WILSON
from transfer3d.insight.report.verdict import comparable, pair_of, verdict_section

MAX_CLASSES = 10
"""Number of classes listed with the largest gains, and with the largest losses."""


def comparison_page(records: Sequence[RunRecord], differences: Sequence[tuple[str, ...]]) -> str:
    """Returns the page of several runs.

    Args:
        records: at least two, with different names.
        differences: keys in which the recipes differ, each with the value of every run.
    """
    names = [record.name for record in records]
    tasks = dict.fromkeys(record.task for record in records)
    recipes = (
        page.table(("key", *names), differences) if differences else page.paragraph("They are the same.")
    )
    curves = [overlaid({r.name: r.last.log for r in records if r.task == task}) for task in tasks]
    sections = [
        verdict_section(records),
        numbers_section(records),
        *pairs_sections(records),
        Section("Recipes", [recipes], "Keys in which the runs differ."),
        Section(
            "Curves", curves, "Runs of the same task. Metrics that fewer than two of them logged are omitted."
        ),
        classes_section(records),
    ]
    return page.page("Comparison of runs", " · ".join(names), sections)


def numbers_section(records: Sequence[RunRecord]) -> Section:
    """Returns the table of final numbers: a row per number, a column per run."""
    by_name = [{number.what: number for number in final_numbers(record)} for record in records]
    rows: list[tuple[str | Cell, ...]] = [
        ("task", *(record.task for record in records)),
        ("student", *(_student(record) for record in records)),
        (
            "steps",
            *(f"{record.last.steps:,}{'' if record.finished else ', not finished'}" for record in records),
        ),
        ("training videos, digest", *(_digest(record) for record in records)),
    ]
    alike = comparable(records)
    for what in dict.fromkeys(what for numbers in by_name for what in numbers):
        rows.append((what, *_cells(what, by_name, [record in alike for record in records])))
    tested = [
        (record.name, f"{record.evaluation.split}: {record.evaluation.source}.")
        for record in records
        if record.evaluation
    ]
    header = ("number", *(record.name for record in records))
    return Section(
        "Numbers", [page.table(header, rows, numbers=range(1, len(header))), page.definitions(tested)], WILSON
    )


def _cells(what: str, by_name: Sequence[dict[str, Number]], alike: Sequence[bool]) -> list[Cell]:
    """Returns one number of all runs; the highest is marked if the runs are comparable."""
    numbers = [numbers.get(what) for numbers in by_name]
    tested = [n.value for n, is_alike in zip(numbers, alike, strict=True) if n and n.is_test and is_alike]
    best = max(tested) if len(tested) > 1 and min(tested) < max(tested) else None
    return [
        Cell(n.text, n.detail, n.is_test and is_alike and n.value == best) if n else Cell("")
        for n, is_alike in zip(numbers, alike, strict=True)
    ]


def pairs_sections(records: Sequence[RunRecord]) -> list[Section]:
    """Returns how each run differs from the first, video by video; empty if they share no videos.

    Runs that were evaluated with other views than the first are listed, but not compared.
    """
    base, *others = records
    rows, not_compared = [], []
    for other in others:
        if not base.evaluation or not other.evaluation:
            continue
        pair = pair_of(base.evaluation, other.evaluation)
        if pair is None:
            continue
        if base.evaluation.protocol != other.evaluation.protocol:
            not_compared.append(
                page.paragraph(f"{other.name} is not compared: it was evaluated with other views.")
            )
            continue
        difference, low, high = pair.points
        between = f"{low:+.1f} to {high:+.1f}"
        counts = map(str, (pair.gained, pair.lost, pair.videos))
        rows.append((other.name, f"{difference:+.1f}", between, *counts))
    header = (
        "run",
        "difference, points",
        "95 % interval",
        "only it correct",
        "only the first correct",
        "videos",
    )
    note = (
        f"Top-1 against {base.name}, on the same videos. The intervals are for matched pairs (Agresti and "
        "Min 2005), so they are narrower than those of the single runs. One that contains 0 shows no "
        "difference."
    )
    if not rows:
        return [Section("Video by video", not_compared)] if not_compared else []
    return [Section("Video by video", [page.table(header, rows, numbers=range(1, 6)), *not_compared], note)]


def _student(record: RunRecord) -> str:
    checkpoint = record.last.checkpoint
    return checkpoint.model if checkpoint else str(record.last.recipe["student"])


def _digest(record: RunRecord) -> str:
    checkpoint = record.last.checkpoint
    return str(checkpoint.provenance.get("data_digest", ""))[:12] if checkpoint else ""


def classes_section(records: Sequence[RunRecord]) -> Section:
    """Returns the classes whose accuracy differs most between the first run and the last."""
    tested = [record for record in records if record.evaluation and "confusion" in record.evaluation.metrics]
    title = "Classes"
    if len(tested) < 2:
        return Section(title, [], "Fewer than two runs have an evaluation with classes.")
    shares = []
    for record in tested:
        assert record.evaluation is not None
        results = class_results(record.evaluation.metrics["confusion"], record.evaluation.classes)
        shares.append({result.name: result.share for result in results})
    both = [name for name in shares[0] if all(name in other for other in shares)]
    if not both:
        return Section(title, [], "The runs were evaluated on different classes.")
    gain = {name: shares[-1][name] - shares[0][name] for name in both}
    order = sorted(both, key=lambda name: (-gain[name], name))
    rows = [(name, *(percent(share[name]) for share in shares), f"{100 * gain[name]:+.1f}") for name in order]
    header = ("class", *(record.name for record in tested), "difference, points")
    numbers = range(1, len(header))
    parts = [page.table(header, rows, numbers=numbers)]
    if len(rows) > 2 * MAX_CLASSES:
        by_name = dict(zip(order, rows, strict=True))
        gained = [by_name[name] for name in order if gain[name] > 0]
        lost = [by_name[name] for name in reversed(order) if gain[name] < 0]
        whole, parts = page.folded(f"All {len(rows)} classes", parts[0]), []
        for heading, group in (("Gained most", gained), ("Lost most", lost)):
            if group:
                parts += [page.heading(heading), page.table(header, group[:MAX_CLASSES], numbers=numbers)]
        parts.append(whole)
    return Section(
        title, parts, f"Accuracy by class; the difference is {tested[-1].name} minus {tested[0].name}."
    )
