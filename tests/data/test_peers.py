"""Other libraries' clips and crops: vectors worked out by hand from their rules, and where ours differ."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer3d.data.augment import crop_frames, evaluation_transform
from transfer3d.data.crops import ThreeCrop
from transfer3d.data.peers import peer_clips
from transfer3d.data.sampling import even_clips
from transfer3d.layout import ClipSpec


def of(peer, frames, length, stride, count):
    return peer_clips(peer, frames, length=length, stride=stride, count=count).tolist()


def test_slowfast():
    # A window of 8 x 8 = 64 of 300 frames leaves room 236: clip i starts at 23.6 i, its frames 9 apart.
    clips = of("slowfast", 300, 8, 8, 10)
    assert clips[0] == [0, 9, 18, 27, 36, 45, 54, 63]
    assert clips[1] == [23, 32, 41, 50, 59, 68, 77, 86]
    assert clips[9] == [212, 221, 230, 239, 248, 257, 266, 275]  # not the end of the video
    # Too short: 4 x 2 = 8 of 5 frames: 0, 7/3, 14/3, 7, at most 4.
    assert of("slowfast", 5, 4, 2, 2) == [[0, 2, 4, 4]] * 2


def test_mmaction2():
    # A window of 7 x 8 + 1 = 57 of 300 frames leaves room 243, 27 from clip to clip.
    clips = of("mmaction2", 300, 8, 8, 10)
    assert [clip[0] for clip in clips] == [0, 27, 54, 81, 108, 135, 162, 189, 216, 243]
    assert clips[9] == [243, 251, 259, 267, 275, 283, 291, 299]  # the last frame
    # Room 5: 0, 2.5, 5, and the half goes to the even number; one clip is in the middle.
    assert [clip[0] for clip in of("mmaction2", 8, 2, 2, 3)] == [0, 2, 5]
    assert of("mmaction2", 8, 2, 2, 1) == [[2, 4]]
    # Too short: it begins again.
    assert of("mmaction2", 5, 4, 2, 1) == [[0, 2, 4, 1]]
    # Their test_sampling.py, from 1 there: 8 clips of one of 6 frames, 5/7 apart; 6 frames of 5.
    assert [clip[0] for clip in of("mmaction2", 6, 1, 1, 8)] == [0, 1, 1, 2, 3, 4, 4, 5]
    assert of("mmaction2", 5, 6, 1, 1) == [[0, 1, 2, 3, 4, 0]]


def test_pytorchvideo():
    # Clip 0 lasts from 0 to 64, both included: 65 frames, 64/7 apart. Clip 1 from 23.6: frames 24 to 87.
    clips = of("pytorchvideo", 300, 8, 8, 10)
    assert clips[0] == [0, 9, 18, 27, 36, 45, 54, 64]
    assert clips[1] == [24, 33, 42, 51, 60, 69, 78, 87]
    # Too short: spread over all of it, 4 frames from 0 to 4, 4/3 apart.
    assert of("pytorchvideo", 5, 4, 2, 2) == [[0, 1, 2, 4]] * 2
    # Their test_transforms.py: 10 of 20 frames, 19/9 apart.
    assert of("pytorchvideo", 20, 10, 3, 1) == [[0, 2, 4, 6, 8, 10, 12, 14, 16, 19]]


def test_ours_rounds_halves_up_and_ends_with_the_video():
    assert even_clips(8, length=2, stride=2, count=3)[:, 0].tolist() == [0, 3, 5]
    assert even_clips(300, length=8, stride=8, count=10)[9, -1] == 299
    assert even_clips(5, length=4, stride=2, count=1).tolist() == [[0, 2, 4, 4]]


@settings(max_examples=100, deadline=None)
@given(
    peer=st.sampled_from(["slowfast", "mmaction2", "pytorchvideo"]),
    frames=st.integers(1, 200),
    length=st.integers(2, 16),
    stride=st.integers(1, 8),
    count=st.integers(1, 10),
)
def test_every_number_is_a_frame_and_clips_follow_one_another(peer, frames, length, stride, count):
    clips = peer_clips(peer, frames, length=length, stride=stride, count=count)
    assert clips.shape == (count, length)
    assert clips.dtype == np.int64
    assert clips.min() >= 0
    assert clips.max() < frames
    assert (np.diff(clips[:, 0]) >= 0).all()
    if frames >= length * stride:
        assert (np.diff(clips) >= 1).all()
        assert np.abs(np.diff(clips) - stride).max() <= stride + 1


def crops_of(height, width, rule):
    """(top, left) of three crops of 32 pixels from a frame that holds its own coordinates."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    frame = np.stack([rows, columns, rows], -1).astype(np.uint8)[None]
    clip = ClipSpec(frames=1, size=32)
    return [
        (int(cut[0, 0].min()), int(cut[0, 1].min()))
        for cut in crop_frames(evaluation_transform(clip, 3, rule), frame)
    ]


@pytest.mark.parametrize(
    "height, width, places",
    [(30, 40, [(5, 0), (5, 10), (5, 20)]), (40, 30, [(0, 5), (10, 5), (20, 5)])],
)
def test_squares_of_20_as_in_pytorchvideos_own_test(height, width, places):
    frame = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None]
    cuts = ThreeCrop(20, "slowfast")(frame)
    assert [tuple(cut[0].amin((1, 2)).tolist()) for cut in cuts] == places


@pytest.mark.parametrize(
    "rule, middle, end", [("transfer3d", 10, 21), ("slowfast", 11, 21), ("mmaction2", 10, 20)]
)
def test_three_crops_of_an_odd_room(rule, middle, end):
    assert crops_of(32, 53, rule) == [(0, 0), (0, middle), (0, end)]
    assert crops_of(53, 32, rule) == [(0, 0), (middle, 0), (end, 0)]


def test_crops_smaller_than_the_short_side_are_cut_at_the_centre_row():
    frame = np.zeros((1, 3, 37, 53), np.uint8)
    frame[0, 0] = np.arange(37)[:, None]
    frame[0, 1] = np.arange(53)
    for rule, row in (("slowfast", 3), ("transfer3d", 2)):
        cuts = ThreeCrop(32, rule)(torch.from_numpy(frame))
        assert {int(cut[0, 0].min()) for cut in cuts} == {row}
