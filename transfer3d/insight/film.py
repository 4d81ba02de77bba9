"""Clips as pictures: a strip of frames side by side, and the same in motion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from transfer3d.insight.figures import new_figure, to_png

Pictures = NDArray[np.uint8]
CELL = 1.05
"""Inches of a frame's longer side in a strip."""
DPI = 100


@dataclass(frozen=True)
class Row:
    """One clip of a film.

    Attributes:
        name: stands beside it.
        pictures: uint8 [T, H, W, 3].
    """

    name: str
    pictures: Pictures


@dataclass(frozen=True)
class Bar:
    """What colours mean.

    Attributes:
        colours: name of matplotlib's colour map.
        label: stands beside it.
        ticks: what the lowest, the middle and the highest colour stand for.
    """

    colours: str
    label: str
    ticks: tuple[str, str, str]


def strip(rows: Sequence[Row], *, title: str, bar: Bar | None = None, frames: int = 8) -> bytes:
    """Returns a PNG: evenly chosen frames of each row from left to right, numbered from 0.

    Args:
        rows: clips of one length and size.
        title: above them.
        bar: the legend of their colours.
        frames: how many are shown at most.
    """
    total, height, width = rows[0].pictures.shape[:3]
    chosen = np.unique(np.linspace(0, total - 1, min(frames, total)).round().astype(int))
    down, right = _cell(height, width)
    figure = new_figure(right * len(chosen) + 1.5, down * len(rows) + 0.55)
    cells = figure.subplots(len(rows), len(chosen), squeeze=False)
    for row, line in zip(rows, cells, strict=True):
        for number, axes in zip(chosen, line, strict=True):
            _show(axes, row.pictures[number])
        line[0].set_ylabel(row.name, fontsize=9)
    for number, axes in zip(chosen, cells[-1], strict=True):
        axes.set_xlabel(f"frame {number}", fontsize=8)
    _finish(figure, cells, title, bar)
    return to_png(figure, dpi=DPI)


def motion(
    rows: Sequence[Sequence[Row]], *, title: str, bar: Bar | None = None, height: float = 2.2
) -> Iterator[Pictures]:
    """Yields the pictures [H, W, 3] of a moving figure, one for each frame.

    Args:
        rows: clips of one length and size, that lie beside and below one another.
        title: above them.
        bar: the legend of their colours.
        height: inches of a frame's longer side.
    """
    total, tall, wide = rows[0][0].pictures.shape[:3]
    down, right = (side * height / CELL for side in _cell(tall, wide))
    figure = new_figure(max(right * len(rows[0]) + 1.5, 4.2), down * len(rows) + 1.0)
    figure.set_dpi(DPI)
    cells = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    shown = [
        (_show(axes, row.pictures[0]), row)
        for line, several in zip(cells, rows, strict=True)
        for axes, row in zip(line, several, strict=True)
    ]
    for axes, row in zip(cells.flat, (row for line in rows for row in line), strict=True):
        axes.set_title(row.name, fontsize=9)
    clock = cells[-1, 0].set_xlabel("frame 0", fontsize=9)
    _finish(figure, cells, title, bar)
    canvas: Any = figure.canvas
    canvas.draw()
    figure.set_layout_engine("none")  # nothing moves but the frames
    for number in range(total):
        for image, row in shown:
            image.set_data(row.pictures[number])
        clock.set_text(f"frame {number}")
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _cell(height: int, width: int) -> tuple[float, float]:
    longer = max(height, width)
    return CELL * height / longer, CELL * width / longer


def _show(axes: Any, picture: Pictures) -> Any:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes.imshow(picture, interpolation="nearest")


def _finish(figure: Figure, cells: Any, title: str, bar: Bar | None) -> None:
    from matplotlib.cm import ScalarMappable

    figure.suptitle(title, fontsize=10)
    if bar is not None:
        colours = ScalarMappable(cmap=bar.colours)
        legend = figure.colorbar(colours, ax=cells, shrink=0.9, aspect=10 * len(cells), ticks=[0, 0.5, 1])
        legend.set_ticklabels(bar.ticks, fontsize=8)
        legend.set_label(bar.label, fontsize=8)
