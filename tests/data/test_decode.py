"""Decoding against the truth: frames that carry their number, plain decodes, and files that are broken."""

import io
import os
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import audio_only, encode, numbered_frames, numbers
from torch import from_numpy
from torchvision.transforms.v2 import functional

from transfer3d.data import container, decode
from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video, VideoInfo

KINDS = {
    "h264 with B-frames": {"bf": 3, "g": 12},
    "h264, tiny groups with B-frames": {"bf": 2, "g": 3, "keyint_min": 1, "sc_threshold": 0},
    "h264, open groups": {"bf": 3, "g": 10, "x264-params": "open-gop=1:scenecut=0"},
    "h264, key frames only": {"g": 1},
    "h264, one key frame": {"bf": 2, "g": 999, "x264-params": "scenecut=0"},
    "h264 in Matroska": {"container": "matroska", "bf": 3, "g": 12},
    "h264 in MOV": {"container": "mov", "bf": 2, "g": 9},
    "hevc 10 bit": {"codec": "libx265", "pix_fmt": "yuv420p10le", "x265-params": "keyint=8:log-level=0"},
    "mpeg4 in AVI": {"container": "avi", "codec": "mpeg4", "g": 7},
    "mpeg4 with B-frames in AVI": {"container": "avi", "codec": "mpeg4", "bf": 2, "g": 7},
    "vp9 in WebM": {"container": "webm", "codec": "libvpx-vp9", "g": 8, "deadline": "realtime"},
    "vp9 with alpha": {"container": "webm", "codec": "libvpx-vp9", "pix_fmt": "yuva420p", "g": 8},
    "h264 in MPEG-TS": {"container": "mpegts", "bf": 2, "g": 12},
    "mpeg1 in MPEG-PS": {"container": "mpeg", "codec": "mpeg1video", "g": 12},
    "mpeg2 in MPEG-PS": {"container": "vob", "codec": "mpeg2video", "bf": 2, "g": 12},
    "flv": {"container": "flv", "codec": "flv1", "g": 12},
    "wmv": {"container": "asf", "codec": "wmv2", "g": 12},
    "gif": {"container": "gif", "codec": "gif", "pix_fmt": "rgb8"},
    "ProRes 4444": {"container": "mov", "codec": "prores_ks", "pix_fmt": "yuva444p10le"},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_frames_are_those_asked_for(options):
    data = encode(numbered_frames(60), **options)
    with av.open(io.BytesIO(data)) as container:
        plain = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert numbers(plain) == list(range(60))
    rng = np.random.default_rng(0)
    wishes = [np.arange(60), np.array([59]), np.array([0]), np.array([40, 3, 3, 58])]
    wishes += [rng.integers(0, 60, size=6) for _ in range(12)]
    for indices in wishes:
        with Video(data) as video:
            frames = video.read(indices)
        assert video.frames == 60
        assert numbers(frames) == indices.tolist()
        np.testing.assert_array_equal(frames, plain[indices])


@pytest.mark.parametrize("kind", ["h264 with B-frames", "h264 in Matroska", "hevc 10 bit", "mpeg4 in AVI"])
def test_no_more_is_decoded_than_from_the_last_key_frame(kind, monkeypatch):
    decoded = []

    def counted(video, packets, wanted, whole=Video._pictures):
        for frame in whole(video, packets, wanted):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(Video, "_pictures", counted)
    with Video(encode(numbered_frames(60), **KINDS[kind])) as video:
        keys = [number for number, *_ in video._table.keys]
        assert len(keys) > 4
        for first in range(0, 44, 3):
            decoded.clear()
            wanted = np.arange(first, first + 16, 2)
            assert numbers(video.read(wanted)) == wanted.tolist()
            # Seen again: those that stood before the key frame when it was sought.
            assert len(decoded) <= wanted[-1] + 1 - max(key for key in keys if key <= first) + decode.NEAR


def test_one_open_video_gives_several_clips_in_any_order():
    with Video(encode(numbered_frames(60), bf=2, g=12)) as video:
        for first in (50, 0, 30, 10):
            assert numbers(video.read(np.arange(first, first + 5))) == list(range(first, first + 5))


@pytest.mark.parametrize("bf", [0, 2])
def test_an_edit_list_hides_the_frames_before_it(bf):
    file = io.BytesIO()
    with av.open(io.BytesIO(encode(numbered_frames(60), bf=bf, g=12))) as whole, av.open(
        file, "w", format="mp4", options={"avoid_negative_ts": "disabled"}
    ) as out:  # fmt: skip
        stream = out.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 7 * packet.duration, packet.dts - 7 * packet.duration
                packet.stream = stream
                out.mux(packet)
    assert b"elst" in file.getvalue()
    for indices in ([0, 1, 2], [52], [10, 30, 31], [46, 5]):
        with Video(file.getvalue()) as video:
            assert video.frames == 53
            assert numbers(video.read(np.array(indices))) == [7 + i for i in indices]


def test_ten_bits_show_what_eight_show():
    noise = np.random.default_rng(0).integers(30, 220, (1, 6, 8, 3), np.uint8)
    frames = noise.repeat(8, 1).repeat(8, 2)
    shown = []
    for options in ({"pix_fmt": "yuv444p"}, {"pix_fmt": "yuv444p10le"}):
        with Video(encode(frames, qp=1, **options)) as video:
            shown.append(video.read(np.array([0]))[0].astype(int))
    assert np.abs(shown[0] - shown[1]).max() <= 2


def test_variable_rate():
    times = [0, 100, 150, 1000, 1010, 3000]
    with Video(encode(numbered_frames(6), times=times, bf=0)) as video:
        facts = video.info()
        assert numbers(video.read(np.array([5, 3, 4]))) == [5, 3, 4]
    assert facts.frames == 6
    assert facts.fps == pytest.approx(5 / 3)


def joined(*parts):
    """Puts the packets of WebM files after one another, as of a call whose pictures change their size."""
    file, time_ms = io.BytesIO(), 0
    with av.open(file, "w", format="webm") as out:
        stream = None
        for part in parts:
            with av.open(io.BytesIO(part)) as container:
                stream = stream or out.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = time_ms
                        packet.time_base, packet.stream = Fraction(1, 1000), stream
                        out.mux(packet)
                        time_ms += 40
    return file.getvalue()


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("factors", [(1, 2), (2, 1)])
def test_pictures_that_change_their_size_are_scaled_to_the_first(codec, factors):
    frames = numbered_frames(24)
    parts = zip((frames[:12], frames[12:]), factors, strict=True)
    content = joined(
        *(encode(np.tile(f, (1, k, 1, 1)).repeat(k, 2), container="webm", codec=codec) for f, k in parts)
    )
    with Video(content) as video:
        video.check()
        for indices in ([10, 13, 2], [20, 22]):
            read = video.read(np.array(indices))
            factor = factors[0] if min(indices) < 12 else factors[1]
            assert read.shape[1:] == (48 * factor, 64 * factor, 3)
            assert numbers(read) == indices
        assert numbers(np.stack(list(video.stream()))) == list(range(24))
        assert video.read(np.array([2, 20]), short_side=32).shape[1] == 32


@pytest.mark.parametrize("flips", [{}, {"hflip": True}])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_every_orientation_is_shown_upright(degrees, flips):
    stored = np.zeros((2, 48, 64, 3), np.uint8)
    corners = {(0, 0): (220, 30, 30), (0, -1): (30, 220, 30), (-1, 0): (30, 30, 220)}
    for (row, column), colour in corners.items():
        stored[:, row * 16 :, column * 16 :][:, :16, :16] = colour
    shown = np.rot90(stored[0], degrees // 90)
    shown = shown[:, ::-1] if flips else shown
    with Video(encode(stored, rotation={"degrees": degrees, **flips}, crf=10)) as video:
        frames, facts = video.read(np.array([1])), video.info()
    assert frames[0].shape == shown.shape
    assert (facts.height, facts.width) == shown.shape[:2]
    assert np.abs(frames[0].astype(int) - shown)[4:-4, 4:-4].mean() < 4


@pytest.mark.parametrize("full_range", [False, True])
def test_grey_levels_survive(full_range):
    levels = np.repeat(np.arange(8, 256, 31, dtype=np.uint8), 8)[None, None, :, None]
    frames = np.broadcast_to(levels, (2, 48, 64, 3)).copy()
    with Video(encode(frames, full_range=full_range, qp=0)) as video:
        seen = video.read(np.array([0]))[0]
    assert np.abs(seen.astype(int) - frames[0])[:, 4::8].max() <= 2


def test_scaling_down_in_the_decoder():
    noise = np.random.default_rng(0).uniform(0, 255, (1, 6, 10, 3)).astype(np.float32)
    smooth = functional.resize(from_numpy(noise).permute(0, 3, 1, 2), [96, 160]).permute(0, 2, 3, 1)
    data = encode(smooth.numpy().astype(np.uint8), qp=0, pix_fmt="yuv444p")
    with Video(data) as video:
        full, small = video.read(np.array([0])), video.read(np.array([0]), short_side=32)
        same = video.read(np.array([0]), short_side=200)
    assert small.shape == (1, 32, 53, 3)
    np.testing.assert_array_equal(same, full)
    library = functional.resize(from_numpy(full).permute(0, 3, 1, 2), [32, 53], antialias=True)
    assert np.abs(library.permute(0, 2, 3, 1).numpy().astype(int) - small).mean() < 2


@pytest.mark.parametrize("size", [(96, 128), (90, 130), (94, 126)])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p10le"])
def test_scaled_frames_keep_colours_and_levels(size, full_range, pix_fmt):
    height, width = size
    colours = np.array([(230, 20, 20), (20, 230, 20), (20, 20, 230), (128, 128, 128), (250, 250, 250)])
    stripes = colours[np.arange(width) * 5 // width].astype(np.uint8)
    frames = np.broadcast_to(stripes, (1, height, width, 3)).copy()
    with Video(encode(frames, full_range=full_range, pix_fmt=pix_fmt, qp=1)) as video:
        for short_side in (24, 33, 45):
            small = video.read(np.array([0]), short_side=short_side)[0]
            middles = [int((i + 0.5) * small.shape[1] / 5) for i in range(5)]
            for rows in (small[0], small[short_side // 2], small[-1]):
                assert np.abs(rows[middles].astype(int) - colours).max() <= 6


def test_odd_sizes_and_one_frame():
    frames = np.full((1, 47, 63, 3), 90, np.uint8)
    with Video(encode(frames, codec="mpeg4")) as video:
        assert video.info() == VideoInfo(frames=1, fps=25, height=47, width=63, duration=0.04)
        assert video.read(np.zeros(3, np.int64)).shape == (3, 47, 63, 3)


def test_a_frame_that_is_not_there_is_a_bug_of_the_caller():
    with Video(encode(numbered_frames(4))) as video, pytest.raises(IndexError, match="of 4"):
        video.read(np.array([4]))


def test_cut_mp4():
    data = encode(numbered_frames(60), g=10)
    table = data.index(b"moov")
    assert table > data.index(b"mdat")
    # Behind the table of samples stands but the encoder's name: to lose that is to lose nothing.
    for length in (len(data) // 4, len(data) // 2, table, table + 200, data.index(b"stco")):
        with pytest.raises(BadVideo, match="does not decode|no frames|no video"):
            Video(data[:length])


def index_first(path: Path) -> bytes:
    """Returns 60 frames in an MP4 whose index stands before them."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for pixels in numbered_frames(60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path.read_bytes()


def test_cut_mp4_with_its_header_first(tmp_path: Path):
    data = index_first(tmp_path / "whole.mp4")
    assert data.index(b"moov") < data.index(b"mdat")
    for share in (0.5, 0.8, 0.95, 0.99):
        with pytest.raises(BadVideo, match="truncated"):
            Video(data[: int(len(data) * share)])


def test_cut_mp4_whose_last_box_has_no_size(tmp_path):
    """A size of 0 says "to the end of the file", so only the packets' places tell that some are missing."""
    data = bytearray(index_first(tmp_path / "whole.mp4"))
    place = data.index(b"mdat")
    data[place - 4 : place] = bytes(4)
    with Video(bytes(data)) as video:
        assert video.frames == 60
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(BadVideo, match="truncated"):
            Video(bytes(data[: int(len(data) * share)]))


@pytest.mark.parametrize("container, codec", [("avi", "mpeg4"), ("avi", "mjpeg"), ("matroska", "libx264")])
def test_cut_avi_and_matroska(container, codec):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    data = encode(numbered_frames(100), container=container, codec=codec, pix_fmt=pix_fmt)
    for share in (0.25, 0.5, 0.8, 0.95, 0.999):
        with pytest.raises(BadVideo, match=r"truncated|no frames|no video|does not decode"):
            Video(data[: int(len(data) * share)])


def test_an_avi_that_was_not_closed_is_read():
    data = bytearray(encode(numbered_frames(20), container="avi", codec="mpeg4"))
    data[4:8] = bytes(4)
    with Video(bytes(data)) as video:
        assert numbers(video.read(np.array([19]))) == [19]


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"not a video at all\n" * 50, "Invalid data"),
        (audio_only(), "streams: audio"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "Invalid|not allowed|does not decode"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "Invalid|does not decode"),
    ],
    ids=["empty", "text", "audio", "playlist", "concat script"],
)
def test_files_that_are_no_video(tmp_path, data, reason):
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(BadVideo, match=reason):
            Video(source)


def test_a_missing_file_is_bad(tmp_path):
    with pytest.raises(BadVideo, match="No such file"):
        Video(tmp_path / "gone.mp4")


def test_a_picture_that_is_too_large_is_refused(monkeypatch):
    data = encode(np.zeros((1, 48, 64, 3), np.uint8))
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(BadVideo), Video(data) as video:
        video.info()
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64)
    with Video(data) as video:
        assert video.info().frames == 1


@pytest.mark.parametrize("container, codec", [("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")])
def test_mutated_files_raise_nothing_else(container, codec):
    data = encode(numbered_frames(12), container=container, codec=codec)
    rng = np.random.default_rng(7)
    started = time.monotonic()
    bad = 0
    for _ in range(150):
        mutated = bytearray(data)
        for place in rng.integers(0, len(data), size=6):
            mutated[place] = rng.integers(256)
        try:
            with Video(bytes(mutated)) as video:
                assert video.read(np.arange(video.frames)[:20]).dtype == np.uint8
        except BadVideo:
            bad += 1
    assert bad > 10
    assert time.monotonic() - started < 60


def test_files_are_closed(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(numbered_frames(8)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        with Video(path) as video:
            video.info()
        with pytest.raises(BadVideo):
            Video(tmp_path / "gone.mp4")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_real_clips_decode_exactly(clips_folder):
    paths = sorted(p for p in clips_folder.iterdir() if p.suffix != ".md")
    assert len(paths) >= 9
    for path in paths:
        with av.open(str(path)) as container:
            plain = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        rng = np.random.default_rng(0)
        with Video(path) as video:
            assert video.frames == len(plain), path.name
            for _ in range(2):
                indices = rng.integers(0, video.frames, size=3)
                frames = video.read(indices)
                np.testing.assert_array_equal(frames, np.stack([plain[i] for i in indices]), path.name)
