"""The list of omitted videos with reasons, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from transfer3d.data.videoset import Dropped
from transfer3d.text import cell


def left_out_csv(left_out: Sequence[Dropped]) -> str:
    """Returns CSV with the columns path and reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows((cell(dropped.path), cell(dropped.reason)) for dropped in left_out)
    return text.getvalue()
