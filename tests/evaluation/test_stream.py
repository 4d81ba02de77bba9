"""Streams against brute force, against files of the same frames, and against readers that read too far."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from moving_noise import FPS, noise_video, wakeful_student
from rich.console import Console
from torchvision.transforms.v2 import functional

import transfer3d
from transfer3d.data.decode import Video
from transfer3d.errors import NonFiniteError, UsageError
from transfer3d.evaluation.sliding import SlidingWindow, timed, windows_of
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.run.inference.predict import predict_files

PIXEL = ClipSpec(frames=2, size=1, crop=1)
student_of = partial(wakeful_student, num_classes=3)


def grey(numbers):
    """Frames of one pixel each that carry their number."""
    for number in numbers:
        yield np.full((1, 1, 3), number % 256, np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Fifty frames of noise that moves, 40x60 pixels."""
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    path.write_bytes(noise_video(50))
    return path


@pytest.fixture(scope="module")
def frames(video):
    with Video(video) as opened:
        return list(opened.stream())


def brute_force(count, fps, window_s, stride_s):
    """Start and end in seconds, and the frames shown in between, by looking at every frame each time."""
    shown = [number / fps for number in range(count)]
    end_s = count / fps
    spans = []
    for number in itertools.count():
        start_s = number * stride_s
        if start_s + window_s > end_s + 1e-9:
            break
        spans.append((start_s, start_s + window_s))
    if not spans or spans[-1][1] < end_s - 1e-9:
        spans.append((max(end_s - window_s, 0), end_s))
    rows = [(a, b, [n for n, t in enumerate(shown) if a - 1e-9 <= t < b - 1e-9]) for a, b in spans]
    return [row for row in rows if row[2]]


@pytest.mark.parametrize(
    ("count", "fps", "window_s", "stride_s"),
    [
        (30, 10, 1.0, 0.5),
        (31, 10, 1.0, 0.5),
        (29, 25, 0.64, 0.32),
        (100, 30, 1.0, 0.1),
        (100, 29.97, 0.7, 0.33),
        (40, 10, 0.5, 2.0),
        (3, 10, 1.0, 0.5),
        (1, 10, 1.0, 0.5),
        (12, 2, 0.3, 0.15),  # windows shorter than a frame: some are empty
        (0, 10, 1.0, 0.5),
    ],
)
@pytest.mark.parametrize("brings_times", [False, True])
def test_windows_are_those_of_brute_force(count, fps, window_s, stride_s, brings_times):
    sliding = SlidingWindow(PIXEL, window_s=window_s, stride_s=stride_s)
    frames = grey(range(count))
    if brings_times:
        frames = ((number / fps, frame) for number, frame in enumerate(frames))
    found = list(windows_of(sliding, timed(frames, None if brings_times else fps)))
    wanted = brute_force(count, fps, window_s, stride_s)
    if brings_times and count == 1:
        wanted = []  # nothing says how long it is shown: see below
        found = found[1:]
    assert [(w.start_s, w.end_s) for w in found] == [pytest.approx(row[:2]) for row in wanted]
    for window, (_, _, numbers) in zip(found, wanted, strict=True):
        clips = window.views.clips()[:, 0, :, 0, 0]
        assert set(clips.unique().tolist()) <= set(numbers)
        assert (clips.min(), clips.max()) == (numbers[0], numbers[-1])


def test_a_single_frame_that_brings_its_time_is_a_window():
    frame = next(grey([7]))
    sliding = SlidingWindow(PIXEL, window_s=1, stride_s=1)
    (window,) = windows_of(sliding, timed([(5.0, frame)], None))
    assert (window.start_s, window.end_s) == (5.0, 5.0)


def test_frames_at_uneven_times_fall_into_the_windows_of_their_times():
    times = [100.0, 100.4, 100.9, 101.0, 101.05, 104.2, 104.9, 105.0]
    sliding = SlidingWindow(PIXEL, window_s=1.0, stride_s=1.0)
    found = windows_of(sliding, timed(zip(times, grey(range(8)), strict=True), None))
    inside = [(w.start_s, sorted(w.views.clips().unique().tolist())) for w in found]
    # Nothing is shown for the first time from 102 to 104; the last window ends with the stream.
    assert inside == [(100, [0, 1, 2]), (101, [3, 4]), (104, [5, 6]), (pytest.approx(104.1), [5, 6, 7])]


