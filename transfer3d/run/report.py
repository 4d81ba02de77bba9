"""Writes the pages of runs."""

from __future__ import annotations

from pathlib import Path

from transfer3d.files import write_text
from transfer3d.insight.report_run import run_page
from transfer3d.run.report_folder import read_run

REPORT = "report.html"


def quick_report(path: Path, out: Path | None = None) -> Path:
    """Writes the page of a run from what lies in its folder, without a look at any video.

    Returns:
        The page.
    """
    page = out or path / REPORT
    write_text(page, run_page(read_run(path)))
    return page
