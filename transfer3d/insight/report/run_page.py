"""The report page of one run."""

from __future__ import annotations

from collections.abc import Sequence

from transfer3d.insight.report import page
from transfer3d.insight.report.page import Section
from transfer3d.insight.report.record import RunRecord
from transfer3d.insight.report.sections import (
    curves_section,
    data_section,
    environment_section,
    headline,
    numbers_section,
    provenance_section,
    recipe_section,
    stages_section,
)


def run_page(record: RunRecord, seen: Sequence[Section] = (), data_note: str = "") -> str:
    """Returns the page of a run.

    Args:
        record: record of the run.
        seen: sections that need the run's videos: confusion, classes, maps, embedding.
        data_note: note on the evaluation of the videos.
    """
    run = record.last
    state = "" if record.finished else " The run is not finished: this is its current state."
    student = run.checkpoint.model if run.checkpoint else run.recipe.get("student")
    note = f"{record.task} of {student}, written by transfer3d.{state}"
    sections = [
        Section("Result", [headline(record)]),
        numbers_section(record),
        *([stages_section(record)] if record.stages else []),
        curves_section(record),
        *seen,
        recipe_section(record),
        environment_section(record),
        data_section(record, data_note),
        provenance_section(record.chain),
    ]
    return page.page(record.name, note, sections)
