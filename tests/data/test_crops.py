"""Crops by place, mirrored labels, mixed batches and balanced epochs, against arithmetic written out."""

from collections import Counter

import numpy as np
import pytest
import torch

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import (
    AugmentConfig,
    crop_frames,
    evaluation_transform,
    training_transform,
    transform_labelled,
)
from transfer3d.data.crops import SCALES, CornerCrop, mirrored_classes
from transfer3d.data.epoch_sampler import BalancedEpochSampler
from transfer3d.data.mix import mix_batch
from transfer3d.data.pipeline import clip_batches, view_batches
from transfer3d.data.sampling import temporal_windows
from transfer3d.data.source import open_videos
from transfer3d.data.views import ViewPlan
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec


def places(height, width, frames=2):
    """Frames whose red tells the column and whose green tells the row."""
    picture = np.zeros((frames, height, width, 3), np.uint8)
    picture[..., 0] = np.arange(width)
    picture[..., 1] = np.arange(height)[:, None]
    return picture


@pytest.mark.parametrize(("height", "width"), [(32, 80), (80, 32), (32, 32)])
def test_three_crops_cover_the_frame(height, width):
    clip = ClipSpec(frames=2, size=32, crop=40)
    crops = crop_frames(evaluation_transform(clip, 3), places(height, width))
    assert [crop.shape for crop in crops] == [(2, 3, 32, 32)] * 3
    along = 0 if width >= height else 1
    starts = [int(crop[0, along].min()) for crop in crops]
    room = max(height, width) - 32
    assert starts == [0, room // 2, room]


def test_ten_crops_are_corners_and_centre_and_these_mirrored():
    clip = ClipSpec(frames=2, size=24, crop=(32, 44))
    crops = crop_frames(evaluation_transform(clip, 10), places(32, 44))
    found = [(int(c[0, 1].min()), int(c[0, 0].min())) for c in crops]
    assert found[:5] == [(0, 0), (0, 20), (8, 0), (8, 20), (4, 10)]
    assert sorted(found[:5]) == sorted(found[5:])
    for crop in crops[5:]:
        assert int(crop[0, 0, 0, 0]) > int(crop[0, 0, 0, -1])


def test_five_crops_are_of_one_size_and_nothing_is_scaled():
    """T3D, section 4.4: frames resized to 256, "5 crops (and their horizontal flips) of size 224x224"."""
    clip = ClipSpec(frames=2, size=224, crop=256)
    transform = training_transform(clip, AugmentConfig(scale=(1.0, 1.0), crop="five"))
    frames, seen = places(256, 256), Counter()
    for seed in range(200):
        cut, _ = transform_labelled(transform, frames, (0,), seed=seed)
        row, columns = cut[0, 1, :, 0].tolist(), cut[0, 0, 0].tolist()
        assert row == list(range(row[0], row[0] + 224))
        mirrored = columns[0] > columns[-1]
        left = min(columns)
        assert columns == list(range(left, left + 224))[:: -1 if mirrored else 1]
        seen[row[0], left, mirrored] += 1
    corners = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert set(seen) == {(*corner, mirrored) for corner in corners for mirrored in (False, True)}
    assert min(seen.values()) >= 8  # of 200 in ten kinds


def test_a_corner_crop_has_one_of_the_sizes_in_one_of_the_places():
    torch.manual_seed(0)
    seen = set()
    for _ in range(400):
        cut = CornerCrop(24).make_params([torch.zeros(2, 3, 100, 200)])
        sizes = [round(100 * scale) for scale in SCALES]
        steps = sizes.index(cut["height"]), sizes.index(cut["width"])
        assert abs(steps[0] - steps[1]) <= 1
        down, right = 100 - cut["height"], 200 - cut["width"]
        assert (cut["top"], cut["left"]) in {
            (0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))
        }  # fmt: skip
        seen.add((*steps, cut["top"] > 0, cut["left"] > 0))
    assert len({s[:2] for s in seen}) == 10
    assert len({s[2:] for s in seen}) == 4


def test_a_mirrored_clip_is_of_the_mirrored_class():
    clip = ClipSpec(frames=2, size=32, crop=32)
    config = AugmentConfig(scale=(1, 1), flip_pairs=(("left", "right"),))
    transform = training_transform(clip, config, ["left", "up", "right"])
    seen = Counter()
    for seed in range(40):
        for label, mirrored in ((0, 2), (1, 1), (2, 0)):
            frames, (new,) = transform_labelled(transform, places(32, 32), (label,), seed=seed)
            is_mirrored = bool(frames[0, 0, 0, 0] > frames[0, 0, 0, -1])
            assert new == (mirrored if is_mirrored else label)
            seen[is_mirrored] += 1
    assert min(seen.values()) > 30
    with pytest.raises(UsageError, match="no class 'lefft' .did you mean 'left'"):
        training_transform(clip, AugmentConfig(flip_pairs=(("lefft", "right"),)), ["left", "right"])


def test_rand_augment_draws_once_for_all_frames():
    clip = ClipSpec(frames=3, size=32, crop=32)
    transform = training_transform(clip, AugmentConfig(scale=(1, 1), flip=False, rand_augment=2))
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8), 3, 0)
    results = [transform_labelled(transform, still, (), seed=seed)[0] for seed in range(20)]
    assert all((clips == clips[0]).all() for clips in results)
    assert len({clips[0].numpy().tobytes() for clips in results}) > 5


