"""Benchmarks of decoding: other decoders and methods, scaled copies, two workers against one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor
from torchvision.transforms.v2 import functional

from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.videos import BenchClip, bench_videos, clips_of
from transfer3d.data.augment_config import AugmentConfig
from transfer3d.data.decode import Video
from transfer3d.data.decoder import Decoder
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.pixels import Converter, Frames
from transfer3d.data.prepare import TranscodeJob, prepare
from transfer3d.data.source import open_files
from transfer3d.errors import SetupError
from transfer3d.layout import ClipSpec

SMALL = 128
BATCHES, BATCH = 12, 4
GOP = 12
ONE_CLIP = "16 frames at stride 2"

Decode = Callable[[BenchClip], Frames]


def data_cases(folder: Path | None, scratch: Path) -> Iterator[Case]:
    """Yields the cases.

    Args:
        folder: with the user's videos; None = generated ones.
        scratch: folder for generated and scaled videos.
    """
    paths = bench_videos(folder, scratch)
    for name, at_least, decode in (
        ("torchcodec, 1 thread", 0.95, _torchcodec),
        ("decord, 1 thread", 1.1, _decord),
        ("PyAV from the start to the clip's end", 1.3, lambda: _sequential),
    ):
        yield _case(f"decode {ONE_CLIP}", "by seek", name, at_least, partial(_decoders, paths, decode))
    yield _case(
        f"decode {ONE_CLIP}", "in a child, with limits", "in this process", 0.9, partial(_child, paths)
    )
    for name, at_least, build in (
        (f"16 decoded frames at {SMALL} px", 1.5, _scaling),
        (f"{ONE_CLIP} at {SMALL} px", None, _scaling_with_decoding),
    ):
        yield _case(
            name, "scaled on the way to RGB", "full size, then resized", at_least, partial(build, paths)
        )
    yield _case(
        f"{ONE_CLIP} at {SMALL} px",
        f"copies of short side {SMALL}, gop {GOP}",
        "originals",
        3.0,
        partial(_copies, paths, scratch),
    )
    yield _case(f"{BATCHES} batches of {BATCH} clips", "2 workers", "1 worker", 1.5, partial(_workers, paths))


def _case(
    name: str, ours: str, baseline: str, at_least: float | None, build: Callable[[torch.device], Comparison]
) -> Case:
    return Case(name=name, phase="decode", ours=ours, baseline=baseline, at_least=at_least, build=build)


def _decoders(paths: list[Path], load: Callable[[], Decode], _: torch.device) -> Comparison:
    theirs, clips = load(), clips_of(paths)
    try:
        theirs(clips[0])
    except (OSError, RuntimeError) as error:
        raise SetupError(f"does not load: {str(error).splitlines()[0]}") from None

    def difference() -> float:
        ours = np.stack([_ours(clip).mean((1, 2)) for clip in clips])
        return float(
            np.linalg.norm(ours - [theirs(clip).mean((1, 2)) for clip in clips]) / np.linalg.norm(ours)
        )

    return Comparison(ours=_all(_ours, clips), baseline=_all(theirs, clips), difference=difference)


def _all(work: Callable[[Any], Any], clips: Sequence[Any]) -> Callable[[], None]:
    def run() -> None:
        for clip in clips:
            work(clip)

    return run


def _child(paths: list[Path], _: torch.device) -> Comparison:
    clips, decoder = clips_of(paths), Decoder()

    def ours(clip: BenchClip) -> Frames:
        with decoder.open(clip.path) as video:
            return video.read(clip.indices)

    def difference() -> float:
        return float(max(np.abs(ours(clip).astype(int) - _ours(clip)).max() for clip in clips))

    return Comparison(ours=_all(ours, clips), baseline=_all(_ours, clips), difference=difference)


def _ours(clip: BenchClip, short_side: int | None = None) -> Frames:
    with Video(clip.path) as video:
        return video.read(clip.indices, short_side=short_side)


def _sequential(clip: BenchClip) -> Frames:
    """Plain PyAV: decodes all frames up to the clip's last and converts those of the clip."""
    images = [frame.to_ndarray(format="rgb24") for frame in _decoded(clip)]
    return np.stack(images).astype(np.uint8, copy=False)


def _decoded(clip: BenchClip) -> list[VideoFrame]:
    indices, frames = set(clip.indices.tolist()), {}
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in indices:
                frames[number] = frame
            if number == clip.indices[-1]:
                break
    return [frames[number] for number in clip.indices.tolist()]


def _torchcodec() -> Decode:
    decoders: Any = _import("torchcodec.decoders")

    def decode(clip: BenchClip) -> Frames:
        decoder = decoders.VideoDecoder(str(clip.path), num_ffmpeg_threads=1, dimension_order="NHWC")
        return decoder.get_frames_at(clip.indices.tolist()).data.numpy()

    return decode


def _decord() -> Decode:
    decord: Any = _import("decord")

    def decode(clip: BenchClip) -> Frames:
        return decord.VideoReader(str(clip.path), num_threads=1).get_batch(clip.indices).asnumpy()

    return decode


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        raise SetupError(f"{name.split('.')[0]} is not installed or cannot be imported.") from None


def _scaling(paths: list[Path], _: torch.device) -> Comparison:
    clips = [_decoded(clip) for clip in clips_of(paths)]

    def frames(clip: list[VideoFrame], short_side: int | None = None) -> Frames:
        converter = Converter()
        return np.stack([converter.rgb(frame, short_side) for frame in clip])

    ours = _all(partial(frames, short_side=SMALL), clips)
    return Comparison(ours=ours, baseline=_all(lambda clip: _resized(frames(clip)), clips))


def _scaling_with_decoding(paths: list[Path], _: torch.device) -> Comparison:
    clips = clips_of(paths)
    ours = _all(partial(_ours, short_side=SMALL), clips)
    return Comparison(ours=ours, baseline=_all(lambda clip: _resized(_ours(clip)), clips))


def _resized(frames: Frames) -> Tensor:
    return functional.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [SMALL], antialias=True)


def _copies(paths: list[Path], scratch: Path, _: torch.device) -> Comparison:
    originals = clips_of(paths)
    folder = scratch / "copies"
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        copy = prepare(TranscodeJob(path, path.name, short_side=SMALL, gop=GOP)).video
        assert copy is not None
        (folder / f"{number}.mp4").write_bytes(copy)
    copies = [BenchClip(folder / f"{paths.index(clip.path)}.mp4", clip.indices) for clip in originals]
    small = partial(_ours, short_side=SMALL)
    return Comparison(ours=_all(small, copies), baseline=_all(small, originals))


def _workers(paths: list[Path], _: torch.device) -> Comparison:
    videos = open_files(paths)
    clip = ClipSpec(frames=16, stride=2, size=112, crop=SMALL)

    def run(workers: int) -> None:
        options: dict[str, Any] = {"batch_size": BATCH, "steps": BATCHES, "seed": 0, "workers": workers}
        for _ in clip_batches(videos, clip, augment=AugmentConfig(), **options):
            pass

    return Comparison(ours=partial(run, 2), baseline=partial(run, 1))
