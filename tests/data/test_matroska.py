"""Matroska's frames by the headers of its blocks are those that reading all packets shows."""

import io
from collections.abc import Callable

import av
import numpy as np
import pytest
from media import encode, numbered_frames, numbers

from transfer3d.data import frame_table
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video
from transfer3d.data.matroska import BLOCK, CLUSTER, GROUP, KEY, REFERENCE, SIMPLE_BLOCK, video_blocks

OPEN_GROUPS = "keyint=12:min-keyint=12:open-gop=1:bframes=3:b-adapt=0:scenecut=0"
KINDS = {
    "h264": {"bf": 0},
    "h264 with B-frames": {"bf": 3},
    "h264, open groups": {"x264-params": OPEN_GROUPS},
    "hevc": {"codec": "libx265", "x265-params": "keyint=8:log-level=0"},
    "vp8": {"codec": "libvpx", "container": "webm"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm", "deadline": "realtime"},
    "mpeg2": {"codec": "mpeg2video"},
    "mpeg4": {"codec": "mpeg4"},
    "mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "bf": 0},
    "ffv1": {"codec": "ffv1"},
    "variable rate": {"times": np.random.default_rng(0).integers(9, 70, 60).cumsum().tolist()},
    "short clusters": {"muxer": {"cluster_time_limit": "300"}},
    "segment without size": {"muxer": {"live": "1", "cluster_time_limit": "300"}},
    "cues first": {"muxer": {"cues_to_front": "1", "reserve_index_space": "2000"}},
}


def film(**options) -> bytes:
    """Encodes 60 numbered frames, with noise, so that no packet is short and no two are the same."""
    frames = numbered_frames(60)
    frames[:, 32:] = np.random.default_rng(0).integers(0, 255, frames[:, 32:].shape)
    return encode(frames, **{"container": "matroska", "bf": 2, "g": 12, **options})


def is_by_headers(data: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Asserts that the table is that of reading; returns whether the blocks' headers were sufficient."""
    with Video(data) as video:
        quick = video._table
    with monkeypatch.context() as patch:
        patch.setattr(frame_table, "video_blocks", lambda *_: None)
        with Video(data) as video:
            read = video._table
    assert quick.times == read.times
    assert quick.time_base == read.time_base
    assert [key[:2] for key in quick.keys] == [key[:2] for key in read.keys]
    assert (quick.frames, quick.is_timed, quick.is_seekable) == (read.frames, read.is_timed, read.is_seekable)
    assert read.are_keys_read
    return not quick.are_keys_read


def element(kind: int, content: bytes) -> bytes:
    """Returns an element with a size as short as possible."""
    width = 1 if len(content) < 127 else 2
    size = (len(content) | 1 << 7 * width).to_bytes(width, "big")
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + size + content


def blocks(data: bytes) -> list[int]:
    """Returns the positions of the contents of all blocks, which follow the track, the time and the flags."""
    with av.open(io.BytesIO(data)) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
    places = [0]
    for packet in packets:
        places.append(data.index(packet, places[-1] + 1))
        assert element(SIMPLE_BLOCK, data[places[-1] - 4 :][: len(packet) + 4]) in data
    return places[1:]


def rewritten(change: Callable[[bytes], bytes]) -> bytes:
    """Returns a film whose segment and clusters have no sizes; `change` replaces each block's content."""
    data = film(muxer={"live": "1", "cluster_time_limit": "300"})
    with av.open(io.BytesIO(data)) as source:
        sizes = [packet.size for packet in source.demux(video=0) if packet.size]
    for place, size in reversed([*zip(blocks(data), sizes, strict=True)]):
        block = data[place - 4 : place + size]
        start = place + size - len(element(SIMPLE_BLOCK, block))
        data = data[:start] + change(block) + data[place + size :]
    name = CLUSTER.to_bytes(4, "big")
    head, *clusters = data.split(name)
    return head + b"".join(name + b"\xff" + c[1 if c[0] & 0x80 else 2 :] for c in clusters)


def group(block: bytes) -> bytes:
    content = element(BLOCK, block[:3] + b"\0" + block[4:]) + element(0x9B, b"\x28")
    return element(GROUP, content if block[3] & KEY else element(REFERENCE, b"\xd8") + content)


def laced(block: bytes) -> bytes:
    """Returns a block that says it has one packet, by Xiph's lacing."""
    return element(SIMPLE_BLOCK, block[:3] + bytes([block[3] | 2]) + b"\0" + block[4:])


SAME = {
    "clusters without sizes": lambda block: element(SIMPLE_BLOCK, block),
    "groups": group,
    "void": lambda block: element(0xEC, bytes(200)) + element(SIMPLE_BLOCK, block) + element(0xEC, b""),
    "positions": lambda block: element(0xA7, b"\0") + element(SIMPLE_BLOCK, block),
}
ODD = {
    "lacing": laced,
    "empty blocks": lambda block: element(SIMPLE_BLOCK, block[:4]) + element(SIMPLE_BLOCK, block),
    "long track numbers": lambda block: element(SIMPLE_BLOCK, b"\x40\x01" + block[1:]),
    "unknown elements": lambda block: element(0x42FF, b"\0") + element(SIMPLE_BLOCK, block),
    "additions": lambda block: element(GROUP, element(BLOCK, block) + element(0x75A1, b"")),
}


def with_sound(container: str, codec: str, form: str, videos: int = 1) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        pictures = [out.add_stream("libvpx", rate=25) for _ in range(videos)]
        for video in pictures:
            video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        audio = out.add_stream(codec, rate=48000, layout="mono")
        for number, pixels in enumerate(numbered_frames(60)):
            for video in pictures:
                out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            sound = av.AudioFrame(format=form, layout="mono", samples=1920)
            sound.planes[0].update(bytes(sound.planes[0].buffer_size))
            sound.sample_rate, sound.pts = 48000, number * 1920
            out.mux(audio.encode(sound))
        for stream in (*pictures, audio):
            out.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_that_of_reading(kind, monkeypatch):
    data = film(**KINDS[kind])
    assert is_by_headers(data, monkeypatch)
    for indices in ([0, 59], [31, 32, 47]):
        with Video(data) as video:
            assert numbers(video.read(np.array(indices))) == indices


def test_blocks_with_additions_are_read(monkeypatch):
    data = film(codec="libvpx-vp9", pix_fmt="yuva420p", deadline="realtime", container="webm")
    assert not is_by_headers(data, monkeypatch)


def test_codecs_whose_blocks_have_decoding_times_are_read():
    data = film()
    other = data.replace(b"V_MPEG4/ISO/AVC", b"V_MS/VFW/FOURCC")
    assert other != data
    assert video_blocks(io.BytesIO(other), lambda: None) is None


@pytest.mark.parametrize("kind", [*SAME, *ODD])
def test_rewritten_blocks(kind, monkeypatch):
    data = rewritten((SAME | ODD)[kind])
    assert is_by_headers(data, monkeypatch) == (kind in SAME)
    with Video(data) as video:
        assert numbers(video.read(np.array([59, 3, 30]))) == [59, 3, 30]


@pytest.mark.parametrize("sound", [("webm", "libopus", "s16"), ("matroska", "aac", "fltp")])
@pytest.mark.parametrize("videos", [1, 2])
def test_sound_beside(sound, videos, monkeypatch):
    data = with_sound(*sound, videos=videos)
    assert is_by_headers(data, monkeypatch) == (videos == 1)
    with Video(data) as video:
        assert numbers(video.read(np.array([59, 3, 30]))) == [59, 3, 30]


def test_short_mpeg4_packets_are_read(monkeypatch):
    still = np.full((40, 48, 64, 3), 90, np.uint8)
    assert not is_by_headers(encode(still, container="matroska", codec="mpeg4", g=20), monkeypatch)


@pytest.mark.parametrize("size", [{}, {"muxer": {"live": "1"}}], ids=["with size", "without size"])
def test_cut_files_are_left_to_reading(size):
    data = film(**size)
    for length in range(60, len(data), 7):
        found = video_blocks(io.BytesIO(data[:length]), lambda: None)
        assert found is None or ("muxer" in size and len(found.times) < 60)
    assert video_blocks(io.BytesIO(data + b"\0"), lambda: None) is None
    found = video_blocks(io.BytesIO(data), lambda: None)
    assert found is not None
    assert len(found.times) == 60


def test_a_finished_recording_that_was_cut_is_truncated():
    """Its segment has no size, but it has a duration."""
    data = bytearray(film(muxer={"cluster_time_limit": "300"}))
    place = data.index(b"\x18\x53\x80\x67") + 4
    data[place : place + 8] = b"\x01" + b"\xff" * 7
    clusters = bytes(data).split(CLUSTER.to_bytes(4, "big"))
    cut = CLUSTER.to_bytes(4, "big").join(clusters[:5])
    found = video_blocks(io.BytesIO(cut), lambda: None)
    assert found is not None
    with pytest.raises(BadVideo, match=f"truncated after {len(found.times)} frames"):
        Video(cut)
