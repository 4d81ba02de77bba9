"""Features of videos against the bare student, called view by view on frames that are cut by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from media import Here
from moving_noise import wakeful_student, write_noise_videos
from sweeps import sweep
from torchvision.transforms.v2 import functional

from transfer3d.data import workers
from transfer3d.data.decode import Video
from transfer3d.data.source import open_videos
from transfer3d.engine.distributed import make_accelerator
from transfer3d.errors import DataError, NonFiniteError, SetupError, UsageError
from transfer3d.insight.features import extraction as features_module
from transfer3d.insight.features.extraction import extract_features, feature_plan
from transfer3d.insight.features.layers import LayerReader
from transfer3d.insight.features.parts import FeatureParts

LENGTHS = {"a/0": 50, "a/1": 7, "b/0": 33, "b/1": 20, "b/2": 21}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of noise that moves, 40x60 pixels, two classes; one is shorter than a clip."""
    root = tmp_path_factory.mktemp("videos")
    write_noise_videos(root, LENGTHS)
    return open_videos(root, split=None, labelled=True)


def extract(student, videos, folder, layers=("pool5", "prob"), clips=20, **options):
    parts = FeatureParts(folder)
    parts.claim({}, resume=folder.exists())
    plan = feature_plan(student.clip, clips)
    extract_features(LayerReader(student, layers), videos, make_accelerator("fp32"), plan, parts, **options)
    parts.release()
    return parts.join(videos.keys)


def views_by_hand(frames, clip, count):
    """Frame numbers of `count` views, [T] or [U, T], spread evenly.

    Clips begin from the first place to the last; those of a video-level family at the middles of `count`
    equal parts of the starts that a section, or an even part of all starts, has.
    """
    span = (clip.frames - 1) * clip.stride + 1
    room = max(frames - span, 0)
    views = []
    for number in range(count):
        starts = [Fraction(room * number, count - 1)]
        if clip.units > 1:
            place, section = Fraction(2 * number + 1, 2 * count), Fraction(frames, clip.units)
            starts = [unit * section + place * (section - span) for unit in range(clip.units)]
            if span > section:
                part = Fraction(room + 1, clip.units)
                starts = [(unit + place) * part - Fraction(1, 2) for unit in range(clip.units)]
        first = [min(max(math.floor(start + Fraction(1, 2)), 0), room) for start in starts]
        clips = [[min(one + t * clip.stride, frames - 1) for t in range(clip.frames)] for one in first]
        views.append(np.array(clips if clip.units > 1 else clips[0]))
    return views


@torch.no_grad()
def by_hand(student, videos, number, count):
    """Pooled features and scores of one video: every view by itself, then the mean, in float64."""
    with Video(videos.open(number)) as video:
        pooled, scores = [], []
        for view in views_by_hand(video.frames, student.clip, count):
            frames = torch.from_numpy(video.read(view.ravel(), short_side=40)).permute(0, 3, 1, 2)
            cut = functional.center_crop(functional.resize(frames, [40], antialias=True), [32, 32])
            clip = cut.float().div(255).sub(0.5).div(0.5).unflatten(0, view.shape).transpose(-4, -3)[None]
            pooled.append(student.forward_features(clip).mean((2, 3, 4)).double())
            scores.append(student(clip).softmax(-1).double())
    return torch.cat(pooled).mean(0), torch.cat(scores).mean(0)


@pytest.mark.parametrize(
    ("family", "count"),
    sweep([("p3d", 20), ("t3d", 6), ("i3d", 6), ("v4d", 5), ("f4d", 2)], [("t3d", 6), ("f4d", 2)]),
)
def test_features_are_the_mean_over_every_view_by_itself(videos, tmp_path, family, count):
    student = wakeful_student(family)
    clips = count * student.clip.units
    found = extract(student.train(), videos, tmp_path / "parts", clips=clips, clips_per_step=16)
    assert student.training
    student.eval()
    for number in range(len(videos)):
        pooled, scores = by_hand(student, videos, number, count)
        torch.testing.assert_close(found["pool5"][number].double(), pooled, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["prob"][number].double(), scores, atol=1e-5, rtol=1e-4)
    assert found["pool5"].std(0).max() > 1e-3


