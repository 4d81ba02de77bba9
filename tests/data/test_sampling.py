"""Tables worked out by hand, and properties over many sizes."""

import numpy as np
import pytest

from transfer3d.data.sampling import (
    action_units,
    centre_clip,
    cover_clips,
    even_clips,
    random_clip,
    training_clip,
)
from transfer3d.layout import ClipSpec


@pytest.mark.parametrize(
    "frames, length, stride, expected",
    [
        (10, 4, 1, [3, 4, 5, 6]),
        (11, 4, 1, [3, 4, 5, 6]),  # half a frame early
        (10, 4, 2, [1, 3, 5, 7]),
        (7, 4, 2, [0, 2, 4, 6]),  # fits exactly
        (6, 4, 2, [0, 2, 4, 5]),  # one short: the last is repeated
        (1, 3, 5, [0, 0, 0]),
        (5, 1, 9, [2]),
    ],
)
def test_centre_clip(frames, length, stride, expected):
    assert centre_clip(frames, length=length, stride=stride).tolist() == expected


@pytest.mark.parametrize(
    "frames, length, stride, count, expected",
    [
        (10, 2, 1, 3, [[0, 1], [4, 5], [8, 9]]),
        (9, 2, 2, 1, [[3, 5]]),
        (4, 2, 2, 2, [[0, 2], [1, 3]]),
        (2, 3, 1, 2, [[0, 1, 1], [0, 1, 1]]),
        (1, 2, 1, 3, [[0, 0]] * 3),
    ],
)
def test_even_clips(frames, length, stride, count, expected):
    assert even_clips(frames, length=length, stride=stride, count=count).tolist() == expected


@pytest.mark.parametrize(
    "frames, length, stride, expected",
    [
        (8, 2, 2, [[0, 2], [4, 6]]),
        (11, 2, 2, [[0, 2], [4, 6]]),  # three frames are left over
        (12, 2, 2, [[0, 2], [4, 6], [8, 10]]),
        (3, 2, 2, [[0, 2]]),
        (1, 2, 2, [[0, 0]]),
    ],
)
def test_cover_clips(frames, length, stride, expected):
    assert cover_clips(frames, length=length, stride=stride).tolist() == expected


@pytest.mark.parametrize(
    "frames, length, stride, units, expected",
    [
        (12, 1, 1, 4, [[1], [4], [7], [10]]),  # sections of three: their middle frames
        (16, 2, 1, 4, [[1, 2], [5, 6], [9, 10], [13, 14]]),  # of four: their middle two
        (8, 2, 4, 2, [[0, 4], [3, 7]]),  # reaches over its section, held inside the video
        (3, 4, 1, 2, [[0, 1, 2, 2], [0, 1, 2, 2]]),
    ],
)
def test_centred_action_units(frames, length, stride, units, expected):
    assert action_units(frames, length=length, stride=stride, units=units).tolist() == expected


@pytest.mark.parametrize("frames", [1, 2, 5, 31, 32, 33, 64, 200])
@pytest.mark.parametrize("length, stride", [(1, 1), (4, 8), (16, 1), (32, 2)])
def test_every_clip_stays_in_the_video_and_in_order(frames, length, stride):
    rng = np.random.default_rng(0)
    clips = [
        random_clip(frames, length=length, stride=stride, rng=rng)[None],
        even_clips(frames, length=length, stride=stride, count=5),
        cover_clips(frames, length=length, stride=stride),
        action_units(frames, length=length, stride=stride, units=3, rng=rng),
        action_units(frames, length=length, stride=stride, units=3),
    ]
    window = (length - 1) * stride + 1
    for indices in clips:
        assert indices.dtype == np.int64
        assert indices.shape[1] == length
        assert indices.min() >= 0
        assert indices.max() < frames
        steps = np.diff(indices, axis=1)
        if frames >= window:
            assert (steps == stride).all()
        else:
            assert (indices[:, 0] == 0).all()
            assert (indices[:, -1] == frames - 1).all()


def test_random_clip_reaches_every_start_equally():
    rng = np.random.default_rng(1)
    starts = [random_clip(12, length=3, stride=2, rng=rng)[0] for _ in range(4000)]
    counts = np.bincount(starts)
    assert len(counts) == 8  # starts 0 to 7: 7 + 4 = 11 is the last frame
    assert counts.min() > 400  # 500 expected, standard deviation 21


def test_random_units_have_their_centre_in_their_section():
    rng = np.random.default_rng(2)
    for _ in range(300):
        units = action_units(120, length=3, stride=4, units=4, rng=rng)
        centres = units[:, 1] + 0.5
        wanted = np.clip(centres, np.arange(4) * 30, np.arange(1, 5) * 30)
        # A start is a whole frame, and the first and the last unit are held inside the video.
        assert (np.abs(centres - wanted) <= 5).all()
        assert (np.abs(centres - wanted)[1:-1] <= 0.5).all()


def test_cover_has_no_overlap():
    indices = cover_clips(1000, length=32, stride=2)
    assert len(indices) == 15
    assert len(np.unique(indices)) == indices.size
    assert (indices[1:, 0] - indices[:-1, -1] == 2).all()


def test_shapes_follow_the_student():
    clip = ClipSpec(frames=4, stride=2, size=8, crop=8)
    units = ClipSpec(frames=4, stride=2, size=8, crop=8, units=3)
    rng = np.random.default_rng(0)
    assert training_clip(50, clip, rng).shape == (4,)
    assert training_clip(50, units, rng).shape == (3, 4)


def test_a_video_without_frames_is_no_video():
    with pytest.raises(ValueError, match="frames=0"):
        centre_clip(0, length=1, stride=1)
