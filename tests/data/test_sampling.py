"""Tables worked out by hand, and properties over many sizes."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

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
from transfer3d.data.views import ViewPlan
from transfer3d.layout import ClipSpec, section_bounds


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
        (8, 2, 4, 2, [[1, 5], [3, 7]]),  # starts 0 to 3, divided into 0 1 and 2 3
        (3, 4, 1, 2, [[0, 1, 2, 2], [0, 1, 2, 2]]),
        (10, 2, 1, 4, [[0, 1], [3, 4], [5, 6], [8, 9]]),  # sections of 2.5: 2, 3, 3 and 2 frames
        (10, 4, 2, 6, [[0, 2, 4, 6], [1, 3, 5, 7], [1, 3, 5, 7], [2, 4, 6, 8], [3, 5, 7, 9], [3, 5, 7, 9]]),
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


WINDOWS = ((4, 8), (8, 4))
"""(frames, stride) of V4D on Mini-Kinetics and on Kinetics: windows of 25 and 29 frames."""


def even_parts(length: int, parts: int) -> list[range]:
    """Divides range(length): each part ends at the whole number nearest to its exact end, the even of two."""
    ends = [round(Fraction(length * part, parts)) for part in range(parts + 1)]
    return [range(*bounds) for bounds in pairwise(ends)]


def allowed_starts(frames: int, window: int, units: int) -> list[list[int]]:
    """The starts that each unit may have: inside its section, or from its part of all that fit the video."""
    if window * units <= frames:
        sections = even_parts(frames, units)
        return [[start for start in section if start + window - 1 in section] for section in sections]
    return [list(part) for part in even_parts(max(frames - window, 0) + 1, units)]


def central_starts(frames: int, window: int, units: int) -> list[int]:
    """Of all starts the one that is nearest to the section's or the part's exact centre, the later of two."""
    starts = np.arange(
        max(frames - window, 0), -1, -1
    )  # the latest first, as argmin takes the first of equals
    span, size = (window, frames) if window * units <= frames else (1, len(starts))
    centres = (
        2 * np.arange(units) + 1
    ) * size  # in units of 1 / (2 * units) frame, where all are whole numbers
    distances = np.abs((2 * starts + span)[:, None] * units - centres)
    return starts[distances.argmin(0)].tolist()


@pytest.mark.parametrize("length, stride", WINDOWS)
@pytest.mark.parametrize("units", range(3, 11))
def test_units_follow_their_definition(units, length, stride):
    """Brute force over 20 to 400 frames."""
    rng = np.random.default_rng(2)
    window = (length - 1) * stride + 1
    for frames in range(20, 401):
        central = action_units(frames, length=length, stride=stride, units=units)[:, 0]
        drawn = action_units(frames, length=length, stride=stride, units=units, rng=rng)[:, 0].tolist()
        assert central.tolist() == central_starts(frames, window, units), frames
        allowed = allowed_starts(frames, window, units)
        if all(allowed):
            assert all(start in part for start, part in zip(drawn, allowed, strict=True)), frames
            assert all(start in part for start, part in zip(central, allowed, strict=True)), frames
            assert len(set(drawn)) == len(set(central)) == units
        else:  # fewer starts than units: all of them, as evenly as can be
            counts = np.bincount(drawn, minlength=max(frames - window, 0) + 1)
            assert counts.min() >= 1
            assert counts.max() - counts.min() <= 1
            assert drawn == sorted(drawn)


@pytest.mark.parametrize(
    "frames, length, stride, units, expected",
    [
        (36, 8, 4, 4, [1, 3, 5, 7]),  # a short Something-Something video: starts 0 to 7
        (36, 4, 8, 4, [1, 4, 7, 10]),
        (72, 8, 4, 4, [5, 16, 27, 38]),  # a long one: sections of 18, starts 0 to 43
        (31, 8, 4, 4, [0, 1, 1, 2]),  # three starts
        (116, 8, 4, 4, [0, 29, 58, 87]),  # four windows exactly
        (115, 8, 4, 4, [10, 32, 54, 76]),  # one frame less: starts 0 to 86
        (300, 8, 4, 10, [1, 31, 61, 91, 121, 151, 181, 211, 241, 271]),
    ],
)
def test_boundary_cases_of_units(frames, length, stride, units, expected):
    assert action_units(frames, length=length, stride=stride, units=units)[:, 0].tolist() == expected


@pytest.mark.parametrize("frames, length, stride, units", [(36, 8, 4, 4), (120, 3, 4, 4), (130, 4, 8, 3)])
def test_random_units_reach_every_start_equally(frames, length, stride, units):
    rng = np.random.default_rng(3)
    draws = [action_units(frames, length=length, stride=stride, units=units, rng=rng) for _ in range(3000)]
    allowed = allowed_starts(frames, (length - 1) * stride + 1, units)
    for unit, starts in enumerate(allowed):
        drawn = np.array(draws)[:, unit, 0]
        counts = [int((drawn == start).sum()) for start in starts]
        assert sum(counts) == 3000
        assert min(counts) > 0.6 * 3000 / len(starts)


@pytest.mark.parametrize(
    "units, sections, expected", [(10, 4, [2, 3, 3, 2]), (10, 3, [3, 4, 3]), (6, 4, [2, 1, 1, 2])]
)
def test_section_bounds(units, sections, expected):
    """Algorithm 1 on V4D's ten units: each lies in its own quarter of the video."""
    bounds = section_bounds(units, sections)
    assert np.diff(bounds).tolist() == expected
    assert (bounds[0], bounds[-1]) == (0, units)


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


@pytest.mark.parametrize(
    "frames, starts", [(16, {0}), (31, {0}), (32, {0, 16}), (100, set(range(0, 96, 16)))]
)
def test_a_clip_from_the_cover_is_one_of_those_that_do_not_overlap(frames, starts):
    """P3D, section 3.3: "non-overlapped 16-frame clip"."""
    clip, rng = ClipSpec(frames=16, size=160), np.random.default_rng(0)
    drawn = [training_clip(frames, clip, rng, "cover") for _ in range(60)]
    assert {int(indices[0]) for indices in drawn} == starts
    assert all((np.diff(indices) == 1).all() for indices in drawn)


@pytest.mark.parametrize("frames", [100, 314, 315, 316, 400, 900])
def test_five_clips_of_t3d_do_not_overlap_wherever_the_video_allows(frames):
    """T3D, section 4.6: "5 non-overlapping clips of each video"; 32 frames at stride 2 span 63."""
    plan = ViewPlan(places="units", count=5)
    clip = ClipSpec(frames=32, stride=2, size=8)
    tested = plan.indices(frames, 25.0, clip)[0]
    trained = training_clip(frames, replace(clip, units=5), np.random.default_rng(frames))
    for clips_NT in (tested, trained):
        apart = clips_NT[1:, 0] > clips_NT[:-1, -1]
        assert apart.all() == (frames >= 5 * 63)
        assert len(set(clips_NT[:, 0].tolist())) == 5
