"""Timelines of real encoded videos: what changes when, what is held, what is decoded."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from colours import CLIP, colour_student, coloured
from media import encode
from rich.console import Console
from torch import nn

import transfer3d
from transfer3d.data import decoder
from transfer3d.data.clips import views_of_video
from transfer3d.data.decode import Video
from transfer3d.data.moving_digits import CLASSES, FPS, SynthConfig, draw_video, encode_mp4
from transfer3d.data.views import ViewPlan
from transfer3d.evaluation.sliding import SlidingWindow
from transfer3d.layout import ClipSpec
from transfer3d.nn.pixels import normalise
from transfer3d.run.inference import session
from transfer3d.run.inference.timeline import TimelineOptions, predict_timelines

QUIET = Console(quiet=True)


@pytest.fixture
def by_colour(monkeypatch):
    """Puts a student whose class is the brightest colour in the place of every checkpoint's."""
    student = colour_student()
    monkeypatch.setattr(session, "load", lambda file: student)
    return student


def leaders(video, **options):
    (row,) = predict_timelines(
        "student.safetensors", [video], TimelineOptions(**options), precision="fp32", console=QUIET
    )
    return [(w["start"], w["end"], w["top"][0]["class"]) for w in row["windows"]]


def test_a_colour_changes_when_it_does(by_colour, tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(coloured((0, 50), (2, 30), (1, 20)), fps=10))
    rows = leaders(video, window_s=1.0, stride_s=0.5)
    assert len(rows) == 19
    for start, end, name in rows:
        at = (start + end) / 2
        if min(abs(at - 5), abs(at - 8)) > 0.4:  # else both are seen
            assert name == ("red" if at < 5 else "blue" if at < 8 else "green")


def test_time_is_that_of_the_frames_whatever_their_number(by_colour, tmp_path):
    """Ten frames a second of red, then fifty of blue: half of the time is red, a sixth of the frames."""
    times = [100 * n for n in range(20)] + [2000 + 20 * n for n in range(100)]
    video = tmp_path / "uneven.mp4"
    video.write_bytes(encode(coloured((0, 20), (2, 100)), times=times))
    rows = leaders(video, window_s=0.5, stride_s=0.5)
    assert [name for _, _, name in rows] == ["red"] * 4 + ["blue"] * 4
    assert rows[-1][1] == pytest.approx(4.0, abs=0.02)