def test_a_pause_of_years_is_passed_over():
    times = [0.0, 0.5, 1e9, 1e9 + 0.5, 1e9 + 1.0, 1e9 + 1.5]
    sliding = SlidingWindow(PIXEL, window_s=1.0, stride_s=0.25)
    found = list(windows_of(sliding, timed(zip(times, grey(range(6)), strict=True), None)))
    assert [sorted(w.views.clips().unique().tolist()) for w in found] == [
        [0, 1], [1], [1], [2], [2], [2, 3], [2, 3], [3, 4], [3, 4], [4, 5], [4, 5]
    ]  # fmt: skip
    assert all(w.end_s - w.start_s == 1.0 for w in found)


@pytest.mark.parametrize(("window_s", "stride_s"), [(1.0, 0.5), (0.5, 3.0), (2.0, 0.1)])
@pytest.mark.parametrize("brings_times", [False, True])
def test_an_endless_stream_is_read_no_further_than_its_windows(window_s, stride_s, brings_times):
    read = 0

    def camera():
        nonlocal read
        for number in itertools.count():
            read += 1
            frame = next(grey([number]))
            yield (number / FPS, frame) if brings_times else frame

    sliding = SlidingWindow(PIXEL, window_s=window_s, stride_s=stride_s)
    windows = windows_of(sliding, timed(camera(), None if brings_times else FPS))
    for number, window in enumerate(itertools.islice(windows, 300)):
        assert window.end_s == pytest.approx(number * stride_s + window_s)
        assert read == round(window.end_s * FPS) + brings_times
        assert len(sliding.held) <= window_s * FPS + 2


@pytest.mark.parametrize("family", ["p3d", "v4d"])
def test_a_stream_scores_as_a_file_of_the_same_frames_does(family, video, frames, tmp_path):
    student = student_of(family)
    transfer3d.save(student, tmp_path / "student.safetensors")
    clips = 1 if family == "v4d" else 4
    (row,) = predict_files(
        tmp_path / "student.safetensors", [video], top=3, clips=clips, precision="fp32",
        console=Console(quiet=True),
    )  # fmt: skip
    (found,) = transfer3d.stream(student, frames, fps=FPS, window=5.0, clips=clips)
    by_class = {guess["class"]: guess["score"] for guess in row["top"]}
    wanted = [by_class[f"class {k}"] for k in range(3)]
    assert max(wanted) < 0.999  # else the comparison says little
    assert found.scores_K.tolist() == pytest.approx(wanted, abs=1e-5)
    assert (found.start, found.end) == (0, 5.0)


