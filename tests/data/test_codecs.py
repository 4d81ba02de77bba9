"""Which codecs are decoded: what people have, and nothing else that FFmpeg knows."""

import av
import numpy as np
import pytest
from av.codec import Codec, codecs_available
from media import encode, numbered_frames, numbers

from transfer3d.data.container import CODECS, SOUND, BadVideo, open_container
from transfer3d.data.decode import Video

ALLOWED = {
    "h264": ("mp4", "libx264", "yuv420p"),
    "hevc": ("matroska", "libx265", "yuv420p"),
    "av1": ("mp4", "libsvtav1", "yuv420p"),
    "vp8": ("webm", "libvpx", "yuv420p"),
    "vp9": ("webm", "libvpx-vp9", "yuv420p"),
    "mpeg1": ("mpeg", "mpeg1video", "yuv420p"),
    "mpeg2": ("mpegts", "mpeg2video", "yuv420p"),
    "mpeg4": ("avi", "mpeg4", "yuv420p"),
    "msmpeg4v2": ("avi", "msmpeg4v2", "yuv420p"),
    "msmpeg4v3": ("avi", "msmpeg4", "yuv420p"),
    "wmv1": ("asf", "wmv1", "yuv420p"),
    "wmv2": ("asf", "wmv2", "yuv420p"),
    "mjpeg": ("avi", "mjpeg", "yuvj420p"),
    "flv1": ("flv", "flv", "yuv420p"),
    "prores": ("mov", "prores_ks", "yuv422p10le"),
    "gif": ("gif", "gif", "rgb8"),
    "qtrle": ("mov", "qtrle", "rgb24"),
    "rawvideo": ("avi", "rawvideo", "yuv420p"),
    "ffv1": ("matroska", "ffv1", "yuv420p"),
    "huffyuv": ("avi", "huffyuv", "yuv422p"),
    "ffvhuff": ("avi", "ffvhuff", "yuv420p"),
    "utvideo": ("avi", "utvideo", "yuv420p"),
    "png": ("mov", "png", "rgb24"),
    "cinepak": ("avi", "cinepak", "rgb24"),
    "svq1": ("mov", "svq1", "yuv410p"),
    "cfhd": ("mov", "cfhd", "yuv422p10le"),
    "v210": ("mov", "v210", "yuv422p10le"),
}
REFUSED = {
    "snow": ("avi", "snow", "yuv420p"),
    "zmbv": ("avi", "zmbv", "bgr0"),
    "flashsv": ("flv", "flashsv", "bgr24"),
    "asv1": ("avi", "asv1", "yuv420p"),
    "jpeg2000": ("mov", "jpeg2000", "yuv420p"),
    "msvideo1": ("avi", "msvideo1", "rgb555le"),
}


def made(container, codec, pix_fmt):
    try:
        Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg does not write {codec}")
    options = {"strict": -2}
    if codec == "libsvtav1":
        options = {"preset": 10}
    return encode(numbered_frames(12), container=container, codec=codec, pix_fmt=pix_fmt, **options)


@pytest.mark.parametrize("kind", ALLOWED)
def test_what_people_have_is_decoded(kind):
    with Video(made(*ALLOWED[kind])) as video:
        assert numbers(video.read(np.arange(video.frames))) == list(range(12))


@pytest.mark.parametrize("kind", REFUSED)
def test_other_codecs_are_named_and_never_opened(kind):
    data = made(*REFUSED[kind])
    with pytest.raises(BadVideo, match=f"its codec, {kind}, is not allowed; convert it"):
        Video(data)
    with open_container(data) as opened:
        # Without the sentence before it, FFmpeg refuses by the same list.
        opened.streams.video[0].codec_context.options = {"codec_whitelist": ",".join(CODECS)}
        with pytest.raises(av.error.FFmpegError):
            opened.decode(video=0).__next__()


def test_the_lists_name_decoders_that_ffmpeg_has():
    elsewhere = {"libvpx", "libvpx-vp9", "libdav1d", "libaom-av1", "av1", "libopus"}  # as it was built
    for codecs, kind in ((CODECS, "video"), (SOUND, "audio")):
        assert len(set(codecs)) == len(codecs)
        for name in set(codecs) - elsewhere:
            assert name in codecs_available
            assert Codec(name, "r").type == kind
