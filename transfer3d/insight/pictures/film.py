"""Clips as pictures: a strip of frames side by side, and the same in motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from transfer3d.insight.pictures.figures import drawn_text, new_figure, set_grey, to_png

Pictures = NDArray[np.uint8]
CELL = 1.05
"""Inches of a frame's longer side in a strip."""
GAP = 1 / 16
"""Between frames, as a share of their longer side."""
DPI = 100
PAGE_FRAMES = 5  # of a strip that a phone shows
PAGE_LETTERS = 14  # points, before a phone halves them
CLEAR = (255, 255, 255, 0)


@dataclass(frozen=True)
class Bar:
    """The legend of a colour scale.

    Attributes:
        colours: name of matplotlib's colour map.
        label: written beside it.
        ticks: what the lowest, the middle and the highest colour mean.
    """

    colours: str
    label: str
    ticks: tuple[str, str, str]


def strip(
    rows: Mapping[str, Pictures],
    *,
    title: str,
    bar: Bar | None = None,
    frames: int = 8,
    for_page: bool = False,
) -> bytes:
    """Returns a PNG: evenly chosen frames of each row from left to right, numbered from 0.

    Args:
        rows: clips uint8 [T, H, W, 3] of one length and size, by the name written beside them.
        title: above them.
        bar: the legend of their colours.
        frames: how many are drawn at most.
        for_page: for HTML pages in light and dark mode, also on a phone: few frames, large grey text, a
            transparent background, no title and no legend, which are in the caption.
    """
    total = len(next(iter(rows.values())))
    most = min(frames, PAGE_FRAMES if for_page else frames, total)
    chosen = np.unique(np.linspace(0, total - 1, most).round().astype(int)).tolist()
    cells = [[clip[number] for number in chosen] for clip in rows.values()]
    numbers = [f"frame {number}" for number in chosen]
    if for_page:
        title, bar = "", None
    frame_grid = _draw(cells, list(rows), numbers, title=title, bar=bar, cell=CELL, margin=0.7)
    if for_page:
        set_grey(frame_grid.figure)
        frame_grid.axes.tick_params(labelsize=PAGE_LETTERS)
    return to_png(frame_grid.figure, dpi=DPI)


def motion(
    rows: Mapping[str, Sequence[Pictures]],
    columns: Sequence[str],
    *,
    title: str,
    bar: Bar | None = None,
    cell: float = 2.2,
) -> Iterator[Pictures]:
    """Yields the pictures [H, W, 3] of a moving figure, one for each frame.

    Args:
        rows: clips uint8 [T, H, W, 3] of one length and size, one for each column, by the row's name.
        columns: names.
        title: above all.
        bar: the legend of their colours.
        cell: inches of a frame's longer side.
    """
    frame_grid = None
    for number in range(len(next(iter(rows.values()))[0])):
        cells = [[clip[number] for clip in clips] for clips in rows.values()]
        if frame_grid is None:
            frame_grid = _draw(cells, list(rows), columns, title=title, bar=bar, cell=cell, margin=1.1)
        frame_grid.image.set_data(_tile(cells))
        frame_grid.axes.set_xlabel(f"frame {number}", fontsize=9)
        yield frame_grid.pixels()


class _FrameGrid(NamedTuple):
    """A grid of images, drawn as one image for speed."""

    figure: Figure
    axes: Axes
    image: AxesImage

    def pixels(self) -> Pictures:
        """Returns the figure as [H, W, 3]."""
        canvas: Any = self.figure.canvas
        with drawn_text(self.figure):
            canvas.draw()
        self.figure.set_layout_engine("none")  # from now on nothing moves but the frames
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw(
    cells: Sequence[Sequence[Pictures]],
    names: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    bar: Bar | None,
    cell: float,
    margin: float,
) -> _FrameGrid:
    """Draws pictures [H, W, 3] in rows and columns with their names; around them are `margin` inches."""
    height, width, gap = _sizes(cells)
    inches = cell / max(height, width)
    down, right = ((side + gap) * inches for side in (height, width))
    figure = new_figure(max(right * len(columns) + 1.5, 4.2), down * len(names) + margin)
    figure.set_dpi(DPI)
    axes = figure.subplots()
    image = axes.imshow(_tile(cells), interpolation="nearest")
    axes.set_xticks([(width + gap) * n + width / 2 for n in range(len(columns))], columns, fontsize=9)
    axes.set_yticks(
        [(height + gap) * n + height / 2 for n in range(len(names))],
        names,
        fontsize=9,
        rotation=90,
        va="center",
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    if bar is not None:
        legend = figure.colorbar(ScalarMappable(cmap=bar.colours), ax=axes, shrink=0.9, ticks=[0, 0.5, 1])
        legend.set_ticklabels(bar.ticks, fontsize=8)
        legend.set_label(bar.label, fontsize=8)
    return _FrameGrid(figure, axes, image)


def _tile(cells: Sequence[Sequence[Pictures]]) -> Pictures:
    """Arranges pictures in a grid [H, W, 4] with clear gaps."""
    height, width, gap = _sizes(cells)
    shape = ((height + gap) * len(cells) - gap, (width + gap) * len(cells[0]) - gap, 4)
    table = np.full(shape, CLEAR, dtype=np.uint8)
    for down, row in enumerate(cells):
        for right, picture in enumerate(row):
            top, left = down * (height + gap), right * (width + gap)
            table[top : top + height, left : left + width, :3] = picture
            table[top : top + height, left : left + width, 3] = 255
    return table


def _sizes(cells: Sequence[Sequence[Pictures]]) -> tuple[int, int, int]:
    height, width = cells[0][0].shape[:2]
    return height, width, max(round(GAP * max(height, width)), 1)
