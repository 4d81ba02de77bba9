"""What a loader says of a video that crashes its worker, hangs it, or needs more memory than it may have."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from media import write_numbered

from transfer3d.data import workers
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.child import Limits
from transfer3d.data.container import faults
from transfer3d.data.decode import Video
from transfer3d.data.pipeline import clip_batches, view_batches
from transfer3d.data.video_list import VideoList
from transfer3d.errors import DataError, SetupError
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=4, stride=1, size=16, crop=16)


@pytest.fixture
def videos(tmp_path):
    return VideoList([write_numbered(tmp_path / f"{name}.mp4", 8) for name in "abcdef"], root=tmp_path)


def crash(number):
    os.kill(os.getpid(), number)


def misbehave_at(monkeypatch, key, fault):
    """Forked workers open this video otherwise."""

    class Misbehaving(Video):
        def read(self, indices, *, short_side=None):
            if self._name == key:
                fault()
            return super().read(indices, short_side=short_side)

    monkeypatch.setattr(workers, "Video", Misbehaving)
    monkeypatch.setattr(workers, "LIMITS", Limits(seconds=4.0, memory_gib=1.0))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (lambda: crash(signal.SIGSEGV), DataError, "d.mp4: the decoder crashed .SIGSEGV."),
        (lambda: time.sleep(60), DataError, "d.mp4: the decoder made no progress for 4 s"),
        (lambda: crash(signal.SIGKILL), SetupError, "died .SIGKILL. at d.mp4"),
    ],
    ids=["crash", "hang", "killed"],
)
def test_a_worker_that_dies_names_the_one_video(videos, monkeypatch, count, fault, error, reason):
    misbehave_at(monkeypatch, "d.mp4", fault)
    with pytest.raises(error, match=reason):
        list(view_batches(videos, CLIP, batch_size=1, workers=count))


def test_a_worker_that_dies_during_a_training_step_names_its_video(videos, monkeypatch):
    """A loader decodes ahead: its workers mostly die while the main process computes."""
    misbehave_at(monkeypatch, "c.mp4", lambda: crash(signal.SIGSEGV))
    seen = []
    with pytest.raises(DataError, match=r"c.mp4: the decoder crashed .SIGSEGV."):  # noqa: PT012
        for batch in view_batches(videos, CLIP, batch_size=1, workers=1):
            seen.append(batch)
            time.sleep(0.5)
    assert seen


def test_the_programs_own_handler_of_dead_children_is_kept(videos):
    def ours(*_):
        pass

    list(view_batches(videos, CLIP, batch_size=6, workers=1))  # torch installs its own in the first loader
    before = signal.signal(signal.SIGCHLD, ours)
    try:
        list(view_batches(videos, CLIP, batch_size=6, workers=1))
        assert signal.getsignal(signal.SIGCHLD) is ours
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_too_much_memory_in_a_worker_costs_its_own_video(videos, monkeypatch):
    def allocate():
        with faults("d.mp4"):
            bytearray(1 << 34)

    misbehave_at(monkeypatch, "d.mp4", allocate)
    options = {"batch_size": 2, "steps": 3, "seed": 0, "augment": AugmentConfig(), "max_bad_fraction": 0.5}
    batches = clip_batches(videos, CLIP, workers=1, **options)
    assert len(list(batches)) == 3
    assert list(batches.bad) == ["d.mp4"]


def is_watched():
    return any(thread.name == "decoding limit" for thread in threading.enumerate())


def test_limits_end_with_their_video(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    path = write_numbered(tmp_path / "a.mp4", 8)
    with workers._open_in_worker(path, name="a") as video:
        assert resource.getrlimit(resource.RLIMIT_AS)[0] != before[0]
        assert is_watched()
        video.read(np.arange(8))
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert not is_watched()


@pytest.mark.parametrize("after", [1, 3])
def test_views_that_are_made_ahead_are_the_same_and_can_be_left(videos, after):
    made = [batch.views.frames_u8 for batch in view_batches(videos, CLIP, batch_size=1, workers=1)]
    ahead = []
    for batch in view_batches(videos, CLIP, batch_size=1):
        ahead.append(batch.views.frames_u8)
        if len(ahead) == after:
            break
    assert all(map(torch.equal, ahead, made))
    whole = [batch.views.frames_u8 for batch in view_batches(videos, CLIP, batch_size=1)]
    assert len(whole) == 6
    assert all(map(torch.equal, whole, made))