def test_every_video_is_decoded_once_and_no_clip_is_looked_at_twice(videos, tmp_path, monkeypatch):
    opened, seen = [], []

    class Counted(Video):
        def __init__(self, source, *, name="", **options):
            opened.append(name)
            super().__init__(source, name=name, **options)

    monkeypatch.setattr(workers, "Decoder", lambda: Here(Counted))
    student = wakeful_student("p3d")
    student.trunk.steps()[0][1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    extract(student, videos, tmp_path / "parts")
    assert sorted(opened) == sorted(videos.keys)
    clips = torch.cat(seen).flatten(1)
    assert len(clips.unique(dim=0)) == len(clips)
    window = student.clip.window
    places = [min(max(frames - window + 1, 1), 20) for frames in LENGTHS.values()]
    assert len(clips) == sum(places) < 20 * len(LENGTHS)


def test_what_is_done_is_not_done_again(videos, tmp_path, monkeypatch):
    """Parts of one video each; the second half is taken away, as if the process had been killed there."""
    monkeypatch.setattr(features_module, "PART_VIDEOS", 1)
    student, folder = wakeful_student("p3d"), tmp_path / "parts"
    whole = extract(student, videos, folder, clips_per_step=20)
    files = sorted(folder.glob("*.safetensors"))
    assert [file.name for file in files] == [f"0-{number:05}.safetensors" for number in range(5)]
    for file in files[2:]:
        file.unlink()
    seen = []
    student.trunk.steps()[0][1].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    again = extract(student, videos, folder, clips_per_step=20)
    assert len(seen) == 3
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    seen.clear()
    extract(student, videos, folder, clips_per_step=20)
    assert not seen


def test_a_part_is_written_when_time_is_up(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "PART_S", -1.0)
    extract(wakeful_student("p3d"), videos, tmp_path / "parts", clips_per_step=20)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) == len(videos)


def test_parts_of_something_else_are_refused(tmp_path):
    folder = tmp_path / "parts"
    parts = FeatureParts(folder)
    parts.claim({"split": "train", "layers": ["pool5"]}, resume=False)
    with pytest.raises(SetupError, match="parts is in use by pid"):
        FeatureParts(folder).claim({"split": "train", "layers": ["pool5"]}, resume=True)
    parts.release()
    with pytest.raises(UsageError, match="holds an unfinished extraction. Continue with --resume"):
        FeatureParts(folder).claim({"split": "train", "layers": ["pool5"]}, resume=False)
    with pytest.raises(UsageError, match="from another extraction: layers, split changed"):
        FeatureParts(folder).claim({"split": "test", "layers": ["res4"]}, resume=True)
    FeatureParts(folder).claim({"split": "train", "layers": ["pool5"]}, resume=True)


def test_parts_that_are_damaged_or_elsewhere_are_named(tmp_path):
    parts = FeatureParts(tmp_path / "parts")
    parts.claim({}, resume=False)
    parts.add(["a", "b"], {"pool5": torch.arange(4.0).view(2, 2)})
    with pytest.raises(SetupError, match="lacks 1 videos, first c: all processes must write to one folder"):
        parts.join(["b", "c", "a"])
    FeatureParts(tmp_path / "parts", 1).add(["c"], {"pool5": torch.tensor([[7.0, 8.0]])})
    assert parts.join(["b", "c", "a"])["pool5"].tolist() == [[2, 3], [7, 8], [0, 1]]
    part = tmp_path / "parts" / "0-00000.safetensors"
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(DataError, match="0-00000.safetensors: damaged"):
        parts.keys()


def test_a_part_takes_the_place_of_one_that_was_removed(tmp_path):
    parts = FeatureParts(tmp_path / "parts")
    parts.claim({}, resume=False)
    for number, key in enumerate("abc"):
        parts.add([key], {"pool5": torch.tensor([[float(number)]])})
    (tmp_path / "parts" / "0-00001.safetensors").unlink()
    parts.add(["b"], {"pool5": torch.tensor([[7.0]])})
    assert parts.join("abc")["pool5"].tolist() == [[0], [7], [2]]


def test_features_that_are_no_numbers_are_named(videos, tmp_path):
    student = wakeful_student("p3d")
    next(student.trunk.res5.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="a/0.mp4: the student's output has NaN"):
        extract(student, videos, tmp_path / "parts")
    assert not list((tmp_path / "parts").glob("*.safetensors"))


def test_micro_batches_halve_until_they_fit(videos, tmp_path):
    student = wakeful_student("p3d")
    whole = extract(student, videos, tmp_path / "whole")
    seen = []

    def limited(module, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError

    student.trunk.steps()[0][1].register_forward_pre_hook(limited)
    found = extract(student, videos, tmp_path / "limited", clips_per_step=16)
    assert seen[:3] == [16, 8, 4]
    assert max(seen[3:]) == 2
    torch.testing.assert_close(found["pool5"], whole["pool5"])
