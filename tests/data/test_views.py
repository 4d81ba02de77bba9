"""Test views: which frames they show, held against arithmetic written out."""

import numpy as np
import pytest
from media import numbers, write_numbered

from transfer3d.data.clips import views_of_video
from transfer3d.data.decode import Video
from transfer3d.data.pipeline import view_batches
from transfer3d.data.source import open_videos
from transfer3d.data.views import ViewPlan
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=4, stride=2, size=16, crop=(16, 16))
UNITS = ClipSpec(frames=4, stride=2, size=16, crop=(16, 16), units=3)


def starts(plan, clip=CLIP, frames=70, fps=10.0, number=0):
    return plan.indices(frames, fps, clip, number=number)[0][..., 0].tolist()


def test_where_the_views_of_a_clip_level_student_start():
    assert starts(ViewPlan()) == [31]
    assert starts(ViewPlan(count=3)) == [0, 32, 63]
    # Centres 7, 21, 35, 49, 63 of five sections of 14 frames; a clip spans 7 frames.
    assert starts(ViewPlan(places="units", count=5)) == [4, 18, 32, 46, 60]
    assert starts(ViewPlan(places="cover")) == [0, 8, 16, 24, 32, 40, 48, 56]


def test_where_the_views_of_a_video_level_student_start():
    section = 70 / 3  # a clip of 7 frames has room for 16.33 more
    for count in (1, 2):
        for row, found in enumerate(starts(ViewPlan(count=count), UNITS)):
            assert found == [round(unit * section + (row + 0.5) / count * (section - 7)) for unit in range(3)]
    assert starts(ViewPlan(places="units", count=5), UNITS) == [[4, 18, 32, 46, 60]]
    assert starts(ViewPlan(places="cover"), UNITS) == starts(ViewPlan(), UNITS)


def test_random_views_follow_seed_and_video():
    plan = ViewPlan(places="random", count=20, seed=3)
    first = starts(plan, number=4)
    assert len(first) == 20
    assert starts(plan, number=4) == first
    assert starts(plan, number=5) != first
    assert starts(ViewPlan(places="random", count=20, seed=4), number=4) != first
    many = starts(ViewPlan(places="random", count=4000))
    assert np.bincount(many).min() > 30  # 64 starts, 62 expected, standard deviation 8
    units = np.array(starts(ViewPlan(places="random", count=500), UNITS))
    assert units.shape == (500, 3)
    assert all(len(set(column)) > 15 for column in units.T.tolist())


def test_windows_know_their_scale():
    plan = ViewPlan(places="windows")
    indices, scale_V = plan.indices(70, 10.0, CLIP)
    # Windows of 10, 20, 40 and 70 frames, 8, 16, 32 apart; 16 s are the video again.
    assert np.bincount(scale_V).tolist() == [8, 4, 1, 1]
    assert indices[:, 0].tolist() == [1, 9, 17, 25, 33, 41, 49, 57, 6, 22, 38, 54, 16, 31]
    indices, _ = plan.indices(70, 10.0, UNITS)
    assert indices.shape == (14, 3, 4)
    for row, (start, taken) in enumerate([(0, 10), (8, 10)]):
        assert indices[row].min() >= start
        assert indices[row].max() < start + taken


@pytest.mark.parametrize("clip", [CLIP, UNITS])
def test_reversal(clip):
    plan = {"places": "units", "count": 3}
    forward = ViewPlan(**plan).indices(70, 10.0, clip)[0]
    backward = ViewPlan(**plan, orders=("frames_reversed",)).indices(70, 10.0, clip)[0]
    assert backward.tolist() == forward[..., ::-1].tolist()
    if clip.units > 1:
        units = ViewPlan(**plan, orders=("units_reversed",)).indices(70, 10.0, clip)[0]
        assert units[0].tolist() == forward[0][::-1].tolist()
        assert units[0, 0].tolist() == sorted(units[0, 0].tolist())


def flat(lists):
    return [one for some in lists for one in some]


def in_order(order, clip, **plan):
    return ViewPlan(orders=(order,), **plan).indices(70, 10.0, clip, number=4)[0].tolist()


