"""300 real clips of five sizes up to 1080p and four containers: none is left out, twice the same bytes."""

import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner

from transfer3d.cli.main import app

COUNT, SECONDS = 300, 2
SHORT_SIDES = (240, 360, 480, 720, 1080)
KINDS = ((".mp4", "libx264"), (".avi", "mpeg4"), (".mkv", "mpeg2video"), (".mov", "libx264"))


def frames(source: Path) -> Iterator[av.VideoFrame]:
    """All frames of a video, over and over."""
    while True:
        with av.open(source) as opened:
            yield from opened.decode(video=0)


def write(path: Path, film: Iterator[av.VideoFrame], short_side: int, codec: str) -> None:
    """Writes the next two seconds of a film, scaled."""
    frame = next(film)
    scale = short_side / min(frame.width, frame.height)
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height = (round(side * scale / 2) * 2 for side in (frame.width, frame.height))
        stream.pix_fmt = "yuv420p"
        for number in range(SECONDS * 25):
            scaled = frame.reformat(stream.width, stream.height, "yuv420p")
            scaled.pts, scaled.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(scaled))
            frame = next(film)
        out.mux(stream.encode())


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_of_300_mixed_clips_are_packed_twice_the_same(clips_folder, tmp_path):
    sources = [path for path in sorted(clips_folder.iterdir()) if path.suffix in {".avi", ".mkv", ".mp4"}]
    films = [frames(source) for source in sources]
    for number in range(COUNT):
        suffix, codec = KINDS[number // len(sources) % len(KINDS)]
        path = tmp_path / "videos" / "train" / f"class{number % 3}" / f"{number:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, films[number % len(films)], SHORT_SIDES[number % len(SHORT_SIDES)], codec)

    def run(*arguments: object) -> Any:
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    checked = run("check", tmp_path / "videos")
    assert len(checked) == COUNT
    assert [video for video in checked if video["reason"]] == []
    for out in ("first", "second"):
        report = run("shard", tmp_path / "videos", "-o", tmp_path / out, "--short-side", 128)
        assert report["packed"] == {"train": COUNT}
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
