"""Damaged videos: how many are refused, and how many decode to other pixels, or to fewer frames, silently.

    python tools/damage.py FOLDER              # of videos: 250 mutants of each kind, some minutes
    python tools/damage.py FOLDER --each 1000 --seed 1

A clip is cut from each of the first videos and encoded in five codecs, each in its usual container. A mutant
is a copy with bits flipped, with bytes replaced, with a block of zeros, with a block cut out, or without its
end. All settings of FFmpeg's decoders decode the same mutants, in children with limits. Prints Markdown.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple, cast

import av
import numpy as np
import typer
from av.video.stream import VideoStream

from transfer3d.data import container
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video
from transfer3d.data.folder import videos_under
from transfer3d.data.isolated import Fault, Limits, isolated_map

FRAMES, HEIGHT, WIDTH, SOURCES, GOP = 24, 96, 128, 3, 12
KINDS = {
    "H.264 in MP4": ("mp4", "libx264", "yuv420p"),
    "HEVC in Matroska": ("matroska", "libx265", "yuv420p"),
    "VP9 in WebM": ("webm", "libvpx-vp9", "yuv420p"),
    "MPEG-4 in AVI": ("avi", "mpeg4", "yuv420p"),
    "Motion JPEG in AVI": ("avi", "mjpeg", "yuvj420p"),
}
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "FFmpeg's own": {"err_detect": "0"},
    "crccheck": {"err_detect": "crccheck"},
    "bitstream": {"err_detect": "bitstream"},
    "buffer": {"err_detect": "buffer"},
    "explode": {"err_detect": "explode"},
    "careful": {"err_detect": "careful"},
    "aggressive": {"err_detect": "aggressive"},
    "all + explode": {"err_detect": "crccheck+bitstream+buffer+explode+careful+compliant+aggressive"},
    "no concealment": {"ec": "0"},
}
CHECKS = ("corrupt packets", "the header's count")
"""Beside the decoder: packets that the demuxer marks, and fewer packets than the file's header promises."""
OUTCOMES = ("refused", "same pixels", "fewer frames", "other pixels", "crashed or hung")


class Job(NamedTuple):
    """A mutant, and the digest of each frame of the file that it was."""

    file: bytes
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """A sound file, its kind and its frames' digests."""

    kind: str
    job: Job


def outcomes(job: Job, settings: dict[str, dict[str, str]]) -> list[str]:
    """Returns what comes of a mutant under each setting; runs in a child."""
    sound, found = container.CODEC_OPTIONS, []
    for options in settings.values():
        container.CODEC_OPTIONS = sound | options
        try:
            digests = digests_of(job.file)
        except BadVideo:
            found.append("refused")
        else:
            same = "same pixels" if digests == job.digests else "other pixels"
            found.append("fewer frames" if len(digests) < len(job.digests) else same)
    container.CODEC_OPTIONS = sound
    return [*found, *(found[0] if passes else "refused" for passes in checks(job.file, found[0]))]


def checks(file: bytes, outcome: str) -> list[bool]:
    """Returns whether a mutant passes each of `CHECKS`; what is refused already passes none."""
    if outcome == "refused":
        return [False] * len(CHECKS)
    with container.open_container(file) as opened:
        stream = container.video_stream(opened, "mutant")
        packets = [packet for packet in opened.demux(stream) if packet.size]
        return [not any(packet.is_corrupt for packet in packets), len(packets) >= stream.frames]


def digests_of(file: bytes) -> tuple[str, ...]:
    """Decodes all frames as `check` and training do, and returns the digest of each.

    Raises:
        BadVideo: the file is refused.
    """
    with Video(file, name="mutant") as video:
        return tuple(hashlib.sha256(frame.tobytes()).hexdigest() for frame in video.stream())


def clips(folder: Path) -> Iterator[Clip]:
    """Yields each source in each kind."""
    for path in videos_under(folder)[:SOURCES]:
        with av.open(str(path)) as opened:
            pictures = [
                frame.reformat(WIDTH, HEIGHT, format="rgb24").to_ndarray()
                for frame in islice(opened.decode(video=0), FRAMES)
            ]
        for kind, (form, codec, pix_fmt) in KINDS.items():
            file = io.BytesIO()
            with av.open(file, "w", format=form) as out:
                options = {"g": str(GOP), "threads": "1"}
                stream = cast(VideoStream, out.add_stream(codec, rate=25, options=options))
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
                for picture in pictures:
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                out.mux(stream.encode())
            yield Clip(kind, Job(file.getvalue(), digests_of(file.getvalue())))


def mutant(file: bytes, rng: np.random.Generator) -> bytes:
    """Returns a damaged copy."""
    data = np.frombuffer(file, np.uint8).copy()
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, max(len(data) // 50, 2)))
    places = rng.integers(len(data), size=int(rng.integers(1, 12)))
    damage: list[Callable[[], np.ndarray]] = [
        lambda: _changed(
            data, places, data[places] ^ (1 << rng.integers(8, size=len(places))).astype(np.uint8)
        ),
        lambda: _changed(data, places, rng.integers(256, size=len(places)).astype(np.uint8)),
        lambda: _changed(data, slice(start, start + length), np.uint8(0)),
        lambda: np.delete(data, slice(start, start + length)),
        lambda: data[:start],
    ]
    return damage[int(rng.integers(len(damage)))]().tobytes()


def _changed(data: np.ndarray, place: np.ndarray | slice, value: np.ndarray | np.uint8) -> np.ndarray:
    data[place] = value
    return data


def main(
    folder: Annotated[Path, typer.Argument(help="Videos that clips are cut from.")],
    each: Annotated[int, typer.Option(min=1, help="Mutants of each kind.")] = 250,
    seed: Annotated[int, typer.Option(help="Of the damage.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Children that decode.")] = 1,
) -> None:
    """Prints what came of the mutants, by setting, and by kind as it is."""
    rng = np.random.default_rng(seed)
    sound = list(clips(folder))
    jobs, kinds = [], []
    for number in range(each * len(KINDS)):
        clip = sound[number % len(sound)]
        file = mutant(clip.job.file, rng)
        jobs.append(Job(file, clip.job.digests))
        kinds.append(clip.kind)
    work = partial(outcomes, settings=SETTINGS)
    names = (*SETTINGS, *CHECKS)
    by_setting = {name: Counter[str]() for name in names}
    by_kind = {kind: Counter[str]() for kind in KINDS}
    for kind, answer in zip(
        kinds, isolated_map(work, jobs, workers=workers, limits=Limits(seconds=60)), strict=True
    ):
        row = ["crashed or hung"] * len(names) if isinstance(answer, Fault) else answer
        for name, outcome in zip(names, row, strict=True):
            by_setting[name][outcome] += 1
        by_kind[kind][row[0]] += 1
    print(f"{len(jobs)} mutants of {len(sound)} files, seed {seed}, FFmpeg {av.ffmpeg_version_info}\n")
    _print("setting, or check", by_setting)
    print()
    _print("kind, as it is", by_kind)


def _print(title: str, rows: dict[str, Counter[str]]) -> None:
    print(f"| {title} | {' | '.join(OUTCOMES)} |")
    print("| --- |" + " ---: |" * len(OUTCOMES))
    for name, counts in rows.items():
        shares = (f"{100 * counts[outcome] / counts.total():.1f} %" for outcome in OUTCOMES)
        print(f"| {name} | {' | '.join(shares)} |")


if __name__ == "__main__":
    import damage  # children import the work by its module's name, which "__main__" is not

    typer.run(damage.main)
