"""Heat over frames, in colours that colour-blind readers can order: matplotlib's inferno, dark is cold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import matplotlib
import numpy as np
from numpy.typing import NDArray

from transfer3d.insight.pictures.film import Bar, Pictures, motion, strip
from transfer3d.insight.pictures.flow_colours import as_rgb

COLOURS = "inferno"
TICKS = ("none", "half", "most")
OPACITY = (0.3, 0.75)
"""Of the coldest and of the hottest colour."""
CLIP_NDIM = 4  # C T H W
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def overlay(pictures: Pictures, heat: NDArray[np.float32]) -> Pictures:
    """Lays heat over frames that are turned grey, so that only the heat has colours.

    Args:
        pictures: uint8 [..., H, W, 3].
        heat: [..., H, W], 0..1.
    """
    grey = (pictures / 255 @ np.array(LUMA))[..., None]
    colours = matplotlib.colormaps[COLOURS](heat)[..., :3]
    opacity = np.interp(heat, (0, 1), OPACITY)[..., None]
    return (255 * ((1 - opacity) * grey + opacity * colours)).round().astype(np.uint8)


Heat = NDArray[np.float32]


def heat_strip(
    clip_u8: NDArray[np.uint8],
    heats: Heat | Mapping[str, Heat],
    *,
    title: str,
    label: str,
    for_page: bool = False,
) -> bytes:
    """Returns a film strip as PNG: the frames above, each heat over them below; of each unit in turn.

    Args:
        clip_u8: RGB or optical flow, C T H W or U C T H W.
        heats: T H W or U T H W, 0..1: one, or several by name.
        title: above it.
        label: what the heat means.
        for_page: see `strip`.
    """
    columns = ("video", *_named(heats))
    rows = {
        f"{name} {column}".strip(): pictures
        for name, unit in _units(clip_u8, _named(heats)).items()
        for column, pictures in zip(columns, unit, strict=True)
    }
    return strip(rows, title=title, bar=Bar(COLOURS, label, TICKS), for_page=for_page)


def heat_film(
    clip_u8: NDArray[np.uint8], heats: Heat | Mapping[str, Heat], *, title: str, label: str
) -> Iterator[Pictures]:
    """Yields the same in motion: the clip at the left, the heat at the right, a row for each unit.

    Args:
        clip_u8: see `heat_strip`.
        heats: see `heat_strip`.
        title: see `heat_strip`.
        label: see `heat_strip`.
    """
    units = _units(clip_u8, _named(heats))
    bar = Bar(COLOURS, label, TICKS)
    return motion(
        units, ("video", *_named(heats)), title=title, bar=bar, cell=2.2 if len(units) == 1 else 1.3
    )


def _named(heats: Heat | Mapping[str, Heat]) -> Mapping[str, Heat]:
    return heats if isinstance(heats, Mapping) else {"heat": heats}


def _units(clip_u8: NDArray[np.uint8], heats: Mapping[str, Heat]) -> dict[str, list[Pictures]]:
    """Returns frames, and each heat over them, of each unit by its name; a single one has none."""
    units = 1 if clip_u8.ndim == CLIP_NDIM else len(clip_u8)
    clip_u8 = as_rgb(clip_u8)
    clips = clip_u8.reshape(units, *clip_u8.shape[-4:]).transpose(0, 2, 3, 4, 1)
    warm = [heat.reshape(units, *heat.shape[-3:]) for heat in heats.values()]
    names = [""] if units == 1 else [f"unit {number}" for number in range(units)]
    return {
        name: [clips[number], *(overlay(clips[number], heat[number]) for heat in warm)]
        for number, name in enumerate(names)
    }
