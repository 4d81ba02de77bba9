"""Packets without a picture, palettes and long files, against a decode from the start."""

import io
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import pytest
from media import encode, numbered_frames, numbers

from transfer3d.data.decode import Video

OPEN_GROUPS = {
    "libx264": {"x264-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:b-adapt=0:scenecut=0"},
    "libx265": {"x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:b-adapt=0:log-level=0"},
    "mpeg2video": {"bf": 2, "g": 12},
}
LOST = {"libx264": 3, "libx265": 3, "mpeg2video": 2}
"""Leading frames that refer to the group before, and that FFmpeg does not show."""


def remuxed(data: bytes, container: str, change: Callable[[int, bytes], list[bytes]]) -> bytes:
    """Copies a file's packets; `change` says what stands in place of packet n, one frame's time each."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        shift, first = 0, None
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            contents = change(number, bytes(packet))
            shift += len(contents) - 1 if contents else 0
            if contents and first is None:
                first = packet.dts
            for later, content in enumerate(contents):
                new = av.Packet(content)
                late = (shift - len(contents) + 1 + later) * round(1 / (25 * packet.time_base))
                new.pts, new.dts = packet.pts - first + late, packet.dts - first + late
                new.time_base, new.stream = packet.time_base, stream
                new.is_keyframe = packet.is_keyframe and not later
                out.mux(new)
    return file.getvalue()


def assert_exact(data: bytes) -> int:
    """Asserts that frames by number are those of a plain decode; returns their count."""
    with av.open(io.BytesIO(data)) as container:
        plain = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with Video(data) as video:
        assert video.frames == len(plain)
        video.check()
    rng = np.random.default_rng(0)
    for indices in ([0], [len(plain) - 1], *(rng.integers(0, len(plain), 5) for _ in range(8))):
        with Video(data) as video:
            np.testing.assert_array_equal(video.read(np.array(indices)), plain[indices])
    return len(plain)


@pytest.mark.parametrize("container", ["matroska", "mp4"])
@pytest.mark.parametrize("codec", OPEN_GROUPS)
def test_recordings_that_begin_with_an_open_group(codec, container):
    data = encode(numbered_frames(60), codec=codec, container="matroska", **OPEN_GROUPS[codec])
    with av.open(io.BytesIO(data)) as source:
        keys = [i for i, p in enumerate(p for p in source.demux(video=0) if p.size) if p.is_keyframe]
    kept = 60 - keys[1]
    frames = assert_exact(remuxed(data, container, lambda number, packet: [packet] * (number >= keys[1])))
    assert frames == kept - LOST[codec]


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts", "flv", "avi"])
@pytest.mark.parametrize("bf", [0, 2])
def test_recordings_that_begin_between_key_frames(container, bf):
    data = encode(numbered_frames(60), container=container, bf=bf, g=12, **{"x264-params": "scenecut=0"})
    cut = remuxed(data, container, lambda number, packet: [packet] * (number >= 5))
    assert assert_exact(cut) == 48
    with Video(cut) as video:
        assert numbers(video.read(np.array([0, 47]))) == [12, 59]


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001)])
def test_mpeg4_frames_that_are_not_coded(container, fps):
    time_bits = (Fraction(fps).numerator - 1).bit_length()
    header = "01" + "0" + "1" + "0" * time_bits + "1" + "0" + "0"
    header += "1" * (-len(header) % 8)
    empty = b"\0\0\1\xb6" + int(header, 2).to_bytes(len(header) // 8, "big")
    data = encode(numbered_frames(60), container="avi", codec="mpeg4", g=12, fps=fps)
    assert assert_exact(remuxed(data, container, lambda n, p: [p, empty] if n % 10 == 5 else [p])) == 60


def test_short_mpeg4_frames_that_are_coded():
    still = np.full((40, 48, 64, 3), 90, np.uint8)
    data = encode(still, container="matroska", codec="mpeg4", bf=2, g=20)
    with av.open(io.BytesIO(data)) as source:
        assert min(packet.size for packet in source.demux(video=0) if packet.size) < 16
    assert assert_exact(data) == 40


def noisy_frames(count: int) -> np.ndarray:
    """Returns numbered frames with noise, so that no packet is short."""
    frames = numbered_frames(count)
    frames[:, 32:] = np.random.default_rng(0).integers(0, 255, frames[:, 32:].shape)
    return frames


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("bf", [0, 2])
@pytest.mark.parametrize("times", [None, np.random.default_rng(0).integers(9, 70, 60).cumsum().tolist()])
def test_the_sample_table_of_mpeg4_is_that_of_reading(container, bf, times, monkeypatch):
    data = encode(noisy_frames(60), container=container, codec="mpeg4", bf=bf, g=9, times=times)
    with Video(data) as video:
        quick = video._table
        assert numbers(video.read(np.array([59, 3, 31]))) == [59, 3, 31]
    monkeypatch.setattr("transfer3d.data.frame_table._by_sample_table", lambda *_: None)
    with Video(data) as video:
        read = video._table
    assert not quick.are_keys_read
    assert read.are_keys_read
    assert (quick.times, quick.keys, quick.is_seekable) == (read.times, read.keys, read.is_seekable)


@pytest.mark.parametrize("codec", ["mpeg4", "libvpx", "libx264"])
def test_key_frames_that_the_file_declares_falsely(codec):
    # MPEG-4's decoder shows frames whose references are missing.
    data = encode(noisy_frames(60), container="matroska", codec=codec, bf=0, g=20)
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format="matroska") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.dts = packet.pts
            packet.stream, packet.is_keyframe = stream, packet.is_keyframe or number >= 30
            out.mux(packet)
    for index in range(60):
        with Video(file.getvalue()) as video:
            assert not video._table.are_keys_read
            assert numbers(video.read(np.array([index]))) == [index]


def test_hidden_frames_of_vp8():
    def hide(number: int, packet: bytes) -> list[bytes]:
        return [bytes([packet[0] & ~0x10]) + packet[1:]] if number % 7 == 3 else [packet]

    data = encode(numbered_frames(42), container="webm", codec="libvpx", g=14, deadline="realtime")
    assert assert_exact(remuxed(data, "webm", hide)) == 36


@pytest.mark.parametrize("container, codec", [("mov", "rawvideo"), ("avi", "rawvideo")])
def test_palettes_are_kept_by_seeks(container, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        levels = np.arange(256, dtype=np.uint8)
        palette = np.stack([levels, levels, levels, levels], 1)
        for pixels in numbered_frames(20):
            out.mux(stream.encode(av.VideoFrame.from_ndarray((pixels[..., 0], palette), format="pal8")))
        out.mux(stream.encode())
    assert assert_exact(file.getvalue()) == 20
    with Video(file.getvalue()) as video:
        assert numbers(video.read(np.array([17, 4]))) == [17, 4]


class CountedFile(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size=-1):
        content = super().read(size)
        CountedFile.count += len(content)
        return content


@pytest.mark.parametrize(
    "options",
    [
        {"bf": 0},
        {"bf": 3},
        {"bf": 3, "container": "mov"},
        {"bf": 3, "container": "matroska"},
        {"codec": "libvpx", "container": "webm", "b": 4_000_000},
        {"codec": "mpeg4", "bf": 2, "b": 9_000_000, "qmax": 2},
    ],
)
def test_a_clip_of_a_long_film_reads_little_of_it(monkeypatch, options):
    noise = np.random.default_rng(0).integers(0, 255, (600, 48, 64, 3), np.uint8)
    data = encode(noise, g=10, qp=10, **options)
    assert len(data) > 1_500_000
    monkeypatch.setattr("transfer3d.data.container.io.BytesIO", CountedFile)
    CountedFile.count = 0
    with Video(data) as video:
        assert video.frames == 600
        video.read(np.arange(290, 322, 2))
    assert CountedFile.count < 0.25 * len(data)
