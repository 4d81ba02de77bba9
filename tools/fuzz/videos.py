"""Videos: bits, bytes and pieces of real files. Decoded as `transfer3d check` does, in an isolated child."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis.strategies import SearchStrategy

from fuzz.checkpoints import write_video
from fuzz.edits import edited_bytes
from fuzz.outcome import Outcome, of_sentence

KINDS = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "webm": "libvpx"}
SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".mov")
MAX_BYTES = 300_000


class Files:
    """See `fuzz.outcome.Target`. `TRANSFER3D_CLIPS` may name a folder of real clips."""

    attack = "videos: bits, bytes and pieces changed; every frame decoded"
    suffix = ".video"

    def __init__(self, place: Path) -> None:
        self.folder = place / "videos"
        if not self.folder.exists():
            _write_examples(self.folder)
        self.examples = [path.read_bytes() for path in sorted(self.folder.iterdir())]
        self.pixels = {_pixels(path) for path in sorted(self.folder.iterdir())}

    def cases(self) -> SearchStrategy[bytes]:
        """Returns files with up to four edits."""
        return edited_bytes(self.examples, most=4)

    def attempt(self, case: Path) -> Outcome:
        """Decodes all frames within limits."""
        from transfer3d.data.isolated import Fault, Limits, isolated_map

        (answer,) = isolated_map(_checked, [case], limits=Limits())
        if isinstance(answer, Fault):
            is_bug = "Error(" in answer.reason and "; the memory limit" not in answer.reason
            return Outcome("wrong", answer.reason) if is_bug else of_sentence(answer.reason)
        return Outcome("read", "" if answer in self.pixels else "other pixels")


def _checked(path: Path) -> str:
    """Decodes a video as `transfer3d check` does, and returns a digest of its pixels."""
    from transfer3d.data.prepare import inspect_file

    inspect_file(path)
    return _pixels(path)


def _pixels(path: Path) -> str:
    from transfer3d.data.decode import Video

    digest = hashlib.sha256()
    with Video(path, name=path.name) as video:
        for frame in video.stream():
            digest.update(frame.tobytes())
    return digest.hexdigest()


def _write_examples(folder: Path) -> None:
    """Writes a short video of every kind, and copies real clips that are not too long."""
    import av
    import numpy as np

    folder.mkdir(parents=True)
    frames = (
        np.random.default_rng(0).integers(0, 256, (12, 12, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    )
    for suffix, codec in KINDS.items():
        with av.open(str(folder / f"made.{suffix}"), "w") as out:
            stream: Any = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for pixels in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
    write_video(folder / "transcoded.mp4")
    clips = os.environ.get("TRANSFER3D_CLIPS")
    for clip in sorted(Path(clips).iterdir()) if clips else ():
        if clip.suffix in SUFFIXES and clip.stat().st_size < MAX_BYTES:
            shutil.copyfile(clip, folder / clip.name)
