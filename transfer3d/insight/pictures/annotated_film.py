"""A video with a student's predictions below: the current probabilities, and a timeline of the video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from transfer3d.evaluation.stream import Prediction
from transfer3d.insight.pictures.film import Pictures
from transfer3d.insight.pictures.fonts import OWN, font_for
from transfer3d.insight.pictures.overlay import LUMA
from transfer3d.insight.pictures.timeline import OTHERS, find_leaders
from transfer3d.text import shortened, visible

SMALLEST, LARGEST = 240, 1920
"""Pixels: small films are enlarged to the first on their short side, large ones reduced to the second on the
long one."""
NARROWEST = 480  # pixels that the text needs
FONT = (48, 13, 26)
"""The width in font sizes, and the smallest and the largest font size in pixels."""
BACKGROUND, INK, DIM, GREY = "#111111", "#f2f2f2", "#a0a0a0", "#333333"
TOP = 3  # classes that are named at any time
LONGEST = 300  # characters that are measured
LIGHT = 140  # luma above which a colour needs dark letters
GAP = 8  # pixels between pictures


class AnnotatedFilm:
    """Draws the frames of one video, each as a picture of the same, even size.

    Args:
        height: of the video's pictures, pixels.
        width: of the video's pictures.
        predictions: of the whole video, in the order of time, at least one.
        classes: names of the scores.
        columns: pictures side by side.
        caption: gives the line above the probabilities, for the number of a prediction; None = no such line.
    """

    def __init__(
        self,
        height: int,
        width: int,
        predictions: Sequence[Prediction],
        classes: Sequence[str],
        *,
        columns: int = 1,
        caption: Callable[[int], str] | None = None,
    ) -> None:
        self._size = _enlarged(height, width)
        total = columns * (self._size[1] + GAP) - GAP
        self._width = _even(max(total, NARROWEST))
        self._left = (self._width - total) // 2
        self._predictions, self._classes, self._caption = predictions, classes, caption
        self._leaders = find_leaders(predictions)
        share, least, largest = FONT
        self._em = min(max(self._width // share, least), largest)
        self._rows = min(TOP, len(classes)) + (caption is not None)
        self._row, self._pad = round(1.6 * self._em), round(0.7 * self._em)
        self._graph_top = self._pad + self._rows * self._row + self._pad
        self._band_top = self._graph_top + 2 * self._row
        self._panel_height = self._band_top + 2 * self._row + self._pad // 2
        self._height = _even(self._size[0] + self._panel_height)
        self._timeline = self._draw_timeline()
        self._panel = lru_cache(1)(self._draw_panel)

    def frame(self, pictures: Sequence[Pictures], time_s: float) -> Pictures:
        """Returns the picture [H, W, 3] of one moment.

        Args:
            pictures: uint8 [height, width, 3], one for each column.
            time_s: seconds since the first frame.
        """
        film = Image.new("RGB", (self._width, self._height), BACKGROUND)
        height, width = self._size
        for number, pixels in enumerate(pictures):
            smaller = pixels.shape[0] > height
            method = Image.Resampling.BILINEAR if smaller else Image.Resampling.NEAREST
            picture = Image.fromarray(pixels).resize((width, height), method)
            film.paste(picture, (self._left + number * (width + GAP), 0))
        panel = self._panel(self._leaders.at(time_s)).copy()
        draw, x = ImageDraw.Draw(panel), self._x(time_s)
        draw.line([(x, self._graph_top), (x, self._band_top + self._row)], INK, width=max(self._em // 6, 3))
        clock = f"{_clock(time_s)} / {_clock(self._leaders.edges[-1])}"
        below = self._pad, self._band_top + self._row + self._pad // 2
        draw.text(below, clock, DIM, _font(OWN, self._em))
        film.paste(panel, (0, height))
        return np.asarray(film)

    def _x(self, time_s: float) -> int:
        first, last = self._leaders.edges[0], self._leaders.edges[-1]
        share = (time_s - first) / max(last - first, 1e-9)
        return round(self._pad + min(max(share, 0), 1) * (self._width - 2 * self._pad))

    def _draw_timeline(self) -> Image.Image:
        """Returns an empty panel with the timeline: how likely the leader is, and which class it is."""
        panel = Image.new("RGB", (self._width, self._panel_height), BACKGROUND)
        draw, leaders = ImageDraw.Draw(panel), self._leaders
        bottom = self._band_top - 2
        for number, prediction in enumerate(self._predictions):
            k = leaders.classes[number]
            left, right = self._x(leaders.edges[number]), self._x(leaders.edges[number + 1])
            top = bottom - round(float(prediction.scores_K[k]) * (bottom - self._graph_top))
            draw.rectangle([left, self._graph_top, right, bottom], GREY)
            draw.rectangle([left, top, right, bottom], leaders.colours.get(k, OTHERS))
        for k, start, end in leaders.stretches:
            colour = leaders.colours.get(k, OTHERS)
            left, right = self._x(start), self._x(end)
            draw.rectangle([left, self._band_top, max(right - 2, left), self._band_top + self._row], colour)
            name, font = self._line(self._classes[k], right - left - self._em)
            middle = (left + right) / 2, self._band_top + self._row / 2
            draw.text(middle, name, _ink_on(colour), font, anchor="mm")
        return panel

    def _draw_panel(self, number: int) -> Image.Image:
        """Returns the panel while a prediction holds; a film draws each once, one after the other."""
        panel = self._timeline.copy()
        draw, top = ImageDraw.Draw(panel), self._pad
        if self._caption is not None:
            line, font = self._line(self._caption(number), self._width - 2 * self._pad)
            draw.text((self._pad, top + self._em // 2), line, DIM, font, anchor="lm")
            top += self._row
        scores_K = self._predictions[number].scores_K
        best = scores_K.topk(min(TOP, len(self._classes)))
        left, right = round(0.42 * self._width), self._width - self._pad - 4 * self._em
        labels: list[int] = best.indices.tolist()
        for k, score in zip(labels, best.values.tolist(), strict=True):
            middle, (name, font) = top + self._em // 2, self._line(self._classes[k], left - 2 * self._pad)
            draw.text((self._pad, middle), name, INK, font, anchor="lm")
            draw.rectangle([left, top, right, top + self._em], GREY)
            colour = self._leaders.colours.get(k, OTHERS)
            draw.rectangle([left, top, left + round(score * (right - left)), top + self._em], colour)
            end = self._width - self._pad, middle
            draw.text(end, f"{score:.1%}", INK, _font(OWN, self._em), anchor="rm")
            top += self._row
        return panel

    def _line(self, text: str, width: float) -> tuple[str, ImageFont.FreeTypeFont]:
        """Returns a name as one line of at most `width` pixels, its end cut off if need be, and its font."""
        line = visible(" ".join(shortened(text, LONGEST).split()))
        font = _font(font_for(line), self._em)
        if font.getlength(line) <= width:
            return line, font
        while line and font.getlength(f"{line}…") > width:
            line = line[:-1]
        return f"{line}…" if line else "", font


@cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    """Returns a font of a size in pixels; where Pillow can, it joins and orders letters as they are read."""
    return ImageFont.truetype(file, size)


def _enlarged(height: int, width: int) -> tuple[int, int]:
    """Returns the size in which pictures are shown: enlarged by a whole number, or reduced."""
    short, long = sorted((height, width))
    if long > LARGEST:
        return max(round(height * LARGEST / long), 1), max(round(width * LARGEST / long), 1)
    factor = max(min(-(-SMALLEST // short), LARGEST // long), 1)
    return factor * height, factor * width


def _even(size: int) -> int:
    return size + size % 2


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f"{minutes:.0f}:{seconds:04.1f}"


def _ink_on(colour: str) -> str:
    red_green_blue = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return BACKGROUND if np.dot(red_green_blue, LUMA) > LIGHT else INK
