"""The built-in dataset: handwritten digits that move, rotate and change size, as H.264 files and shards.

A class is digit x motion, 40 in total. A digit that leaves the frame re-enters at the opposite side, so its
position in a single frame is uniform whatever the motion: a frame is independent of the motion, and the
motion of the digit. No drawing is in two splits, and the unlabelled videos use drawings of `train` only. A
video's frames are a pure function of (seed, split, index).
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from transfer3d.data.digits import EXTENT, Background, Pixels, Scene, Split, backdrop, drawings, glyph, render
from transfer3d.data.shard_writer import Sample, write_index, write_shards
from transfer3d.data.shards import INDEX
from transfer3d.errors import UsageError
from transfer3d.files import (
    LOCK,
    Lock,
    is_temporary,
    partial_path,
    read_json,
    refuse_links,
    remove_partials,
    why_no_file,
    write_text,
)
from transfer3d.progress import Meter, progress

Part = Literal["train", "val", "test", "unlabelled"]
Poses = Literal["slight", "free"]

PARTS: tuple[Part, ...] = ("train", "val", "test", "unlabelled")
MOTIONS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}
CLASSES = tuple(f"{digit}_{motion}" for digit in range(10) for motion in MOTIONS)
FPS = 12
MARKER = "synth.json"
FOLDERS = ("videos", "images", "shards")


class PoseRange(NamedTuple):
    """The range of the digits' poses, and the space that they need."""

    turn_degrees: float
    smallest: float
    reach: float  # from the centre, as a share of the drawing's side


POSES: dict[Poses, PoseRange] = {"slight": PoseRange(12, 0.85, 0.6), "free": PoseRange(40, 0.6, 0.7)}