@pytest.mark.parametrize("clip", [CLIP, UNITS])
def test_shuffled_and_still_clips(clip):
    plan = {"count": 200, "seed": 3}
    forward, shuffled = (in_order(order, clip, **plan) for order in ("forward", "frames_shuffled"))
    if clip.units > 1:  # every unit is shuffled by itself, and stays where it is
        forward, shuffled = flat(forward), flat(shuffled)
    assert [sorted(row) for row in shuffled] == forward
    steps = {tuple(sorted(row).index(frame) for frame in row) for row in shuffled}
    assert len(steps) == 24  # all orders of four frames
    still = in_order("still", clip, **plan)
    still = flat(still) if clip.units > 1 else still
    assert still == [[row[2]] * 4 for row in forward]
    assert in_order("frames_shuffled", clip, **plan) == in_order("frames_shuffled", clip, **plan)
    assert in_order("frames_shuffled", clip, count=200, seed=4) != in_order("frames_shuffled", clip, **plan)


def test_shuffled_units():
    forward, shuffled = (in_order(order, UNITS, count=200) for order in ("forward", "units_shuffled"))
    assert [sorted(view) for view in shuffled] == forward
    assert len({tuple(sorted(view).index(unit) for unit in view) for view in shuffled}) == 6


@pytest.mark.parametrize("places", ["even", "random", "windows"])
def test_several_orders_follow_one_another(places):
    orders = ("forward", "still", "units_reversed")
    together, scale_V = ViewPlan(places=places, count=5, orders=orders).indices(70, 10.0, UNITS, number=4)
    assert together.tolist() == flat(in_order(order, UNITS, places=places, count=5) for order in orders)
    assert scale_V.tolist() == scale_V[: len(scale_V) // 3].tolist() * 3


@pytest.mark.parametrize("places", ["even", "random", "units", "cover", "windows"])
@pytest.mark.parametrize("clip", [CLIP, UNITS])
def test_the_number_of_views_is_known_where_it_can_be(places, clip):
    plan = ViewPlan(places=places, count=5, crops=3, orders=("forward", "still"))
    indices, scale_V = plan.indices(70, 10.0, clip)
    known = plan.views_of_a_video(clip)
    assert known in (None, 3 * len(indices))
    assert (known is None) == (places == "windows" or (places == "cover" and clip is CLIP))
    assert len(scale_V) == len(indices)
    if clip.units > 1:
        assert indices.shape[1] == plan.clips_of_a_view(clip)


def test_views_show_their_frames_and_each_frame_is_held_once(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 40)
    plan = ViewPlan(count=10, crops=3)
    views = views_of_video(path, CLIP, plan, name="a")
    indices, _ = plan.indices(40, 25.0, CLIP)
    assert len(views) == 30
    assert len(views.frames_u8) == 3 * len(np.unique(indices))
    # 64x48 pixels become 21x16: the left square shows the blocks 0 to 5, so the numbers modulo 64.
    middle = views.clips()[0::3].permute(0, 2, 3, 4, 1).numpy()
    for view, wanted in zip(middle, indices, strict=True):
        padded = np.pad(view, ((0, 0), (0, 0), (0, 5), (0, 0)))
        assert [n % 32 for n in numbers(padded)] == [n % 32 for n in wanted]
    assert (views.clips(3, 7) == views.clips()[3:7]).all()


@pytest.mark.parametrize("units", [1, 3])
def test_a_batch_of_videos_is_their_views_in_turn(tmp_path, units):
    for name, count in (("a", 40), ("b", 25)):
        write_numbered(tmp_path / f"{name}.mp4", count)
    clip = ClipSpec(frames=4, stride=2, size=16, crop=(16, 16), units=units)
    videos, plan = open_videos(tmp_path, labelled=False), ViewPlan(places="cover")
    (batch,) = view_batches(videos, clip, batch_size=2, plan=plan)
    alone = [next(iter(view_batches(videos, clip, batch_size=1, rank=r, world=2, plan=plan))) for r in (0, 1)]
    assert batch.keys == alone[0].keys + alone[1].keys
    one, two = (b.clips for b in alone)
    assert (batch.clips[: len(one)] == one).all()
    assert (batch.clips[len(one) :] == two).all()


def test_a_video_is_opened_and_read_once_for_all_views(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 40)
    calls = []

    class Counted(Video):
        def read(self, indices, *, short_side=None):
            calls.append(len(indices))
            return super().read(indices, short_side=short_side)

    views = views_of_video(path, CLIP, ViewPlan(count=10, crops=10), name="a", open_video=Counted)
    assert len(views) == 100
    assert calls == [len(np.unique(ViewPlan(count=10).indices(40, 25.0, CLIP)[0]))]
