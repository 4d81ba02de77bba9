"""The sections of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transfer3d.insight.pictures import figures
from transfer3d.insight.report import page
from transfer3d.insight.report.curves import curves
from transfer3d.insight.report.final import final_numbers
from transfer3d.insight.report.numbers import ClassResult, class_results, interval, most_confused, percent
from transfer3d.insight.report.page import Section
from transfer3d.insight.report.record import Change, Evaluation, Link, RunRecord
from transfer3d.objectives.diagnostics import training_warnings

MAX_CLASSES = 48
"""Maximum number of classes of a confusion matrix with legible labels."""
EXTREMES = 5
"""Number of best and of worst classes to list."""
WILSON = (
    "Intervals are Wilson's, 95 %, over videos: they cover sampling of videos, not "
    "variation between seeds. Training metrics have no interval."
)


def headline(record: RunRecord) -> str:
    """Returns the most important numbers, as tiles."""
    leading = [number for number in final_numbers(record) if number.leads][:4]
    run = record.last
    planned = run.recipe.get("max_steps")
    state = "finished" if record.finished else "not finished"
    steps = (f"{run.steps:,}", "steps", f"of {planned:,}, {state}" if planned else state)
    return page.tiles([*((number.text, number.what, number.detail) for number in leading), steps])


def numbers_section(record: RunRecord) -> Section:
    """Returns all final numbers with their intervals, and warnings about them."""
    numbers = final_numbers(record)
    rows = [
        (
            number.what,
            number.text,
            number.between,
            str(number.videos or ""),
            f"{number.views:.3g}" if number.views else "",
        )
        for number in numbers
    ]
    header = ("number", "value", "95 % interval", "videos", "views of each")
    parts = [page.table(header, rows, numbers=(1, 2, 3, 4))] if rows else []
    parts += [
        page.paragraph(f"Warning: {warning}") for warning in training_warnings(record.last.final("train"))
    ]
    if record.evaluation:
        parts.append(page.paragraph(f"{record.evaluation.split}: {record.evaluation.source}."))
    if not rows:
        parts.append(page.paragraph("Nothing was logged yet."))
    sampled = any(number.videos for number in numbers)
    return Section("Final numbers", parts, WILSON if sampled else "Means over the last steps of training.")


def curves_section(record: RunRecord) -> Section:
    """Returns the curves of the run, or of each of its stages."""
    parts = []
    for name, run in (record.stages or {"": record}).items():
        parts += [page.heading(f"Stage {name}")] if name else []
        parts.append(curves(run.log) if run.log else page.paragraph("Nothing was logged yet."))
    return Section("Curves", parts)


def recipe_section(record: RunRecord) -> Section:
    """Returns the recipe's differences from the nearest built-in one, and the whole recipe."""
    note = f"The nearest built-in recipe is {record.parent}: the run differs in {len(record.changes)} keys."
    parts = [changes_table(record.changes, record.parent)] if record.changes else []
    parts.append(page.folded("The whole resolved recipe", page.preformatted(record.recipe_text)))
    return Section("Recipe", parts, note)


def changes_table(changes: Sequence[Change], parent: str) -> str:
    """Returns a table of keys with both values."""
    return page.table(("key", parent, "this run"), [(c.key, c.built_in, c.run) for c in changes])


def stages_section(record: RunRecord) -> Section:
    """Returns a table with a row per stage."""
    rows = []
    for name, run in record.stages.items():
        state = "finished" if run.finished else "not finished"
        student = str(run.recipe.get("student") or "")
        numbers = "; ".join(f"{number.what} {number.text}" for number in final_numbers(run) if number.leads)
        rows.append((name, run.recipe["task"], student, f"{run.steps:,}", state, numbers))
    return Section(
        "Stages", [page.table(("stage", "task", "student", "steps", "state", "numbers"), rows, numbers=(3,))]
    )


def environment_section(record: RunRecord) -> Section:
    """Returns versions, devices, precision and seed."""
    run = record.last
    rows: list[tuple[str, str]] = [
        ("precision", str(run.recipe["precision"])),
        ("seed", str(run.recipe["seed"])),
    ]
    started = run.started.get("environment", {})
    if not started and run.checkpoint:
        rows.append(("transfer3d", run.checkpoint.version))
    rows += [(name, str(value)) for name, value in started.items()]
    note = "" if started else "The machine is not recorded: the run was written by an older version."
    return Section("Environment", [page.definitions(rows)], note)