class SynthConfig(BaseModel):
    """The configuration of `synthesise`.

    Attributes:
        seed: seed of everything but the split of the drawings, which is fixed.
        background: "weak" is dim, "plain" black, "strong" unique to each video.
        poses: variation of the digits: "slight" rotates by up to 12 degrees and scales to 85..100 % of the
            full size; "free" by up to 40 degrees, to 60..100 %, which is harder to learn from few videos.
        frames: per video.
        size: H and W of a video, pixels, even.
        train: videos per class, 40 classes.
        val: videos per class.
        test: videos per class.
        unlabelled: videos in total.
        stills: still images per digit and split, as PNG files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0)
    background: Background = "weak"
    poses: Poses = "slight"
    frames: int = Field(default=16, ge=2)
    size: int = Field(default=64, ge=16, multiple_of=2)
    train: int = Field(default=25, ge=1)
    val: int = Field(default=5, ge=0)
    test: int = Field(default=10, ge=0)
    unlabelled: int = Field(default=2000, ge=0)
    stills: int = Field(default=20, ge=0)

    def count(self, part: Part) -> int:
        """Returns the number of videos of a part."""
        return self.unlabelled if part == "unlabelled" else getattr(self, part) * len(CLASSES)


def synthesise(
    directory: Path, config: SynthConfig, console: Console | None = None, *, wait: bool = False
) -> None:
    """Writes the dataset; keeps a finished one with the same configuration and rewrites an unfinished one.

    `videos/{train,val,test}/<class>/*.mp4` and `videos/unlabelled/*.mp4`,
    `images/{train,val,test}/<digit>/*.png`, and `shards/` with their index, which is written last.

    Args:
        directory: a new or empty folder, or that of an earlier call.
        config: number and kind of the videos.
        console: for progress; None = no progress.
        wait: wait while another process writes the dataset, and keep what it wrote.

    Raises:
        UsageError: `directory` contains something else, or a dataset with another configuration.
        SetupError: another process writes the dataset and `wait` is off, or `directory` cannot be written.
    """
    if _is_finished(directory, config):  # needs no lock, which a folder that is read-only could not have
        return
    with closing(Lock(directory / LOCK, str(directory), wait=wait, remedy="give another folder")):
        if not _is_finished(directory, config):  # while this process waited
            _write(directory, config, console or Console(quiet=True))


def _is_finished(directory: Path, config: SynthConfig) -> bool:
    """Whether the folder has the whole dataset; raises UsageError if it has something else."""
    marker = directory / MARKER
    expected = config.model_dump(mode="json")
    if directory.exists() and not directory.is_dir():
        what = "is a file" if directory.is_file() else why_no_file(directory)
        raise UsageError(f"{directory} {what}. Give a new folder.")
    if marker.exists():
        try:
            stored = read_json(marker)
        except ValueError:
            stored = None
        # Before this option existed, all poses were slight.
        if not isinstance(stored, dict) or {"poses": "slight", **stored} != expected:
            raise UsageError(f"{directory} holds another moving-digits set. Give a new folder.")
        return (directory / "shards" / INDEX).exists()
    if directory.exists() and not all(is_temporary(path.name) for path in directory.iterdir()):
        raise UsageError(f"{directory} is not empty and not a moving-digits set. Give a new folder.")
    return False


def _write(directory: Path, config: SynthConfig, console: Console) -> None:
    refuse_links(directory, FOLDERS)
    remove_partials(directory)
    expected = config.model_dump(mode="json")
    write_text(directory / MARKER, json.dumps(expected, indent=2) + "\n")
    for name in FOLDERS:
        shutil.rmtree(directory / name, ignore_errors=True)

    _write_images(directory / "images", config)
    shards = []
    with progress("moving digits", sum(map(config.count, PARTS)), console=console) as meter:
        for part in PARTS:
            samples = _samples(config, part, directory / "videos" / part, meter)
            shards += write_shards(directory / "shards", "digits", part, samples)
    write_index(directory / "shards", "digits", shards, classes=CLASSES, source=f"moving digits {expected}")


@dataclass(frozen=True)
class DigitVideo:
    """One video before it is encoded.

    Attributes:
        frames: [T, H, W, 3] uint8.
        label: class, None if unlabelled.
        drawing: index of its drawing, of 1,797.
    """

    frames: Pixels
    label: int | None
    drawing: int


def draw_video(config: SynthConfig, part: Part, index: int) -> DigitVideo:
    """Draws one video; consecutive indices have consecutive classes."""
    rng = np.random.default_rng((config.seed, PARTS.index(part), index))
    label = None if part == "unlabelled" else index % len(CLASSES)
    digit, motion = divmod(int(rng.integers(len(CLASSES))) if label is None else label, len(MOTIONS))
    drawing = int(rng.choice(drawings("train" if part == "unlabelled" else part, digit)))
    way = tuple(MOTIONS.values())[motion]
    scene = _scene(drawing, way, config.frames, config.size, config.background, config.poses, rng)
    return DigitVideo(render(scene, config.size), label, drawing)


def still_digits(
    split: Split,
    *,
    seed: int = 0,
    size: int = 64,
    background: Background = "weak",
    poses: Poses = "slight",
    count: int | None = None,
) -> tuple[Pixels, NDArray[np.int64]]:
    """Returns images of digits at random positions, to train a 2D teacher.

    Args:
        split: split of the drawings, as for the videos of that split.
        seed: for positions, rotations, sizes and colours.
        size: H and W, pixels.
        background: as for the videos.
        poses: as for the videos.
        count: number of images N, balanced over the digits; by default one per drawing.

    Returns:
        Images [N, 3, H, W] uint8 and digits [N] int64.
    """
    if count is None:
        count = sum(len(drawings(split, digit)) for digit in range(10))
    images = np.empty((count, 3, size, size), np.uint8)
    for i in range(count):
        rng = np.random.default_rng((seed, 100 + PARTS.index(split), i))
        members = drawings(split, i % 10)
        scene = _scene(members[i // 10 % len(members)], (0, 0), 1, size, background, poses, rng)
        images[i] = render(scene, size)[0].transpose(2, 0, 1)
    return images, np.arange(count, dtype=np.int64) % 10


def _scene(
    drawing: int,
    way: tuple[int, int],
    frames: int,
    size: int,
    background: Background,
    poses: Poses,
    rng: np.random.Generator,
) -> Scene:
    """Draws all random properties of a video except its drawing and its motion."""
    colour, backdrop_u8 = backdrop(background, size, rng)
    time = np.arange(frames) - (frames - 1) / 2
    speed = rng.uniform(0.015, 0.03)  # shares of the frame, per frame
    most, smallest, reach = POSES[poses]
    margin = reach * EXTENT  # keeps a rotated and enlarged digit within the frame
    room = 1 - 2 * margin
    start = rng.uniform(0, room, 2)
    centre = margin + (start + time[:, None] * speed * np.asarray(way)) % room
    # Each is drawn twice: its value in the middle of the video, and its change over the video.
    turn = rng.uniform((-most, -12), (most, 12))  # degrees
    growth = rng.uniform((smallest, -0.1), (1.0, 0.1))
    part = time / max(frames - 1, 1)
    return Scene(
        glyph(drawing),
        centre.astype(np.float32),
        np.radians(turn[0] + turn[1] * part).astype(np.float32),
        (growth[0] + growth[1] * part).astype(np.float32),
        colour,
        backdrop_u8,
    )


def _samples(config: SynthConfig, part: Part, folder: Path, meter: Meter) -> Iterator[Sample]:
    """Generates the videos of a part, writes each to its class folder, and yields it for the shards.

    The videos are in shuffled order, for readers that stream the shards.
    """
    count = config.count(part)
    order = np.random.default_rng((config.seed, 200, PARTS.index(part))).permutation(count).tolist()
    partial = partial_path(folder)
    for name in (".",) if part == "unlabelled" else CLASSES:
        (partial / name).mkdir(parents=True)

    def make(index: int) -> tuple[DigitVideo, bytes]:
        video = draw_video(config, part, index)
        return video, encode_mp4(video.frames, fps=FPS)

    # Encoding releases the GIL, so threads suffice; their results are in order.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, (video, encoded) in zip(order, pool.map(make, order), strict=True):
            key = f"{part}-{index:06d}"
            (partial / ("." if video.label is None else CLASSES[video.label]) / f"{key}.mp4").write_bytes(
                encoded
            )
            info = {"drawing": video.drawing, "fps": FPS, "size": config.size}
            yield Sample(key, encoded, "mp4", video.label, source=key, frames=config.frames, info=info)
            meter.update()
    partial.rename(folder)


def encode_mp4(frames: Pixels, *, fps: int, **options: str) -> bytes:
    """Encodes frames [T, H, W, 3] as H.264 in MP4, the same bytes for the same frames.

    By default every eighth frame is a key frame, without B-frames, so that random access is cheap.
    """
    file = io.BytesIO()
    quality = {"preset": "veryfast", "tune": "zerolatency", "crf": "20", "g": "8", "bf": "0"} | options
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=quality | {"threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _write_images(folder: Path, config: SynthConfig) -> None:
    for split in ("train", "val", "test"):
        images, digits = still_digits(
            split,
            seed=config.seed,
            size=config.size,
            background=config.background,
            poses=config.poses,
            count=10 * config.stills,
        )
        for i, (image, digit) in enumerate(zip(images, digits, strict=True)):
            path = folder / split / str(digit) / f"{split}-{i:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