def test_of_a_long_video_a_window_is_held_and_each_frame_decoded_once(by_colour, tmp_path, monkeypatch):
    video, count, fps = tmp_path / "long.mp4", 3000, 25
    video.write_bytes(encode(coloured((0, count // 2), (1, count // 2)), fps=fps, preset="ultrafast"))
    held, decoded = [], 0
    push, convert = SlidingWindow.push, Video._convert

    def watched(sliding, frame):
        held.append(len(sliding.held))
        return push(sliding, frame)

    def counted(*arguments):
        nonlocal decoded
        decoded += 1
        return convert(*arguments)

    monkeypatch.setattr(SlidingWindow, "push", watched)
    monkeypatch.setattr(Video, "_convert", counted)
    monkeypatch.setattr(decoder, "may_have_children", lambda: False)  # so that they are counted here
    rows = leaders(video, window_s=2.0, stride_s=1.0)
    assert len(held) == count
    assert max(held) <= 2 * fps + 2
    assert decoded == count
    assert len(rows) == 119
    assert [name for _, _, name in rows] == ["red"] * 59 + [rows[59][2]] + ["green"] * 59


def test_windows_that_fit_the_video_score_it_as_a_whole(by_colour, tmp_path):
    video = tmp_path / "short.mp4"
    video.write_bytes(encode(coloured((0, 3), (1, 4)), fps=10))
    assert len(leaders(video)) == 1
    (row,) = predict_timelines(
        "student.safetensors", [video], TimelineOptions(top=3), precision="fp32", console=QUIET
    )
    clips = views_of_video(video, CLIP, ViewPlan(), name="").clips()
    expected = by_colour(normalise(clips, CLIP.mean, CLIP.std)).softmax(-1)[0].tolist()
    scores = {guess["class"]: guess["score"] for guess in row["windows"][0]["top"]}
    assert [scores[name] for name in by_colour.class_names] == pytest.approx(expected, abs=1e-5)


def test_windows_are_as_long_as_a_clip_but_no_shorter_than_a_second(by_colour, tmp_path):
    """A clip spans seven frames: 0.7 seconds of the first video, 1.4 of the second."""
    for fps, length in ((10, 1.0), (5, 1.4)):
        video = tmp_path / f"{fps}.mp4"
        video.write_bytes(encode(coloured((0, 30)), fps=fps))
        start, end, _ = leaders(video)[0]
        assert (start, end) == (0, pytest.approx(length))


def test_as_many_clips_are_looked_at_as_are_asked_for(by_colour, tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(coloured((0, 20)), fps=10))
    seen = []
    by_colour.trunk.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    for clips, wanted in ((None, 3), (1, 1), (5, 5)):  # three clips of seven frames cover twenty
        seen.clear()
        assert len(leaders(video, window_s=2.0, clips=clips)) == 1
        assert sum(seen) == wanted


BEFORE, AFTER = "1_up", "0_right"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A checkpoint that was taught two classes of moving digits, and a video that joins unseen ones."""
    torch.manual_seed(0)
    config = SynthConfig(frames=48, size=32, background="plain")
    labels = [CLASSES.index(name) for name in (BEFORE, AFTER)]

    def draw(split, number):
        return draw_video(config, split, 40 * number + labels[number % 2]).frames

    student = transfer3d.create_model("p3d_tiny", num_classes=2, seed=0)
    clip = student.clip = ClipSpec(frames=4, stride=2, size=32, crop=32)
    videos = torch.from_numpy(np.stack([draw("train", n) for n in range(24)])).permute(0, 4, 1, 2, 3)
    classes = torch.arange(24) % 2
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for step in range(30):
        start = 7 * step % 40
        clips = normalise(videos[:, :, start : start + 7 : 2].contiguous(), clip.mean, clip.std)
        loss = nn.functional.cross_entropy(student.train()(clips), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("digits")
    transfer3d.save(student, folder / "student.safetensors", class_names=[BEFORE, AFTER])
    for number in range(2):
        joined = np.concatenate([draw("test", 2 * number), draw("test", 2 * number + 1)])
        (folder / f"{number}.mp4").write_bytes(encode_mp4(joined, fps=FPS))
    return folder


@pytest.mark.parametrize("number", [0, 1])
def test_the_class_of_moving_digits_changes_at_the_second_at_which_they_are_joined(digits, number):
    options = TimelineOptions(window_s=1.0, stride_s=0.25, top=2)
    (row,) = predict_timelines(
        digits / "student.safetensors", [digits / f"{number}.mp4"], options, precision="fp32", console=QUIET
    )
    change = 48 / FPS
    for window in row["windows"]:
        name = window["top"][0]["class"]
        if window["end"] <= change + 1e-6:
            assert name == BEFORE, window
        elif window["start"] >= change - 1e-6:
            assert name == AFTER, window
        assert sum(guess["score"] for guess in window["top"]) == pytest.approx(1)
    assert row["windows"][-1]["end"] == pytest.approx(2 * change)


@pytest.mark.proc
@pytest.mark.slow
def test_two_processes_share_the_videos_and_say_what_one_says(digits):
    alone = predict_timelines(
        digits / "student.safetensors", [digits], TimelineOptions(), precision="fp32", console=QUIET
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "transfer3d", "predict", "student.safetensors", ".", "--timeline", "--json",
         "--precision", "fp32"],
        cwd=digits, capture_output=True, text=True, check=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    shared = json.loads(done.stdout)
    assert [row["video"] for row in shared] == ["0.mp4", "1.mp4"]
    assert [row["windows"] for row in shared] == [row["windows"] for row in alone]


def test_frames_that_the_files_table_does_not_list_are_left_out_as_in_reading(
    by_colour, tmp_path, monkeypatch
):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode(coloured((0, 20), (2, 20)), fps=10))
    usual = leaders(video, window_s=1, stride_s=1)
    whole = Video.stream

    def more(self, **options):
        yield from whole(self, **options)
        yield np.zeros((32, 48, 3), np.uint8)

    monkeypatch.setattr(Video, "stream", more)
    assert leaders(video, window_s=1, stride_s=1) == usual
