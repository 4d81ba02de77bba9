"""Another view of the same frames: what a teacher may see beside the student."""

import pytest
import torch

from transfer3d.data.augment import AugmentConfig
from transfer3d.data.pipeline import clip_batches, view_batches
from transfer3d.data.source import open_videos
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=4, stride=2, size=24, crop=32)
STILL = AugmentConfig(scale=(1.0, 1.0), flip=False)


@pytest.fixture
def videos(digits_folder):
    return open_videos(digits_folder, split="test", labelled=True)


def batches(videos, teacher_view, augment=STILL, clip=CLIP, workers=0, steps=3, teacher_clip=None):
    options = {"batch_size": 8, "steps": steps, "seed": 3, "augment": augment, "workers": workers}
    options["teacher_clip"] = teacher_clip
    return list(clip_batches(videos, clip, teacher_view=teacher_view, **options))


def test_the_student_sees_the_same_with_and_without_a_second_view(videos):
    alone = batches(videos, "none")
    for teacher_view in ("independent", "centre"):
        for one, other in zip(alone, batches(videos, teacher_view), strict=True):
            assert torch.equal(one.clips, other.clips)
            assert other.teacher_clips is not None
            assert other.teacher_clips.shape == other.clips.shape
    assert all(batch.teacher_clips is None and batch.teacher_view_keys is None for batch in alone)


def test_independent_crops_are_of_the_same_frames(videos):
    """Where there is nothing to draw both views are equal: so they show the same frames."""
    whole = ClipSpec(frames=4, stride=2, size=32, crop=32)
    for batch in batches(videos, "independent", clip=whole):
        assert torch.equal(batch.clips, batch.teacher_clips)
    differing = [
        not torch.equal(clip, view)
        for batch in batches(videos, "independent")
        for clip, view in zip(batch.clips, batch.teacher_clips, strict=True)
    ]
    assert sum(differing) > 0.9 * len(differing)


def test_one_draw_does_not_follow_from_the_other(videos):
    """Mirrored or not: of four combinations each is seen."""
    whole = ClipSpec(frames=4, stride=2, size=32, crop=32)
    flipping = AugmentConfig(scale=(1.0, 1.0), flip=True)
    plain = batches(videos, "none", STILL, whole)
    seen = set()
    for still, batch in zip(plain, batches(videos, "independent", flipping, whole), strict=True):
        for as_is, clip, view in zip(still.clips, batch.clips, batch.teacher_clips, strict=True):
            seen.add((torch.equal(as_is, clip), torch.equal(as_is, view)))
    assert len(seen) == 4


def test_the_centre_is_that_of_testing_and_its_name_says_which_frames(videos):
    short = ClipSpec(frames=12, stride=1, size=24, crop=32)  # all frames of these videos: one place only
    tested = {}
    for batch in view_batches(videos, short, batch_size=8):
        tested |= dict(zip(batch.keys, batch.clips, strict=True))
    names = {}
    for batch in batches(videos, "centre", AugmentConfig(scale=(1.0, 1.0), colour=0.5), short, steps=10):
        for key, name, view in zip(batch.keys, batch.teacher_view_keys, batch.teacher_clips, strict=True):
            assert torch.equal(names.setdefault(name, view), view)
            assert [int(frame) for frame in name.split()[1:]] == list(range(12))
            assert torch.equal(view, tested[key])
    assert len(names) == len({name.split()[0] for name in names}) == len(videos)


def test_a_larger_centre_has_the_detail_of_the_video(videos):
    """48 pixels high, as decoded: the teacher's frames are not the student's 24, scaled up."""
    small, large = ClipSpec(frames=12, size=24, crop=24), ClipSpec(frames=12, size=48, crop=48)
    tested = {}
    for batch in view_batches(videos, large, batch_size=8):
        tested |= dict(zip(batch.keys, batch.clips, strict=True))
    found = batches(videos, "centre", clip=small, teacher_clip=large, steps=6)
    whole = [
        (batch.keys[n], batch.clips[n], batch.teacher_clips[n])
        for batch in found
        for n, name in enumerate(batch.teacher_view_keys)
        if [int(frame) for frame in name.split()[1:]] == list(range(12))
    ]
    assert whole
    for key, clip, view in whole:
        assert torch.equal(view, tested[key])
        assert clip.shape[-2:] == (24, 24)
        assert view.float().std() > 1.02 * clip.float().std()  # fine strokes are not averaged away


def test_equal_from_workers(videos):
    for one, other in zip(
        batches(videos, "independent"), batches(videos, "independent", workers=2), strict=True
    ):
        assert torch.equal(one.teacher_clips, other.teacher_clips)
        assert one.keys == other.keys