def by_hand(student, frames):
    """Scores of frames [N, H, W, 3]: clips evenly over them, each by itself through the bare student."""
    span = student.clip.window
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    pixels = functional.center_crop(functional.resize(pixels, [40], antialias=True), [32, 32])
    mean, std = (torch.tensor(value).view(3, 1, 1, 1) for value in (student.clip.mean, student.clip.std))
    count = -(-len(frames) // span)
    starts = np.linspace(0, len(frames) - span, count) if count > 1 else [(len(frames) - span) // 2]
    rows = []
    for start in np.floor(np.add(starts, 0.5)).astype(int):
        clip = pixels[start : start + span : student.clip.stride].transpose(0, 1) / 255
        rows.append(student(((clip - mean) / std)[None]).softmax(-1)[0])
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("together", [1, 3])
def test_predictions_come_with_the_last_frame_of_their_group(frames, together):
    read = 0

    def camera():
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    student = student_of("p3d", frames=4)
    found = transfer3d.stream(student, camera(), fps=FPS, window=1.0, stride=0.5, together=together)
    seen = [read for _ in itertools.islice(found, 6)]
    complete = [10 + 5 * number for number in range(6)]
    assert seen == [complete[number // together * together + together - 1] for number in range(6)]


@pytest.mark.parametrize("together", [1, 4])
def test_every_window_scores_as_the_bare_student_does(frames, together):
    student = student_of("p3d", frames=4, stride=2)
    found = list(transfer3d.stream(student, frames, fps=FPS, window=2.0, stride=0.7, together=together))
    assert [prediction.start for prediction in found] == pytest.approx([0, 0.7, 1.4, 2.1, 2.8, 3.0])
    with torch.no_grad():
        wanted = [by_hand(student, frames[n : n + 20]) for n in (0, 7, 14, 21, 28, 30)]
    torch.testing.assert_close(torch.stack([p.scores_K for p in found]), torch.stack(wanted))


def test_the_default_window_is_one_clip_and_half_of_it_the_stride(frames):
    student = student_of("p3d", frames=4, stride=2).train()
    found = list(transfer3d.stream(student, frames[:14], fps=FPS))
    assert [(p.start, p.end) for p in found] == [
        pytest.approx(s) for s in [(0, 0.7), (0.35, 1.05), (0.7, 1.4)]
    ]
    assert not student.training


def test_a_student_in_half_precision_is_given_its_own_dtype(frames):
    student = student_of("p3d", frames=4)
    full = [p.scores_K for p in transfer3d.stream(student, frames, fps=FPS, window=1.0)]
    half = [p.scores_K for p in transfer3d.stream(student.bfloat16(), frames, fps=FPS, window=1.0)]
    assert half[0].dtype == torch.float32
    torch.testing.assert_close(torch.stack(half), torch.stack(full), atol=0.1, rtol=0)


def test_flipped_channels_need_no_copy_by_the_user(frames):
    student = student_of("p3d", frames=4)
    bgr = [frame[..., ::-1].copy() for frame in frames]
    (first, *_) = transfer3d.stream(student, (frame[..., ::-1] for frame in bgr), fps=FPS)
    (wanted, *_) = transfer3d.stream(student, frames, fps=FPS)
    torch.testing.assert_close(first.scores_K, wanted.scores_K, atol=0, rtol=0)


FRAME = np.zeros((40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "options", "said"),
    [
        ([FRAME], {"fps": 0}, "fps=0"),
        ([FRAME], {"fps": 10, "window": 0}, "window=0"),
        ([FRAME], {"fps": 10, "window": float("nan")}, "window=nan"),
        ([FRAME], {"fps": 10, "stride": -1.0}, "stride=-1.0"),
        ([FRAME], {"fps": 10, "clips": 0}, "clips=0"),
        ([FRAME], {}, "need `window`, its length in seconds"),
        ([FRAME], {"window": 1.0}, "frame 0 has no time"),
        ([(0.0, FRAME), (0.0, FRAME)], {"window": 1.0}, "frame 1 has time 0.0 s"),
        ([(float("nan"), FRAME)], {"window": 1.0}, "frame 0 has time nan s"),
        ([FRAME, FRAME / 255], {"fps": 10}, r"frame 1 is float64 \[40, 60, 3\]"),
        ([FRAME[..., 0]], {"fps": 10}, r"frame 0 is uint8 \[40, 60\]"),
        ([FRAME.transpose(2, 0, 1)], {"fps": 10}, r"frame 0 is uint8 \[3, 40, 60\]"),
        ([FRAME[:0]], {"fps": 10}, "frame 0"),
        ([None], {"fps": 10}, "frame 0"),
    ],
)
def test_what_is_no_stream_is_refused_in_a_sentence(frames, options, said):
    with pytest.raises(UsageError, match=said):
        list(transfer3d.stream(student_of("p3d"), frames, **options))


def test_values_are_checked_before_the_first_frame_is_asked_for():
    def camera():
        raise AssertionError("read")
        yield

    with pytest.raises(UsageError, match="no classifier"):
        transfer3d.stream(create_model("p3d_tiny", num_classes=0), camera(), fps=10)


def test_scores_that_are_not_finite_are_not_given(frames):
    student = student_of("p3d")
    torch.nn.init.constant_(student.head.bias, float("nan"))
    with pytest.raises(NonFiniteError, match=r"0\.00 s"):
        next(transfer3d.stream(student, frames, fps=FPS))
