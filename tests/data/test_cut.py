"""A file that ends within a part of it is distinguished from a whole one by the sizes its format keeps."""

import io

import pytest
from media import encode, numbered_frames

from transfer3d.data.cut import is_cut

FRAMES = numbered_frames(20)
FILES = {
    "avi": {"container": "avi", "codec": "mpeg4"},
    "mkv": {"container": "matroska"},
    "webm": {"container": "webm", "codec": "libvpx"},
    "mp4": {"container": "mp4"},
    "mov": {"container": "mov"},
    "wmv": {"container": "asf", "codec": "wmv2"},
    "ogv": {"container": "ogg", "codec": "libvpx"},
    "flv": {"container": "flv", "codec": "flv1"},
    "gif": {"container": "gif", "codec": "gif", "pix_fmt": "rgb8"},
    "ts": {"container": "mpegts"},
    "m2ts": {"container": "mpegts", "muxer": {"mpegts_m2ts_mode": "1"}},
}


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_told_from_a_whole_one(name):
    content = encode(FRAMES, **FILES[name])
    assert not is_cut(io.BytesIO(content))
    found = [is_cut(io.BytesIO(content[: len(content) * percent // 100])) for percent in (21, 43, 61, 79, 96)]
    # A cut may fall between two parts, which no size tells; and MP4's index may be what is cut off.
    assert sum(found) >= 4 or name in ("mp4", "mov")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, 4, 7, 13, 30])
def test_a_few_bytes_are_no_bug(name, length):
    assert is_cut(io.BytesIO(encode(FRAMES[:2], **FILES[name])[:length])) in (True, False)


def test_what_follows_the_end_is_no_cut():
    for name in ("gif", "ogv", "flv", "wmv", "avi"):
        assert not is_cut(io.BytesIO(encode(FRAMES, **FILES[name]) + bytes(100))), name
