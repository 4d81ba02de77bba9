"""Scores against the bare student, called view by view on frames that are cut by hand."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from media import Here
from moving_noise import wakeful_student, write_noise_videos
from torch import nn
from torchvision.transforms.v2 import functional

from transfer3d.data import workers
from transfer3d.data.decode import Video
from transfer3d.data.source import open_videos
from transfer3d.engine.distributed import make_accelerator
from transfer3d.errors import NonFiniteError, SetupError, UsageError
from transfer3d.evaluation import inference, scoring
from transfer3d.evaluation.micro_batches import first_size
from transfer3d.evaluation.protocols import PROTOCOLS, named_protocol
from transfer3d.evaluation.scoring import score_videos
from transfer3d.layout import ClipSpec

LENGTHS = {"a/0": 50, "a/1": 7, "b/0": 33}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of noise that moves, 40x60 pixels, two classes; one is shorter than a clip."""
    root = tmp_path_factory.mktemp("videos")
    write_noise_videos(root, LENGTHS)
    return open_videos(root, split=None, labelled=True)


def by_hand(student, protocol, video, number):
    """Every view by itself: [V, K]."""
    plan = protocol.plan
    indices, scales = plan.indices(video.frames, video.fps, student.clip, number=number)
    size = 40 if protocol.full_size else 32
    rows = []
    for view in indices:
        frames = torch.from_numpy(video.read(view.ravel(), short_side=40)).permute(0, 3, 1, 2)
        if plan.crops == 3:
            frames = functional.resize(frames, [size], antialias=True)
            room = frames.shape[-1] - size
            crops = [frames[..., start : start + size] for start in (0, room // 2, room)]
        else:
            crops = [functional.center_crop(functional.resize(frames, [40], antialias=True), [size, size])]
        for crop in crops:
            clip = crop.float().div(255).sub(0.5).div(0.5).unflatten(0, view.shape).transpose(-4, -3)[None]
            rows.append(answer(student, clip, protocol))
    return torch.cat(rows), np.repeat(scales, len(crops))


def answer(student, clip, protocol):
    if not protocol.combinations or student.clip.units == 1:
        return student(clip).softmax(-1)
    ends = [
        round(Fraction(part * clip.shape[1], student.clip.units)) for part in range(student.clip.units + 1)
    ]
    sections = [range(*bounds) for bounds in itertools.pairwise(ends)]
    scores = [student(clip[:, list(chosen)]).softmax(-1) for chosen in itertools.product(*sections)]
    return torch.stack(scores).mean(0)


CASES = [
    ("p3d", named_protocol("dense", clips=4, crops=3)),
    ("p3d", named_protocol("p3d", seed=5)),
    ("t3d", named_protocol("t3d", reverse="frames")),
    ("t3d", named_protocol("tsn")),
    ("p3d", named_protocol("windows")),
    ("i3ds", named_protocol("v4d")),
    ("v4d", named_protocol("dense", clips=2)),
    ("v4d", named_protocol("v4d", reverse="units")),
    ("f4d", named_protocol("f4d")),
    ("f4d", named_protocol("windows")),
]


@pytest.mark.parametrize(("family", "protocol"), CASES, ids=lambda case: getattr(case, "name", case))
@torch.no_grad()
def test_scores_are_those_of_every_view_by_itself(videos, family, protocol):
    student = wakeful_student(family, **({"frames": 2, "stride": 3, "units": 3} if family == "v4d" else {}))
    scores = score_videos(student, videos, make_accelerator("fp32"), protocol)
    assert scores.keys == videos.keys
    assert scores.label_sets == [(0,), (0,), (1,)]
    assert scores.pooling == PROTOCOLS[protocol.name].pooling
    for number, views_VK in enumerate(scores.views_VK):
        with Video(videos.open(number)) as video:
            expected, scales = by_hand(student, protocol, video, number)
        torch.testing.assert_close(views_VK, expected, atol=2e-5, rtol=1e-4)
        assert scores.scale_V[number].tolist() == scales.tolist()
    spread = torch.cat(scores.views_VK).std(0)
    assert spread.min() > 1e-3


def test_every_video_is_decoded_once_for_all_its_views(videos, monkeypatch):
    opened, reads = [], []

    class Counted(Video):
        def __init__(self, source, *, name="", **options):
            opened.append(name)
            super().__init__(source, name=name, **options)

        def read(self, indices, *, short_side=None):
            reads.append(len(set(indices.tolist())) == len(indices))
            return super().read(indices, short_side=short_side)

    monkeypatch.setattr(workers, "Decoder", lambda: Here(Counted))
    scores = score_videos(
        wakeful_student("p3d"), videos, make_accelerator("fp32"), named_protocol("dense", clips=10, crops=3)
    )
    assert [len(views) for views in scores.views_VK] == [30, 30, 30]
    assert sorted(opened) == sorted(videos.keys)
    assert reads == [True, True, True]  # no frame twice


class Limited(nn.Module):
    """Has no memory for more than `most` clips."""

    def __init__(self, student, most, error=None):
        super().__init__()
        self.inner, self.most, self.seen = student, most, []
        self.error = error or torch.OutOfMemoryError()
        self.clip, self.model_name, self.trunk = student.clip, student.model_name, student.trunk
        self.probabilities, self.multi_label = student.probabilities, student.multi_label

    def forward(self, clips):
        self.seen.append(len(clips))
        if len(clips) > self.most:
            raise self.error
        return self.inner(clips)


def test_micro_batches_halve_until_they_fit(videos):
    protocol = named_protocol("dense", clips=10)
    student = wakeful_student("p3d")
    whole = score_videos(student, videos, make_accelerator("fp32"), protocol)
    limited = Limited(student, 3)
    scores = score_videos(limited, videos, make_accelerator("fp32"), protocol, clips_per_step=16)
    # Of the second video, which is shorter than a clip, all views are one.
    assert limited.seen == [10, 8, 4, *[2] * 5, 1, *[2] * 5]
    torch.testing.assert_close(scores.videos_NK, whole.videos_NK)
    nothing = Limited(student, 0)
    with pytest.raises(SetupError, match="one view does not fit"):
        score_videos(nothing, videos, make_accelerator("fp32"), protocol, clips_per_step=2)
    units = Limited(wakeful_student("f4d"), 0)
    with pytest.raises(SetupError, match="one view does not fit"):
        score_videos(units, videos, make_accelerator("fp32"), protocol)
    assert len(units.seen) < 8


def test_a_cpu_out_of_memory_is_told_from_other_errors(videos):
    full = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    limited = Limited(wakeful_student("p3d"), 2, full)
    protocol = named_protocol("dense", clips=4)
    score_videos(limited, videos, make_accelerator("fp32"), protocol, clips_per_step=4)
    assert limited.seen == [4, 2, 2, 1, 2, 2]
    broken = Limited(wakeful_student("p3d"), 2, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        score_videos(broken, videos, make_accelerator("fp32"), protocol, clips_per_step=4)


def test_combinations_take_less_than_one_view_at_a_time(videos, monkeypatch):
    student, protocol = wakeful_student("v4d"), named_protocol("v4d")
    whole = score_videos(student, videos, make_accelerator("fp32"), protocol)
    seen, real = [], scoring.combination_scores

    def limited(student, clips, *, chunk):
        seen.append((len(clips), chunk))
        if len(clips) * chunk > 6:
            raise torch.OutOfMemoryError
        return real(student, clips, chunk=chunk)

    monkeypatch.setattr(scoring, "combination_scores", limited)
    scores = score_videos(student, videos, make_accelerator("fp32"), protocol, clips_per_step=20)
    assert seen == [(2, 20), (1, 10), *[(1, 5)] * 9]
    torch.testing.assert_close(scores.videos_NK, whole.videos_NK)


@pytest.mark.parametrize("family", ["p3d", pytest.param("v4d", marks=pytest.mark.slow)])
def test_probabilities_are_in_fp32_whatever_the_network_computes_in(videos, family):
    protocol = named_protocol("v4d")
    scores = score_videos(wakeful_student(family), videos, make_accelerator("bf16"), protocol)
    exact = score_videos(wakeful_student(family), videos, make_accelerator("fp32"), protocol)
    for rough_VK, exact_VK in zip(scores.views_VK, exact.views_VK, strict=True):
        assert (rough_VK.sum(-1) - 1).abs().max() < 1e-5
        torch.testing.assert_close(rough_VK, exact_VK, atol=0.1, rtol=0)


def test_a_first_size_follows_the_clip():
    cpu = torch.device("cpu")
    assert first_size(ClipSpec(frames=8, size=32, crop=32), cpu) == 64
    assert first_size(ClipSpec(frames=8, size=224, crop=256), cpu) == 8
    assert first_size(ClipSpec(frames=64, size=224, crop=256), cpu) == 1


def test_a_score_that_is_no_number_is_named(videos):
    student = wakeful_student("p3d")
    student.head.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="a/0.mp4: the student's output has NaN"):
        score_videos(student, videos, make_accelerator("fp32"))


def test_a_video_that_was_not_scored_is_an_error(videos, monkeypatch):
    real = inference.view_batches
    monkeypatch.setattr(inference, "view_batches", lambda *a, **k: list(real(*a, **k))[:-1])
    protocol = named_protocol("t3d")
    with pytest.raises(AssertionError, match="expected 3 videos, computed 2"):
        score_videos(wakeful_student("p3d"), videos, make_accelerator("fp32"), protocol, clips_per_step=1)


def test_the_mode_of_the_student_comes_back(videos):
    student = wakeful_student("p3d").train()
    before = {name: buffer.clone() for name, buffer in student.named_buffers()}
    score_videos(student, videos, make_accelerator("fp32"))
    assert student.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in student.named_buffers())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "pd3"}, r"no protocol 'pd3' \(did you mean 'p3d'\?\)"),
        ({"name": "p3d", "clips": 10}, "--protocol p3d has its own clips"),
        ({"name": "dense", "crops": 4}, "--crops 4: must be 1, 3 or 10"),
        ({"name": "dense", "reverse": "time"}, "--reverse time: must be frames or units"),
    ],
)
def test_protocols_that_there_are_not(arguments, message):
    with pytest.raises(UsageError, match=message):
        named_protocol(**arguments)


def test_students_that_a_protocol_does_not_fit(videos):
    for family, protocol, message in (
        ("p3d", named_protocol("dense", reverse="units"), "takes single clips"),
        ("f4d", named_protocol("v4d"), "use --protocol f4d"),
    ):
        with pytest.raises(UsageError, match=message):
            score_videos(wakeful_student(family), videos, make_accelerator("fp32"), protocol)


def test_the_papers_numbers():
    """P3D section 4; T3D sections 4.4, 4.6; V4D section 4.2; F4D section 4.3."""
    clip, units = ClipSpec(frames=4, size=24, crop=32), ClipSpec(frames=4, size=24, crop=32, units=4)
    plans = {name: protocol.plan for name, protocol in PROTOCOLS.items()}
    assert plans["p3d"].views_of_a_video(clip) == 20
    assert plans["tsn"].views_of_a_video(clip) == 5
    assert plans["v4d"].views_of_a_video(clip) == 30
    for name in ("v4d", "f4d"):
        assert (plans[name].views_of_a_video(units), plans[name].clips_of_a_view(units)) == (3, 10)
    assert PROTOCOLS["v4d"].clip_for(clip).size == 32
    assert PROTOCOLS["f4d"].clip_for(clip).size == 24
