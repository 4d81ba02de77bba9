"""The figure of a student's temporal kernels: taps of each stage, what they are made of, what they pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer3d.insight.kernels import FREQUENCIES, StageTaps
from transfer3d.insight.pictures.figures import COLOURS, DASHES, new_figure

COLUMNS = 5
PANEL = 2.4  # inches
SAME, ALIKE, DIFFERENCE = COLOURS[0], COLOURS[5], COLOURS[1]
AXIS_NAMES = {"T": "frames", "U": "units"}


def kernel_figure(stages: Sequence[StageTaps], *, title: str) -> Figure:
    """Draws one panel of taps for each stage, and below them two summaries.

    Args:
        stages: of `kernels.by_stage`.
        title: what student it is.
    """
    columns = min(COLUMNS, max(len(stages), 3))
    rows = math.ceil(len(stages) / columns)
    below = 1.75 + 0.28 * len(stages)
    figure = new_figure(PANEL * columns + 0.4, PANEL * rows + below + 0.4)
    figure.suptitle(title, fontsize=11)
    grid = figure.add_gridspec(2, 1, height_ratios=(PANEL * rows, below))
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    panels = list(upper.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes, stage in zip(panels, stages, strict=False):
        _draw_taps(axes, stage)
    for axes in panels[len(stages) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("share of the kernels' energy, %", fontsize=8)
    left, right = lower.subplots(1, 2)
    _draw_parts(left, stages)
    _draw_responses(right, stages)
    return figure


def _name(stage: StageTaps) -> str:
    return f"{stage.stage}, {AXIS_NAMES[stage.axis]}"


def _draw_taps(axes: Axes, stage: StageTaps) -> None:
    """Draws how the energy of a stage's kernels is spread over their taps."""
    count = f"{stage.layers} layer{'s' if stage.layers > 1 else ''}"
    silent = f", {stage.silent} silent" if 0 < stage.silent < stage.layers else ""
    axes.set_title(f"{_name(stage)} ({count}{silent})", fontsize=9)
    least, most = stage.spacing
    apart = f"{least}" if least == most else f"{least} to {most}"
    unit = AXIS_NAMES[stage.axis] if most > 1 else AXIS_NAMES[stage.axis][:-1]
    axes.set_xlabel(f"tap ({apart} {unit} apart)", fontsize=8)
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 25))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if stage.taps is None:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "silent:\nmultiplied by zero", transform=axes.transAxes, ha="center", va="center")
        return
    offsets, shares = stage.taps.offsets, [100 * share for share in stage.taps.energy]
    axes.bar(offsets, shares, color=[COLOURS[0] if offset == 0 else "#8a8a8a" for offset in offsets])
    for offset, share in zip(offsets, shares, strict=True):
        axes.text(offset, share + 2, f"{share:.0f}", ha="center", fontsize=8)
    axes.set_xticks(offsets, ["0" if offset == 0 else f"{offset:+d}" for offset in offsets])


def _draw_parts(axes: Axes, stages: Sequence[StageTaps]) -> None:
    """Draws for each stage what its kernels are made of: centre, alike sides, differences."""
    active = [(row, stage.taps) for row, stage in enumerate(stages) if stage.taps is not None]
    rows = [row for row, _ in active]
    parts = (
        ("centre tap: the frame itself", SAME, [taps.centre for _, taps in active]),
        ("before and after alike (symmetric)", ALIKE, [taps.symmetric - taps.centre for _, taps in active]),
        (
            "after minus before (antisymmetric): motion",
            DIFFERENCE,
            [taps.antisymmetric for _, taps in active],
        ),
    )
    done = [0.0] * len(active)
    for label, colour, shares in parts:
        axes.barh(rows, [100 * share for share in shares], left=done, color=colour, label=label)
        done = [left + 100 * share for left, share in zip(done, shares, strict=True)]
    marks = [100 * share for _, taps in active for share in (taps.random_centre, taps.random_symmetric)]
    label = "where the parts of a kernel drawn at random end"
    axes.plot(marks, [row for row in rows for _ in range(2)], "k|", markersize=12, label=label)
    for row, stage in enumerate(stages):
        if stage.taps is None:
            axes.text(1, row, "silent", va="center", fontsize=8)
    axes.set_yticks(range(len(stages)), [_name(stage) for stage in stages], fontsize=8)
    axes.set_ylim(len(stages) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the kernels' energy, %", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    handles, labels = axes.get_legend_handles_labels()  # the marks come first, and belong last
    axes.legend(
        handles[1:] + handles[:1], labels[1:] + labels[:1], frameon=False, fontsize=8, loc="lower left",
        bbox_to_anchor=(0, 1),
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def _draw_responses(axes: Axes, stages: Sequence[StageTaps]) -> None:
    """Draws what each stage passes on, by frequency."""
    axes.axhline(1, color="#555555", linestyle=":", linewidth=1, label="one frame alone")
    for number, stage in enumerate(stages):
        if stage.taps is not None:
            turn = number // len(COLOURS)
            style = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": DASHES[(number + turn) % len(DASHES)],
            }
            axes.plot(FREQUENCIES, stage.taps.response, label=_name(stage), linewidth=1.6, **style)
    axes.set_xlim(0, 0.5)
    axes.set_ylim(0, max(1.5, 1.1 * axes.get_ylim()[1]))
    axes.set_xlabel("frequency, cycles per tap (0: nothing changes)", fontsize=8)
    axes.set_ylabel("power, its mean is 1", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
