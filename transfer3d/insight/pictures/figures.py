"""Figures of a report, drawn by matplotlib as SVG text or PNG bytes.

Colours are Okabe and Ito's (2008), which colour-blind readers can tell apart; every line has its own dash.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from transfer3d.insight.pictures.flow_colours import as_rgb
from transfer3d.insight.pictures.fonts import OWN, font_for
from transfer3d.text import visible

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
OTHERS = "#8a949e"
"""Colour of all bars but the best."""
GREY = "#7a828c"
"""Its contrast ratio is about 4:1 on both black and white."""
LONGEST_NAME = 28
"""Characters of a class or a run that a figure shows."""
Series = Mapping[str, Sequence[tuple[float, float]]]


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, sizes in inches, that belongs to no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure: Figure) -> str:
    """Returns the figure as an `<svg>` element; its text stays text, in the reader's own font."""
    _make_literal(figure)
    for text in _texts(figure):
        text.set_path_effects([])  # they would turn it into paths
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none"}), _without_glyph_warnings():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure, dpi: int = 130) -> bytes:
    """Returns the figure as PNG."""
    buffer = io.BytesIO()
    with drawn_text(figure):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def drawn_text(figure: Figure) -> Iterator[None]:
    """While it is open, the figure can be drawn as pixels: names literally, in fonts with their characters.

    Warns about names for which there is no such font.
    """
    _make_literal(figure)
    for text in _texts(figure):
        if (file := font_for(text.get_text())) != OWN:
            text.get_fontproperties().set_file(file)
    with _without_glyph_warnings():
        yield


def _make_literal(figure: Figure) -> None:
    """Turns off `$` formulas, and makes hidden characters visible: texts hold names of classes and files."""
    for text in _texts(figure):
        text.set_parse_math(False)
        text.set_text(visible(text.get_text()))


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    """Hides matplotlib's warnings of each character: `font_for` warns, and SVG has the reader's fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def set_grey(figure: Figure) -> None:
    """Draws text in a grey that can be read on white and on black, on a transparent background."""
    figure.patch.set_alpha(0)
    for text in _texts(figure):
        text.set_color(GREY)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=GREY)


def _texts(figure: Figure) -> list[Text]:
    texts = list(figure.texts)
    for axes in figure.axes:
        legend = axes.get_legend()
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
        texts += legend.get_texts() if legend else []
    return texts


def short(name: str) -> str:
    """Returns a name, its hidden characters visible, truncated to `LONGEST_NAME`."""
    name = visible(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def draw_bars(axes: Axes, values: Mapping[str, float], *, chance: float, label: str) -> None:
    """Draws one horizontal bar for each name, values and chance on a 0..1 scale."""
    names = list(values)
    percents = [100 * values[name] for name in names]
    axes.barh(names[::-1], percents[::-1], color=[COLOURS[i % len(COLOURS)] for i in range(len(names))][::-1])
    for row, value in enumerate(percents[::-1]):
        axes.text(value + 1, row, f"{value:.1f} %", va="center")
    axes.axvline(100 * chance, color="#555555", linestyle=":")
    axes.set_ylim(-1, len(names) - 0.5)
    axes.text(100 * chance, -0.75, f" chance {100 * chance:.3g} %", color="#555555", va="center", fontsize=8)
    axes.set_xlim(0, max(100 * chance, *percents) * 1.2 + 5)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def draw_intervals(axes: Axes, shares: Mapping[str, tuple[float, float, float]], *, label: str) -> None:
    """Draws a horizontal bar with its interval for each name, the first on top and marked if it is the best.

    Args:
        axes: to draw on.
        shares: value, low and high, 0..1, by name; the best first.
        label: of the axis.
    """
    values = [value for value, _, _ in shares.values()]
    for row, (value, low, high) in enumerate(shares.values()):
        is_best = row == 0 and values.count(value) == 1
        spread = [[100 * (value - low)], [100 * (high - value)]]
        axes.barh(row, 100 * value, height=0.6, color=COLOURS[0] if is_best else OTHERS)
        axes.errorbar(100 * value, row, xerr=spread, color="black", capsize=4, linewidth=1.4)
        axes.text(100 * high + 1.5, row, f"{100 * value:.1f} %{'  best' if is_best else ''}", va="center")
    axes.set_yticks(range(len(shares)), [short(name) for name in shares])
    axes.invert_yaxis()
    axes.set_xlim(0, 100 * max(high for _, _, high in shares.values()) + 18)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def draw_curves(
    axes: Axes, series: Series, *, label: str, percent: bool = False, line: tuple[float, str] | None = None
) -> None:
    """Draws one curve for each name over optimiser steps; `line` is a labelled horizontal one."""
    factor = 100 if percent else 1
    lines = []
    for number, points in enumerate(series.values()):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
        marker = "o" if len(points) == 1 else None
        x, y = [x for x, _ in points], [factor * y for _, y in points]
        lines += axes.plot(x, y, linewidth=1.8, marker=marker, **style)
    if line is not None:
        axes.axhline(factor * line[0], color="#555555", linestyle=":", linewidth=1)
        end = axes.get_xlim()[1]
        axes.text(end, factor * line[0], line[1], color="#555555", fontsize=8, va="bottom", ha="right")
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(label)
    if len(series) > 1:
        axes.legend(lines, [short(name) for name in series], frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_confusion(axes: Axes, confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """Draws a confusion matrix, each row (true class) as shares of its videos."""
    counts = np.asarray(confusion, dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    size = max(5.0, 9 - 0.1 * len(classes))
    names = [short(name) for name in classes]
    axes.set_xticks(
        range(len(classes)), names, fontsize=size, parse_math=False,
        rotation=90, rotation_mode="anchor", ha="right", va="center",  # ends at the axis in every font
    )  # fmt: skip
    axes.set_yticks(range(len(classes)), names, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the class's videos")


def film_strip(clip_CTHW: np.ndarray, *, frames: int = 8, height: int = 96) -> bytes:
    """Returns a clip as a PNG strip of evenly chosen frames with thin, clear gaps.

    Args:
        clip_CTHW: uint8, RGB or optical flow.
        frames: how many are drawn at most.
        height: pixels of the strip, nearly: small frames are enlarged by a whole number without smoothing,
            large ones are made smaller.
    """
    from PIL import Image

    clip_CTHW = as_rgb(clip_CTHW)
    _, total, tall, wide = clip_CTHW.shape
    chosen = np.unique(np.linspace(0, total - 1, min(frames, total)).round().astype(int))
    factor = max(round(height / tall), 1)
    size = (round(wide * height / tall), height) if tall > height else (factor * wide, factor * tall)
    smoothing = Image.Resampling.BOX if tall > height else Image.Resampling.NEAREST
    images = [Image.fromarray(clip_CTHW[:, t].transpose(1, 2, 0)).convert("RGBA") for t in chosen]
    pictures = [np.asarray(image.resize(size, smoothing)) for image in images]
    gap = np.zeros((pictures[0].shape[0], 2, 4), dtype=np.uint8)
    row = [part for picture in pictures for part in (picture, gap)][:-1]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(row, axis=1)).save(buffer, format="png")
    return buffer.getvalue()
