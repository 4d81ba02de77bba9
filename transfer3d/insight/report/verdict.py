"""The verdict of a comparison: which run is better, by how much, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transfer3d.insight.intervals import paired_difference, wilson
from transfer3d.insight.pictures import figures
from transfer3d.insight.report import page
from transfer3d.insight.report.final import SHARES
from transfer3d.insight.report.page import Section
from transfer3d.insight.report.record import Evaluation, RunRecord

SCORES = ("video_top1", "video_hit1")
"""Metrics for ranking runs: the first one that the runs have is used."""


@dataclass(frozen=True)
class Pair:
    """The differences of a second run from a first on the videos that both were evaluated on.

    Attributes:
        gained: videos that only the second classifies correctly.
        lost: videos that only the first classifies correctly.
        videos: number of these videos.
    """

    gained: int
    lost: int
    videos: int

    @property
    def points(self) -> tuple[float, float, float]:
        """The second's accuracy minus the first's, and its 95 % interval, in percentage points."""
        difference, low, high = paired_difference(self.gained, self.lost, self.videos)
        return 100 * difference, 100 * low, 100 * high


def pair_of(first: Evaluation, second: Evaluation) -> Pair | None:
    """Returns how two evaluations differ, video by video; None if they share no scored videos."""
    both = [key for key in first.right if key in second.right] if first.data == second.data else []
    if not both:
        return None
    gained = sum(second.right[key] and not first.right[key] for key in both)
    lost = sum(first.right[key] and not second.right[key] for key in both)
    return Pair(gained, lost, len(both))


def alike(first: Evaluation, second: Evaluation) -> bool:
    """Whether two evaluations are of the same videos with the same views."""
    return (first.data, first.split, first.protocol) == (second.data, second.split, second.protocol)


def comparable(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Returns the largest group of runs with the same evaluation, best first; may be fewer than two."""
    groups: list[list[RunRecord]] = []
    for record in records:
        if record.evaluation is None or _score(record) is None:
            continue
        for group in groups:
            assert group[0].evaluation is not None
            if alike(group[0].evaluation, record.evaluation) and _metric(group[0]) == _metric(record):
                group.append(record)
                break
        else:
            groups.append([record])
    return sorted(max(groups, key=len, default=[]), key=lambda record: -(_score(record) or 0))


def verdict_section(records: Sequence[RunRecord]) -> Section:
    """Returns the verdict in a sentence, and a bar with its interval for each compared run."""
    ranked = comparable(records)
    others = [record.name for record in records if record not in ranked]
    parts = [page.verdict(_verdict(records, ranked))]
    if len(ranked) > 1 and others:
        parts.append(
            page.paragraph(f"Not compared, since they lack the same evaluation: {', '.join(others)}.")
        )
    if len(ranked) > 1:
        note = "The intervals cover the sampling of videos, not variation between training seeds."
        parts += [_bars(ranked), page.paragraph(note)]
    return Section("Verdict", parts)


def _verdict(records: Sequence[RunRecord], ranked: Sequence[RunRecord]) -> str:
    if len(ranked) < 2:
        evaluated = sum(record.evaluation is not None for record in records)
        if evaluated < 2:
            return "No verdict: fewer than two of the runs were evaluated on labelled videos."
        return "No verdict: no two runs were evaluated on the same videos with the same views."
    best, second = ranked[:2]
    assert best.evaluation is not None
    assert second.evaluation is not None
    name, split = SHARES[_metric(best)], best.evaluation.split
    on = f"{name} on the same {best.evaluation.videos:,} videos ({split})"
    ahead = 100 * ((_score(best) or 0) - (_score(second) or 0))
    pair = pair_of(second.evaluation, best.evaluation)
    if pair is None:
        return (
            f"{best.name} is ahead of {second.name} by {ahead:.1f} points: {on}. Their scores of single "
            "videos are missing, so the uncertainty is unknown."
        )
    ahead, low, high = pair.points
    interval = f"95 % interval {low:.1f} to {high:.1f}"
    on = f"{name} on the same {pair.videos:,} videos ({split})"
    if low <= 0:
        lead = f"{best.name} is ahead of {second.name} by {ahead:.1f} points"
        if not ahead:
            lead = f"{best.name} and {second.name} are equal"
        return f"No run is clearly the best: {lead} ({interval}, which contains 0): {on}."
    which = f"{best.name} is better than {second.name}"
    if len(ranked) > 2:
        which = f"{best.name} is the best of {len(ranked)} runs, better than the next, {second.name},"
    return f"{which} by {ahead:.1f} points ({interval}): {on}."


def _bars(ranked: Sequence[RunRecord]) -> str:
    shares = {}
    for record in ranked:
        assert record.evaluation is not None
        share, videos = _score(record) or 0, record.evaluation.videos
        shares[record.name] = (share, *wilson(share * videos, videos))
    figure = figures.new_figure(5.4, 0.5 * len(shares) + 1.0)
    name = SHARES[_metric(ranked[0])]
    figures.draw_intervals(figure.subplots(), shares, label=f"{name}, %")
    return page.svg_figure(
        figures.to_svg(figure), f"{name[0].upper()}{name[1:]} of each run, with its 95 % interval."
    )


def _metric(record: RunRecord) -> str:
    assert record.evaluation is not None
    return next((key for key in SCORES if key in record.evaluation.metrics), "")


def _score(record: RunRecord) -> float | None:
    assert record.evaluation is not None
    return record.evaluation.metrics.get(_metric(record))
