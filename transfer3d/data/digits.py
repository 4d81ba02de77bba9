"""Scikit-learn's 1,797 handwritten digits with fixed splits, and the renderer of a scene with a digit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
Background = Literal["weak", "strong", "plain"]
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SHARES: dict[Split, float] = {"train": 0.6, "val": 0.15, "test": 0.25}
GLYPH = 32  # pixels of an enlarged drawing, without its empty border of one pixel
SLIGHT_TURN = 0.35  # radians
EXTENT = 0.42  # side of a drawing at scale 1, as a share of the frame's


@dataclass(frozen=True)
class Scene:
    """The content of T frames of a video.

    Attributes:
        glyph: the drawing, [34, 34] in 0..1.
        centre: centre of the digit, [T, 2] as (row, column), shares of the frame.
        angle: [T], radians.
        scale: [T], 1 is `EXTENT` of the frame.
        colour: colour of the digit, [3] in 0..255.
        background: [S, S, 3] in 0..255.
    """

    glyph: Floats
    centre: Floats
    angle: Floats
    scale: Floats
    colour: Floats
    background: Floats


@cache
def _digits() -> tuple[Floats, NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (np.reshape(images, (-1, 8, 8)) / 16).astype(np.float32), np.asarray(labels, np.int64)


@cache
def drawings(split: Split, digit: int) -> tuple[int, ...]:
    """Returns a digit's drawings in a split, which do not depend on a seed, so that splits never overlap."""
    members = np.flatnonzero(_digits()[1] == digit)
    members = np.random.default_rng(digit).permutation(members)
    ends = np.floor(np.cumsum(list(SHARES.values())) * len(members) + 0.5).astype(int)
    place = list(SHARES).index(split)
    return tuple(members[ends[place - 1] if place else 0 : ends[place]].tolist())


@cache
def glyph(drawing: int) -> Floats:
    """Returns a drawing enlarged smoothly to 32 x 32, with an empty border, [34, 34] in 0..1."""
    enlarge = _enlarger(8, GLYPH)
    large = enlarge @ _digits()[0][drawing] @ enlarge.T
    return np.pad(large.clip(0, 1), 1)


def backdrop(kind: Background, size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws a digit's colour [3] and a background [size, size, 3], both in 0..255.

    "weak" is dim and nearly grey; "strong" is vivid and unique to a video, which it therefore identifies.
    """
    cells = rng.uniform(-1, 1, (6, 6, 3))
    tone = rng.uniform(0, 1, 3)
    tint = rng.uniform(0, 1, 3)
    if kind == "plain":
        return np.full(3, 255, np.float32), np.zeros((size, size, 3), np.float32)
    if kind == "weak":
        base, swing, colour = 30 + 30 * tone[:1], 12.0, 205 + 50 * tint
    else:
        base, swing = 20 + 120 * tone, 70.0
        colour = 130 + 125 * tint
    enlarge = _enlarger(6, size)
    rows = np.tensordot(enlarge, cells.astype(np.float32), 1)
    texture = np.tensordot(enlarge, rows, (1, 1)).swapaxes(0, 1) * swing + base
    return colour.astype(np.float32), texture.clip(0, 255).astype(np.float32)


def render(scene: Scene, size: int) -> Pixels:
    """Draws the digit over the background, [T, size, size, 3] uint8."""
    scale = scene.scale * (EXTENT * size / GLYPH)  # frame pixels per pixel of the drawing
    # Half the side of a box around the digit: at most half its diagonal; less for slight rotations.
    half = 0.65 if float(np.abs(scene.angle).max()) < SLIGHT_TURN else 0.71
    reach = int(np.ceil(GLYPH * float(scale.max()) * half)) + 1
    corner = np.floor(scene.centre * size).astype(int) - reach
    middle = (scene.centre * size - corner).astype(np.float32)
    ink = _ink(scene, middle, scale, 2 * reach + 1)[..., None]
    backdrop = np.pad(scene.background, ((reach, reach), (reach, reach), (0, 0)))
    canvas = np.repeat(_rounded(backdrop)[None], len(ink), 0)
    for t, (row, column) in enumerate(corner + reach):
        box = slice(row, row + 2 * reach + 1), slice(column, column + 2 * reach + 1)
        canvas[t][box] = _rounded(backdrop[box] + (scene.colour - backdrop[box]) * ink[t])
    return canvas[:, reach : reach + size, reach : reach + size]


def _ink(scene: Scene, middle: Floats, scale: Floats, side: int) -> Floats:
    """Returns the coverage of each pixel of a box by the digit at `middle` [T, 2], [T, side, side] in 0..1.

    Each pixel is mapped back to the drawing by the inverse rotation and scale, then interpolated bilinearly.
    """
    pixel = np.arange(side, dtype=np.float32) + 0.5
    dy, dx = (pixel - middle[:, axis, None] for axis in (0, 1))
    cosine, sine = (np.cos(scene.angle) / scale)[:, None], (np.sin(scene.angle) / scale)[:, None]
    last = GLYPH + 0.999
    v = (cosine * dy + (GLYPH / 2 + 0.5))[:, :, None] - (sine * dx)[:, None, :]
    u = (sine * dy + (GLYPH / 2 + 0.5))[:, :, None] + (cosine * dx)[:, None, :]
    np.clip(v, 0, last, out=v)
    np.clip(u, 0, last, out=u)
    y, x = v.astype(np.int32), u.astype(np.int32)
    v -= y
    u -= x
    corner = y * (GLYPH + 2) + x
    flat = scene.glyph.ravel()
    top = flat[corner] + (flat[corner + 1] - flat[corner]) * u
    below = corner + (GLYPH + 2)
    bottom = flat[below] + (flat[below + 1] - flat[below]) * u
    return (top + (bottom - top) * v).astype(np.float32, copy=False)


def _rounded(values: Floats) -> Pixels:
    return (values + np.float32(0.5)).astype(np.uint8)


@cache
def _enlarger(small: int, large: int) -> Floats:
    """Returns the [large, small] matrix of Catmull-Rom interpolation of pixel centres, edges repeated."""
    position = (np.arange(large) + 0.5) * small / large - 0.5
    base = np.floor(position).astype(int)
    t = position - base
    weights = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (-(t**2) + t**3) / 2,
    )
    matrix: Floats = np.zeros((large, small), np.float32)
    for offset, weight in enumerate(weights, start=-1):
        np.add.at(matrix, (np.arange(large), (base + offset).clip(0, small - 1)), weight)
    return matrix