def data_section(record: RunRecord, note: str = "") -> Section:
    """Returns the numbers of videos, the omitted files with reasons, and the digest."""
    run = record.last
    data: Mapping[str, Any] = run.started.get("data", {})
    digest = data.get("digest") or (run.checkpoint.provenance.get("data_digest") if run.checkpoint else None)
    rows: list[tuple[str, str]] = [("source", str(run.recipe.get("data") or "the built-in moving digits"))]
    if data:
        rows.append(("training videos", f"{data['videos']:,}"))
        if counts := data["classes"]:
            fewest, most = min(counts.values()), max(counts.values())
            each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
            rows.append(("classes", f"{len(counts):,}, with {each} videos each"))
        rows.append(("held out for validation", f"{data['held_out']:,}" if data["held_out"] else "none"))
        rows.append(("left out", f"{len(data['dropped']):,} files"))
    rows.append(("digest of the training videos", str(digest or "not recorded")))
    parts = [page.definitions(rows)]
    if data.get("dropped"):
        parts.append(page.table(("left out", "reason"), data["dropped"]))
    if not data:
        parts.append(page.paragraph("Counts are not recorded: the run was written by an older version."))
    if note:
        parts.append(page.paragraph(note))
    return Section("Data", parts)


def provenance_section(links: Sequence[Link]) -> Section:
    """Returns the provenance chain from the first weights to the checkpoint."""
    if not links:
        return Section("Provenance", [], "The run has written no checkpoint yet.")
    return Section(
        "Provenance",
        [page.chain([(link.title, link.rows, link.beside) for link in links])],
        "From the first weights, at the top, to this run's checkpoint. Digests are sha256.",
    )


def confusion_section(evaluation: Evaluation, *, title: str = "Confusion") -> Section:
    """Returns the confusion matrix, if it is legible, and the most confused pairs."""
    confusion, count, parts = evaluation.metrics["confusion"], len(evaluation.classes), []
    if count <= MAX_CLASSES:
        longest = max(len(figures.short(name)) for name in evaluation.classes)
        side = min(3.2 + 0.25 * count + 0.05 * longest, 9)  # inches: small matrices stay readable on a phone
        figure = figures.new_figure(side, 0.91 * side)
        figures.draw_confusion(figure.subplots(), confusion, evaluation.classes)
        caption = "Share of each true class's videos (row) by predicted class (column)."
        parts.append(page.svg_figure(figures.to_svg(figure), caption))
    pairs = most_confused(confusion, evaluation.classes, most=10 if count <= MAX_CLASSES else 25)
    rows = [(pair.true, pair.taken_for, f"{pair.count} of {pair.of}") for pair in pairs]
    if rows:
        parts += [
            page.heading("Most confused"),
            page.table(("true class", "predicted class", "videos"), rows, numbers=(2,)),
        ]
    else:
        parts.append(page.paragraph("Every video was classified correctly."))
    note = (
        ""
        if count <= MAX_CLASSES
        else f"A matrix of {count} classes would not be legible: its largest entries are listed."
    )
    return Section(title, parts, note)


def precision_section(evaluation: Evaluation) -> Section:
    """Returns the classes with the highest and the lowest average precision, for multi-label videos."""
    known = [(name, value) for name, value in evaluation.metrics["per_class"].items() if value is not None]
    ranked = sorted(known, key=lambda item: (-item[1], item[0]))
    each = min(2 * EXTREMES, max(len(ranked) // 2, 1))
    parts = []
    for title, rows in (("Best", ranked[:each]), ("Worst", ranked[each:][-each:][::-1])):
        if rows:
            table = [(name, percent(value)) for name, value in rows]
            parts += [page.heading(title), page.table(("class", "average precision"), table, numbers=(1,))]
    return Section(
        "Classes by average precision", parts, "Videos have several labels: there is no confusion matrix."
    )


def classes_section(evaluation: Evaluation, strips: Mapping[str, str], note: str = "") -> Section:
    """Returns the best and the worst classes, each with a film strip if there is one.

    Args:
        evaluation: with one label for each video.
        strips: HTML, by class.
        note: why there are none.
    """
    results = class_results(evaluation.metrics["confusion"], evaluation.classes)
    best, worst = extremes(results)
    parts = []
    for title, ranked in (("Best", best), ("Worst", worst)):
        rows = [
            (r.name, percent(r.share), interval(r.share, r.count), f"{r.right} of {r.count}") for r in ranked
        ]
        if not rows:
            continue
        parts += [
            page.heading(title),
            page.table(("class", "accuracy", "95 % interval", "videos"), rows, numbers=(1, 2, 3)),
        ]
        parts += [strips[r.name] for r in ranked if r.name in strips]
    return Section("Best and worst classes", parts, note)


def extremes(results: Sequence[ClassResult]) -> tuple[list[ClassResult], list[ClassResult]]:
    """Returns the best and the worst of sorted classes, the worst first.

    No class is in both. A class at 0 % is never among the best, one at 100 % never among the worst.
    """
    each = min(EXTREMES, max(len(results) // 2, 1))
    best = [result for result in results[:each] if result.right]
    worst = [result for result in reversed(results[each:][-each:]) if result.right < result.count]
    return best, worst
