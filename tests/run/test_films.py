"""`predict --save-video` and `cam --format mp4` on real encoded videos, read back from the written files."""

from pathlib import Path

import av
import numpy as np
import pytest
from colours import colour_student, coloured
from media import encode
from rich.console import Console

from transfer3d.data.container import BadVideo
from transfer3d.errors import UsageError
from transfer3d.insight.pictures import annotated_film
from transfer3d.run.inference import cam, session
from transfer3d.run.inference.cam import CamOptions, explain_videos
from transfer3d.run.inference.timeline import TimelineOptions, predict_timelines

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def by_colour(monkeypatch):
    """Puts a student whose class is the brightest colour in the place of every checkpoint's."""
    student = colour_student()
    monkeypatch.setattr(session, "load", lambda file: student)
    monkeypatch.setattr(cam, "load", lambda file: student)
    return student


def save_video(video, film, **options):
    options = TimelineOptions(film=film, **{"window_s": 1.0, **options})
    predict_timelines("student.safetensors", [video], options, precision="fp32", console=QUIET)
    return film


def explain(video, out, **options):
    options = CamOptions(format="mp4", method="classifier", **options)
    (row,) = explain_videos("student.safetensors", [video], options, out=out, console=QUIET)
    return row


def read(path):
    """Frames [N, H, W, 3], times in seconds after the first, length in seconds, and the stream's facts."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(video=0))
        facts = stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate
        length = float(stream.duration * stream.time_base)
    times = [float(frame.pts * frame.time_base) for frame in frames]
    return (
        np.stack([f.to_ndarray(format="rgb24") for f in frames]), np.array(times) - times[0], length, facts
    )  # fmt: skip


VIDEOS = {
    "plain": (coloured((0, 40), (2, 40)), {"fps": 20}),
    "odd size": (coloured((0, 10), (2, 10))[:, :31, :47], {"fps": 10, "pix_fmt": "yuv444p"}),
    "rotated": (coloured((0, 10), (2, 10)), {"fps": 10, "rotation": {"degrees": 90}}),
    "uneven": (
        coloured((0, 20), (2, 40)),
        {"times": [100 * n for n in range(20)] + [2000 + 20 * n for n in range(40)]},
    ),
    "one frame": (coloured((1, 1)), {"fps": 10}),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_film_has_the_videos_frames_times_and_rate_and_plays_in_browsers(kind, tmp_path):
    frames, options = VIDEOS[kind]
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(frames, crf="1", **options))
    _, times, length, (*_, rate) = read(video)
    film = save_video(video, tmp_path / "deep" / "film.mp4")
    pictures, film_times, film_length, (codec, pix_fmt, film_rate) = read(film)
    assert (codec, pix_fmt) == ("h264", "yuv420p")
    assert len(pictures) == len(frames)
    assert film_times == pytest.approx(times, abs=1e-4)
    if kind != "uneven":  # there the length of the last frame is not known
        assert (film_length, film_rate) == (pytest.approx(length, abs=1e-4), rate)
    content = film.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert [path.name for path in film.parent.iterdir()] == ["film.mp4"]
    tall = kind == "rotated"
    factor = 240 // min(frames.shape[1:3]) + (240 % min(frames.shape[1:3]) > 0)
    height, width = (factor * side for side in (frames.shape[1:3][::-1] if tall else frames.shape[1:3]))
    left = (pictures.shape[2] - width) // 2
    shown = pictures[:, 10 : height - 10, left + 10 : left + width - 10].mean((1, 2))
    assert (shown.argmax(1) == frames.mean((1, 2)).argmax(1)).all()
    assert shown.max(1) == pytest.approx(np.full(len(frames), 230), abs=8)
    if left > 40:
        assert pictures[:, :height, : left - 8].max() < 40


def test_beneath_it_are_the_classes_and_a_line_that_follows_the_time(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(coloured((0, 40), (2, 40)), fps=20))
    pictures, times, *_ = read(save_video(video, tmp_path / "film.mp4", stride_s=0.25))
    height, width = pictures.shape[1:3]
    graph = pictures[:, 256 + 85 : 256 + 120].astype(int)
    line = graph.min(-1).sum(1).argmax(1)  # the whitest column of each frame
    assert line == pytest.approx(9 + (width - 18) * times / 4, abs=3)
    at = lambda number: pictures[number, height - 30, width // 8]  # noqa: E731 - the band, its first half
    blue, orange = (np.array([0x00, 0x72, 0xB2]), np.array([0xD5, 0x5E, 0x00]))
    assert np.abs(at(0) - blue).max() < 40
    assert np.abs(at(79) - blue).max() < 40
    later = pictures[:, height - 30, 7 * width // 8].astype(int)
    assert np.abs(later[:40] - orange).max() < 40


def test_a_video_is_not_replaced_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    video = tmp_path / "a.mp4"
    content = encode(coloured((0, 20), (1, 20)), fps=10)
    video.write_bytes(content)
    (tmp_path / "link.mp4").symlink_to(video)
    for film in (video, tmp_path / "link.mp4"):
        with pytest.raises(UsageError, match="would be replaced"):
            save_video(video, film)
    with pytest.raises(UsageError, match=r"films are .mp4"):
        save_video(video, tmp_path / "a.gif")
    with pytest.raises(UsageError, match="would be replaced"):
        explain(video, tmp_path)
    draw = annotated_film.AnnotatedFilm.frame

    def broken(film, pictures, time_s):
        if time_s > 1:
            raise BadVideo("a.mp4: a damaged frame")
        return draw(film, pictures, time_s)

    monkeypatch.setattr(annotated_film.AnnotatedFilm, "frame", broken)
    with pytest.raises(BadVideo):
        save_video(video, tmp_path / "film.mp4")
    assert video.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "link.mp4"]


def moving_square(count):
    """Frames [N, 32, 32, 3]: on dark blue a red square that goes from left to right."""
    frames = np.zeros((count, 32, 32, 3), np.uint8)
    frames[..., 2] = 60
    for number, pixels in enumerate(frames):
        left = 24 * number // (count - 1)
        pixels[8:24, left : left + 8] = (255, 0, 0)
    return frames


@pytest.mark.parametrize("count", [21, 40, 5])  # windows of seven frames: three; six, the last overlaps; one
def test_the_heat_follows_what_speaks_for_the_class_over_the_whole_video(count, tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(moving_square(count), fps=10, crf="1", pix_fmt="yuv444p"))
    row = explain(video, tmp_path / "cam", target="red")
    pictures, times, length, _ = read(row["film"])
    assert (len(pictures), length) == (count, pytest.approx(count / 10))
    assert len(row["windows"]) == -(-count // 7)
    assert row["windows"][0]["start"] == 0
    assert row["windows"][-1]["end"] == pytest.approx(count / 10)
    assert {window["class"] for window in row["windows"]} == {"red"}
    size, gap = 240, 8
    left = (pictures.shape[2] - 2 * size - gap) // 2
    seen = pictures[:, :size, left : left + size].astype(int)
    heat = pictures[:, :size, left + size + gap : left + 2 * size + gap].astype(int)
    middle = lambda weights: (weights.sum(1) @ np.arange(size)) / weights.sum((1, 2))  # noqa: E731
    square = middle(np.clip(seen[..., 0] - 100, 0, None))
    # inferno: what is hot is yellow, red and green together
    warm = middle(np.clip(heat[..., 0] + heat[..., 1] - 300, 0, None))
    step = 180 / max(count - 1, 1)  # pixels; every second frame is one of the clip's
    assert np.abs(square - warm).max() < 1.5 * step + 6
    assert np.corrcoef(times, warm)[0, 1] > (0.98 if count > 7 else 0.9)


def test_each_window_has_its_own_class_and_two_networks_are_side_by_side(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(coloured((0, 14), (2, 14)), fps=7))
    row = explain(video, tmp_path / "cam", beside=Path("other.safetensors"))
    assert [window["class"] for window in row["windows"]] == ["red", "red", "blue", "blue"]
    assert [window["start"] for window in row["windows"]] == pytest.approx([0, 1, 2, 3])
    pictures, *_ = read(row["film"])
    assert pictures.shape[2] == 3 * 240 + 2 * 8
