"""Properties that hold for every setting, and torchvision's arithmetic written out in numpy."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import v2

from transfer3d.data.augment import (
    AugmentConfig,
    crop_frames,
    decode_side,
    evaluation_transform,
    training_transform,
    transform_frames,
)
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=6, size=24, crop=32)
EXACT = ClipSpec(frames=6, size=24, crop=(32, 44))
SETTINGS = [
    AugmentConfig(),
    AugmentConfig(scale=(1.0, 1.0), flip=False),
    AugmentConfig(scale=(0.5, 2.0), flip=True, colour=1.0),
    AugmentConfig(colour=0.5),
]


def still_clip(frames=6, height=40, width=60):
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    return np.repeat(picture, frames, 0)


@pytest.mark.parametrize("clip", [CLIP, EXACT], ids=["short side", "exact"])
@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_one_draw_for_all_frames_of_a_clip(clip, config):
    transform = training_transform(clip, config)
    results = [transform_frames(transform, still_clip(), seed=seed) for seed in range(12)]
    for clips in results:
        assert clips.shape == (6, 3, 24, 24)
        assert clips.dtype == torch.uint8
        assert type(clips) is torch.Tensor
        assert (clips == clips[0]).all()
    assert len({clips[0].numpy().tobytes() for clips in results}) > 6
    again = transform_frames(transform, still_clip(), seed=0)
    assert torch.equal(again, results[0])


def test_the_global_generators_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    transform_frames(training_transform(CLIP, AugmentConfig(colour=1)), still_clip(), seed=1)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


def test_without_variation_a_training_clip_is_a_piece_of_the_clip():
    clip = ClipSpec(frames=2, size=24, crop=40)
    frames = still_clip(2)
    places = set()
    for seed in range(60):
        piece = transform_frames(
            training_transform(clip, AugmentConfig(scale=(1, 1), flip=False)), frames, seed=seed
        )
        windows = np.lib.stride_tricks.sliding_window_view(frames[0], (24, 24), axis=(0, 1))
        hits = np.argwhere((windows == piece[0].numpy()).all(axis=(2, 3, 4)))
        assert len(hits) == 1
        places.add(tuple(hits[0]))
    assert len(places) > 40


def test_flip_mirrors_about_half_of_the_clips():
    clip = ClipSpec(frames=1, size=40, crop=40)
    square = still_clip(1, 40, 40)
    transform = training_transform(clip, AugmentConfig(scale=(1, 1), flip=True))
    mirrored = 0
    for seed in range(200):
        result = transform_frames(transform, square, seed=seed)[0].permute(1, 2, 0).numpy()
        is_mirror = np.array_equal(result, square[0, :, ::-1])
        assert is_mirror or np.array_equal(result, square[0])
        mirrored += is_mirror
    assert 70 < mirrored < 130  # 100 expected, standard deviation 7


def test_the_centre_is_cut_out_in_evaluation():
    clip = ClipSpec(frames=1, size=24, crop=40)
    (result,) = crop_frames(evaluation_transform(clip), still_clip(1))
    np.testing.assert_array_equal(result[0].permute(1, 2, 0).numpy(), still_clip(1)[0, 8:32, 18:42])


@pytest.mark.parametrize("clip", [CLIP, EXACT])
def test_small_videos_are_enlarged(clip):
    frames, training = still_clip(2, 10, 12), training_transform(clip, AugmentConfig(scale=(0.5, 0.6)))
    (centre,) = crop_frames(evaluation_transform(clip), frames)
    assert centre.shape == transform_frames(training, frames, seed=0).shape == (2, 3, 24, 24)


@pytest.mark.parametrize("capability", [None, "DEFAULT"])
@pytest.mark.parametrize("crop", [24, 29, (24, 24), (28, 41)])
@pytest.mark.parametrize("size", [(24, 24), (40, 61), (61, 40), (33, 33), (10, 12), (28, 41)])
def test_the_centre_is_torchvisions_pixel_for_pixel(size, crop, capability, monkeypatch):
    """With the kernel for bytes, and with that for floats where a CPU has no other."""
    if capability:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    (ours,) = crop_frames(evaluation_transform(ClipSpec(frames=2, size=23, crop=crop)), frames)
    side = crop if isinstance(crop, int) else list(crop)
    theirs = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(23)])
    assert torch.equal(ours, theirs(torch.from_numpy(frames).permute(0, 3, 1, 2)))


def test_decoding_is_never_smaller_than_what_is_cropped():
    assert decode_side(CLIP) == 32
    assert decode_side(CLIP, 1.25) == 40
    assert decode_side(CLIP, 0.5) == 24
    assert decode_side(EXACT, 1.5) == 66


@pytest.mark.parametrize("wrong", [{"scale": (1.2, 1.0)}, {"scale": (0, 1)}, {"colour": 2}, {"color": 1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        AugmentConfig(**wrong)