@pytest.mark.parametrize("units", [(), (2,)])
def test_mixup_and_cutmix_of_videos(units):
    """Each clip has one value, so each pixel of the result tells what it was mixed of."""
    values = torch.tensor([0.0, 100.0, 200.0])
    shape = (3, *units, 3, 4, 8, 8)
    clips = values.view(3, *(1,) * (len(shape) - 1)).expand(shape).to(torch.uint8)
    batch = ClipBatch(clips, torch.tensor([0, 1, 2]), ["a", "b", "c"], ["a", "b", "c"])
    neighbour = values.roll(1)
    for seed in range(12):
        mixed = mix_batch(batch, AugmentConfig(mixup=1.0), 4, seed=seed)
        assert torch.allclose(mixed.targets.sum(1), torch.ones(3))
        share = mixed.targets[range(3), [0, 1, 2]]
        expected = (share * values + (1 - share) * neighbour).round()
        assert (mixed.clips.flatten(1).float() - expected[:, None]).abs().max() <= 1
        cut = mix_batch(batch, AugmentConfig(cutmix=1.0), 4, seed=seed)
        own = cut.clips.float() == values.view(3, *(1,) * (len(shape) - 1))
        # One rectangle, the same in every frame, unit and channel; its area is the share of the label.
        assert (own.flatten(1, -3) == own.flatten(1, -3)[:, :1]).all()
        area = own.float().flatten(1).mean(1)
        assert torch.allclose(cut.targets[range(3), [0, 1, 2]], area, atol=1e-5)
    assert mix_batch(batch, AugmentConfig(), 4, seed=0) is batch


def test_balanced_epochs():
    labels = [0] * 40 + [1] * 7 + [2] * 3
    label_sets = [(label,) for label in labels]
    order = BalancedEpochSampler(5, label_sets)
    first = [order.draw(position).video for position in range(50)]
    counts = Counter(labels[video] for video in first)
    assert sorted(counts.values()) == [16, 17, 17]
    each = Counter(first)
    assert max(each[v] for v in range(40)) == 1
    for members in (range(40, 47), range(47, 50)):
        assert max(each[v] for v in members) - min(each[v] for v in members) <= 1
    drawn = [order.draw(position) for position in range(50)]
    assert len(set(drawn)) == 50  # repeats are counted
    assert {draw.repeat for draw in drawn if draw.video < 40} == {0}
    assert [order.draw(position).video for position in range(50, 100)] != first
    assert [BalancedEpochSampler(5, label_sets).draw(position).video for position in range(50)] == first
    with pytest.raises(UsageError, match="balanced needs labels"):
        BalancedEpochSampler(0, [(0,), ()])


@pytest.mark.parametrize(
    ("frames", "fps", "seconds", "windows"),
    [
        (100, 10.0, (2.0,), [[(start, 20) for start in (0, 16, 32, 48, 64, 80)]]),  # 0.8 of 20 apart
        (100, 10.0, (5.0, 50.0), [[(0, 50), (40, 50)], [(0, 100)]]),  # longer than the video: the video
        (10, 10.0, (0.4, 0.8), [[(0, 4), (3, 4), (6, 4)], [(0, 8)]]),
        (10, 10.0, (4.0, 8.0), [[(0, 10)]]),  # both are the video, taken once
        (1, 25.0, (1.0,), [[(0, 1)]]),
    ],
)
def test_temporal_windows(frames, fps, seconds, windows):
    assert temporal_windows(frames, fps, seconds=seconds) == windows


def test_mixed_and_balanced_batches_come_from_the_pipeline(digits_folder):
    videos = open_videos(digits_folder, split="train", labelled=True)
    clip = ClipSpec(frames=2, size=16, crop=16)
    config = AugmentConfig(mixup=0.5, cutmix=0.5)

    def batches(**options):
        return list(
            clip_batches(
                videos, clip, batch_size=8, steps=4, seed=1, augment=config, balanced=True, **options
            )
        )

    every = batches()
    for batch in every:
        assert batch.targets.shape == (8, 40)
        assert torch.allclose(batch.targets.sum(1), torch.ones(8))
    (later,) = batches(start_step=3)
    assert torch.equal(later.clips, every[3].clips)
    assert torch.equal(later.targets, every[3].targets)
    unlabelled = open_videos(digits_folder, labelled=False)
    for options in ({"augment": config}, {"augment": AugmentConfig(), "balanced": True}):
        with pytest.raises(UsageError, match="labels"):
            clip_batches(unlabelled, clip, batch_size=2, steps=1, seed=0, **options)
    (views,) = view_batches(videos, clip, batch_size=80, plan=ViewPlan(count=2, crops=3))
    assert views.clips.shape == (480, 3, 2, 16, 16)


def test_classes_that_are_each_other_mirrored():
    classes = [
        "Pushing [something] from left to right",
        "Pushing [something] from right to left",
        "Turning the camera left while filming [something]",
        "Turning the camera right while filming [something]",
        "3_left", "3_right", "bright", "blight", "Leftovers", "turning left",
    ]  # fmt: skip
    assert mirrored_classes(classes) == [
        ("3_left", "3_right"),
        (classes[0], classes[1]),
        (classes[2], classes[3]),
    ]
    assert mirrored_classes(["Moving up", "Moving down"]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LeftHook", "RightHook"),
        ("swipeLeft", "swipeRight"),
        ("turnleft", "turnright"),
        ("leftward", "rightward"),
        ("Looking leftwards", "looking rightwards"),
        ("left-handed serve", "right-handed serve"),
        ("Bright ball from left to right", "Bright ball from right to left"),
        ("Leftovers moved to the left", "Leftovers moved to the right"),
    ],
)
def test_sides_within_words(one, other):
    assert mirrored_classes(["bright", "bleft", "blight", "Leftovers", other, one]) == [(one, other)]
