"""New MP4 files: rates, the index in front, and copies that show the same pictures."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from endless import ENDLESS, place_endless
from media import encode, numbered_frames, numbers, write_numbered
from PIL import Image
from rich.console import Console

from transfer3d.data.container import BadVideo
from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.data.decode import Video
from transfer3d.data.isolated import Limits
from transfer3d.data.shards import FolderStore, read_index
from transfer3d.data.transcode import encode_folder, encode_frames, remux, write_film
from transfer3d.run.datasets.shard import ShardConfig, shard_dataset


@pytest.mark.parametrize("fps", [12, 24, 29.97, 60, 120])
def test_a_stream_has_its_rate_and_its_index_first(fps):
    content, count = encode_frames(numbered_frames(30), [n / fps for n in range(30)], gop=12)
    assert count == 30
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-3)
        assert float(stream.duration * stream.time_base) == pytest.approx(30 / fps, rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"container": "matroska", "bf": 3, "g": 12},
        {"container": "avi", "codec": "mpeg4", "g": 7},
        {"container": "mov", "bf": 2, "rotation": {"degrees": 90}},
        {"container": "webm", "codec": "libvpx-vp9", "deadline": "realtime"},
        {"container": "mpegts", "bf": 2},
    ],
    ids=str,
)
def test_a_copy_in_mp4_shows_the_same_pictures(options):
    source = encode(numbered_frames(24), **options)
    copy = remux(source, name="x")
    assert copy is not None
    with Video(source) as before, Video(copy) as after:
        assert before.frames == after.frames == 24
        assert before.fps == pytest.approx(after.fps, rel=0.01)
        np.testing.assert_array_equal(before.read(np.arange(24)), after.read(np.arange(24)))


def test_a_codec_that_does_not_fit_is_left_alone():
    assert remux(encode(numbered_frames(12), container="asf", codec="wmv2"), name="x") is None


def test_shards_of_several_suffixes_become_mp4_where_they_can(tmp_path):
    write_numbered(tmp_path / "set" / "a" / "1.mp4", 12)
    write_numbered(tmp_path / "set" / "a" / "2.mkv", 12, container="matroska")
    write_numbered(tmp_path / "set" / "a" / "3.wmv", 12, container="asf", codec="wmv2")
    suffixes = {}
    for out in ("first", "again"):
        report = shard_dataset(
            Request(tmp_path / "set"), tmp_path / out, ShardConfig(name="x"), layout="auto", classes=None,
            workers=1, limits=Limits(), console=Console(file=io.StringIO()),
        )  # fmt: skip
        suffixes[out] = report.suffixes
    assert suffixes["first"] == suffixes["again"] == {"mp4": 2, "wmv": 1}
    tars = [next((tmp_path / out).glob("*.tar")).read_bytes() for out in ("first", "again")]
    assert tars[0] == tars[1]
    (shard,) = read_index(FolderStore(tmp_path / "first")).shards
    assert [sample.frames for sample in shard.samples] == [12] * 3


def test_one_suffix_is_packed_as_it_is(tmp_path):
    path = write_numbered(tmp_path / "set" / "a" / "2.mkv", 12, container="matroska")
    _, listing = read_listing(Request(tmp_path / "set"))
    assert [entry.path for entry in listing.entries] == [path]
    report = shard_dataset(
        Request(tmp_path / "set"), tmp_path / "out", ShardConfig(name="x"), layout="auto", classes=None,
        workers=1, limits=Limits(), console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert report.suffixes == {"mkv": 1}
    assert path.read_bytes() in next((tmp_path / "out").glob("*.tar")).read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
def pictures(folder, names, suffix="jpg"):
    folder.mkdir()
    frames = numbered_frames(len(names))
    for name, pixels in zip(names, frames, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.{suffix}", quality=95)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [f"frame{i}" for i in range(12)],
        [f"img_{i:05d}" for i in range(12)],
        [f"{i // 6}-{i % 6}-x" for i in range(12)],
        [f"shot 2, {i}" for i in range(8, 12)],
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_are_in_the_order_of_their_numbers(names, suffix, tmp_path):
    folder = pictures(tmp_path / "v", names, suffix)
    (folder / f"._{names[0]}.{suffix}").write_bytes(b"\0\5\26\7")  # what macOS leaves on other disks
    content, count = encode_folder(folder)
    with Video(content) as video:
        assert numbers(video.read(np.arange(count))) == list(range(len(names)))


def test_a_picture_that_is_damaged_or_of_another_size_is_named(tmp_path):
    folder = pictures(tmp_path / "v", ["1", "2", "3"])
    Image.new("RGB", (32, 96)).save(folder / "2.jpg")
    with pytest.raises(BadVideo, match=r"v: 2\.jpg is 32x96, the first is 64x48"):
        encode_folder(folder)
    (folder / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(BadVideo, match=r"v/2\.jpg: does not decode"):
        encode_folder(folder)


def test_a_full_disk_is_an_error_of_the_system():
    frames = [(pixels, number / 25) for number, pixels in enumerate(numbered_frames(30))]
    with pytest.raises(OSError, match="No space left"):
        write_film(Path("/dev/full"), frames, fps=25)


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_picture_that_never_ends_is_refused(kind, tmp_path):
    place_endless(tmp_path / "00001.jpg", kind)
    with pytest.raises(ValueError, match="not a regular file"):
        encode_folder(tmp_path)
