"""Optical flow in grey image files, one of x and one of y for each pair of frames.

Two layouts are supported. TSN's has both in the video's folder, beside the frames if these were kept:
`<video>/flow_x_00001.jpg`, `<video>/flow_y_00001.jpg`. Feichtenhofer's has a folder for each component:
`u/<video>/frame000001.jpg`, `v/<video>/frame000001.jpg`. A video is named by its folder, in the second
layout by the one in `u`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from transfer3d.data.container import BadVideo, faults
from transfer3d.data.pixels import Frames
from transfer3d.data.transcode import decode_picture, is_picture
from transfer3d.errors import DataError

FPS = 25.0  # rate of the original videos in UCF101; the images do not record it
X, Y = "flow_x_", "flow_y_"
U, V = "u", "v"


def flow_folders(root: Path) -> list[Path]:
    """Returns the folders below `root` that contain the flow of one video each, sorted like video files.

    Raises:
        DataError: a folder `u` without `v` beside it, or the reverse; or a video that is only in `v`.
    """
    found = []
    for place, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        folder, names = Path(place), {U, V} & set(below)
        if any(is_component(child) for name in names for child in (folder / name).iterdir()):
            if lacking := {U, V} - names:
                raise DataError(
                    f"{folder} has a folder {min(names)} of flow, no {min(lacking)}. Bring both components."
                )
            videos, partners = (set(_visible_folders(folder / name)) for name in (U, V))
            if alone := sorted(partners - videos):
                raise DataError(
                    f"{folder}: there is {V}/{alone[0]}, no {U}/{alone[0]}. Bring both components."
                )
            found += [folder / U / name for name in videos]
            below[:] = [name for name in below if name not in names]
        elif any(is_picture(Path(name)) and name.startswith((X, Y)) for name in files):
            found.append(folder)
    # Sorted as if a suffix followed, so that shards of frames and of flow have the same order.
    return sorted(found, key=lambda path: (*path.parent.parts, f"{path.name}."))


def _visible_folders(folder: Path) -> list[str]:
    """Returns the names of the folders in it, without hidden ones and stray files such as `.DS_Store`."""
    return [child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]


def read_flow(pairs: Sequence[tuple[Path, Path]], *, name: str) -> Iterator[Frames]:
    """Yields flow [H, W, 2] uint8.

    Args:
        pairs: see `flow_pairs`.
        name: name of the video, for messages.

    Raises:
        BadVideo: an image cannot be decoded, or differs in size from the first.
    """
    size: tuple[int, ...] | None = None
    for pair in pairs:
        with faults(name):
            planes = [_plane(path) for path in pair]
        for path, plane in zip(pair, planes, strict=True):
            size = size or plane.shape
            if plane.shape != size:
                height, width = plane.shape
                raise BadVideo(f"{name}: {path.name} is {width}x{height}, the first is {size[1]}x{size[0]}")
        yield np.stack(planes, axis=-1)


def flow_pairs(folder: Path, *, name: str) -> list[tuple[Path, Path]]:
    """Returns the images of x and y of a folder that `flow_folders` found, ordered by their numbers.

    Args:
        folder: folder of the video.
        name: name of the video, for messages.

    Raises:
        BadVideo: there are none, or the other component of an image is missing.
    """
    if folder.parent.name == U and is_component(folder):
        partner = folder.parent.with_name(V) / folder.name
        if not partner.is_dir():
            raise BadVideo(f"{name}: there is no {partner.parent.name}/{partner.name}")
        places, prefixes = (folder, partner), ("", "")
    else:
        places, prefixes = (folder, folder), (X, Y)
    x, y = (
        {
            path.stem.removeprefix(prefix): path
            for path in sorted(place.glob(f"{prefix}*"))
            if is_picture(path)
        }
        for place, prefix in zip(places, prefixes, strict=True)
    )
    if alone := sorted(x.keys() ^ y.keys()):
        paths = [(x.get(number) or y[number]) for number in alone]
        first = f"{paths[0].parent.name}/{paths[0].name}"
        raise BadVideo(f"{name}: {len(alone)} of its flow pictures have no partner, first {first}")
    if not x:
        raise BadVideo(f"{name}: no pictures of flow in it")
    return [(x[number], y[number]) for number in sorted(x, key=lambda stem: (len(stem), stem))]


def _plane(path: Path) -> Frames:
    return decode_picture(path).reformat(format="gray").to_ndarray().astype(np.uint8, copy=False)


def is_component(folder: Path) -> bool:
    """Whether a folder has images of one component; a class in TSN's layout may also be named u or v."""
    names = [path.name for path in folder.iterdir() if is_picture(path)] if folder.is_dir() else []
    return bool(names) and not any(name.startswith((X, Y)) for name in names)
