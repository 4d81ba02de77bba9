"""Order, exactness and faults: the same batches whatever the number of workers, ranks and restarts."""

import itertools
import json
import os
import shutil
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from media import encode, numbered_frames, numbers, write_numbered
from sweeps import sweep

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.epoch_sampler import EpochSampler
from transfer3d.data.pipeline import clip_batches, view_batches
from transfer3d.data.source import open_videos
from transfer3d.data.views import ViewPlan
from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=4, stride=2, size=16, crop=20)
PLAIN = AugmentConfig(scale=(1.0, 1.0), flip=False)
COVER = ViewPlan(places="cover")


def train(videos, *, clip=CLIP, batch_size=8, steps=12, seed=5, augment=None, **options):
    augment = augment or AugmentConfig(colour=0.5)
    return clip_batches(
        videos, clip, batch_size=batch_size, steps=steps, seed=seed, augment=augment, **options
    )


def assert_same(one: ClipBatch, two: ClipBatch):
    assert one.keys == two.keys
    assert one.sources == two.sources
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(one.clips, two.clips)


@pytest.fixture
def videos(digits_folder):
    return open_videos(digits_folder, split="test", labelled=True)  # 40


@pytest.fixture
def numbered(tmp_path):
    """Five videos of 40 numbered frames."""
    for name in "abcde":
        write_numbered(tmp_path / "numbered" / f"{name}.mp4", 40, bf=2, g=12)
    return open_videos(tmp_path / "numbered", labelled=False)


def test_a_video_that_an_epoch_repeats_gives_another_clip_each_time(tmp_path):
    for name in ("often/a", "rare/b"):
        write_numbered(tmp_path / f"{name}.mp4", 40, bf=2, g=12)
    for copy in range(7):
        shutil.copy(tmp_path / "often" / "a.mp4", tmp_path / "often" / f"a{copy}.mp4")
    videos = open_videos(tmp_path, labelled=True)
    (batch,) = train(videos, batch_size=9, steps=1, augment=PLAIN, balanced=True)
    rare = [tuple(numbers(clip.permute(1, 2, 3, 0).numpy())) for clip in batch.clips[batch.labels == 1]]
    assert len(rare) in (4, 5)
    assert len(set(rare)) > 1
    (again,) = train(videos, batch_size=9, steps=1, augment=PLAIN, balanced=True)
    assert_same(batch, again)


def test_shapes_and_types(videos):
    batches = train(videos)
    assert len(batches) == 12
    batch = next(iter(batches))
    assert batch.clips.shape == (8, 3, 4, 16, 16)
    assert batch.clips.dtype == torch.uint8
    assert batch.clips.is_contiguous()
    assert batch.labels.dtype == torch.int64
    assert [videos.labels[videos.keys.index(key)] for key in batch.keys] == batch.labels.tolist()
    units = ClipSpec(frames=2, size=16, crop=16, units=3)
    assert next(iter(train(videos, clip=units))).clips.shape == (8, 3, 3, 2, 16, 16)
    assert next(iter(view_batches(videos, units, batch_size=2))).clips.shape == (2, 3, 3, 2, 16, 16)


def test_colours_arrive_in_their_channels(tmp_path):
    for name, colour in {"a_red": (230, 20, 20), "b_green": (20, 230, 20), "c_blue": (20, 20, 230)}.items():
        frames = np.broadcast_to(np.array(colour, np.uint8), (6, 48, 64, 3))
        (tmp_path / f"{name}.mp4").write_bytes(encode(frames))
    videos = open_videos(tmp_path, labelled=False)
    (batch,) = view_batches(videos, CLIP, batch_size=3)
    assert batch.clips.float().mean((2, 3, 4)).argmax(1).tolist() == [0, 1, 2]
    for batch in train(videos, batch_size=3, steps=3, augment=PLAIN):
        for key, clip_CTHW in zip(batch.keys, batch.clips.float(), strict=True):
            assert "abc"[int(clip_CTHW.mean((1, 2, 3)).argmax())] == key[0]


def test_views_show_the_frames_that_sampling_names(numbered):
    clip = ClipSpec(frames=3, stride=4, size=16, crop=(16, 16))
    for plan, starts in (
        (ViewPlan(), [15]),
        (ViewPlan(count=3), [0, 16, 31]),
        (COVER, [0, 12, 24]),
    ):
        batches = list(view_batches(numbered, clip, batch_size=2, plan=plan))
        assert [len(set(b.keys)) for b in batches] == [2, 2, 1]
        for batch in batches:
            assert batch.keys == [key for key in sorted(set(batch.keys)) for _ in starts]
            for place, clip_CTHW in enumerate(batch.clips):
                start = starts[place % len(starts)]
                seen = numbers(clip_CTHW.permute(1, 2, 3, 0).numpy())
                assert seen == [start, start + 4, start + 8]


def test_every_video_once_per_epoch_and_epochs_differ(videos):
    keys = [key for batch in train(videos, batch_size=16, steps=5) for key in batch.keys]
    first, second = keys[:40], keys[40:]
    assert sorted(first) == sorted(second) == sorted(videos.keys)
    assert first != second
    assert first != sorted(first)
    other = [key for batch in train(videos, batch_size=16, steps=5, seed=6) for key in batch.keys]
    assert other != keys


def test_one_video_twice_is_seen_differently(videos):
    epochs = {0: {}, 1: {}}
    for position, batch in enumerate(train(videos, batch_size=1, steps=80)):
        epochs[position // 40][batch.keys[0]] = batch.clips
    same = sum(torch.equal(epochs[0][key], epochs[1][key]) for key in videos.keys)
    assert same == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(videos, workers):
    alone = list(train(videos))
    together = list(train(videos, workers=workers))
    assert len(alone) == len(together) == 12
    for one, two in zip(alone, together, strict=True):
        assert_same(one, two)


@pytest.mark.parametrize(
    ("world", "workers"), sweep(itertools.product((1, 2, 3), range(3)), [(1, 1), (2, 0), (3, 2)])
)
def test_ranks_share_the_same_global_batches(videos, world, workers):
    sizes = {"batch_size": 6, "steps": 8}
    whole = list(train(videos, **sizes))
    parts = [list(train(videos, rank=r, world=world, workers=workers, **sizes)) for r in range(world)]
    assert {len(part) for part in parts} == {8}
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert [key for share in shares for key in share.keys] == batch.keys
        assert torch.equal(torch.cat([share.clips for share in shares]), batch.clips)


@pytest.mark.parametrize("start", [1, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 12))])
def test_resume_gives_the_very_next_batch(videos, start):
    whole = list(train(videos))
    rest = train(videos, start_step=start, workers=start % 2)
    assert len(rest) == 12 - start
    for one, two in zip(whole[start:], rest, strict=True):
        assert_same(one, two)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_evaluation_sees_each_video_once(videos, world, workers):
    keys = []
    for rank in range(world):
        batches = view_batches(videos, CLIP, batch_size=7, rank=rank, world=world, workers=workers)
        seen = [batch.keys for batch in batches]
        assert len(batches) == len(seen)
        keys += [key for part in seen for key in part]
    assert sorted(keys) == sorted(videos.keys)
    assert len(keys) == len(videos)


def test_evaluation_is_the_same_each_time(videos):
    one, two = (list(view_batches(videos, CLIP, batch_size=16)) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert first.keys == second.keys
        assert torch.equal(first.labels, second.labels)
        assert torch.equal(first.clips, second.clips)


def test_the_order_is_a_pure_function():
    order = EpochSampler(3, 7)
    places = [order.draw(position) for position in range(21)]
    for epoch in range(3):
        assert sorted(p.video for p in places[epoch * 7 : epoch * 7 + 7]) == list(range(7))
        assert {p.epoch for p in places[epoch * 7 : epoch * 7 + 7]} == {epoch}
    assert places == [order.draw(position) for position in reversed(range(21))][::-1]


def test_the_global_generator_is_left_alone(videos):
    for workers in (0, 1):
        torch.manual_seed(1)
        expected = torch.rand(2)
        torch.manual_seed(1)
        next(iter(train(videos, workers=workers)))
        assert torch.equal(torch.rand(2), expected)


def test_fewer_videos_than_processes(numbered):
    for make in (train, view_batches):
        with pytest.raises(UsageError, match="5 videos for 6 processes"):
            make(numbered, clip=CLIP, batch_size=6, rank=0, world=6)
    with pytest.raises(UsageError, match="batch_size=5 is not divisible by 2"):
        train(numbered, batch_size=5, world=2)


def rot(path: Path):
    """Destroys a video's content but not its container: it still opens."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 8
    data[start : data.index(b"moov") - 8] = b"\xff" * (data.index(b"moov") - 8 - start)
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_that_rots_later_is_replaced_and_counted(tmp_path, workers):
    for i in range(20):
        write_numbered(tmp_path / f"{i:02d}.mp4", 12)
    videos = open_videos(tmp_path, labelled=False)
    rot(tmp_path / "07.mp4")
    batches = train(videos, batch_size=10, steps=4, workers=workers, max_bad_fraction=0.05)
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 40
    assert "07.mp4" not in keys
    assert keys.count("08.mp4") == 4  # its neighbour stands in for it, each epoch
    assert list(batches.bad) == ["07.mp4"]
    assert "07.mp4" in batches.bad["07.mp4"]
    with pytest.raises(DataError, match=r"07\.mp4") as caught:
        list(train(videos, batch_size=10, steps=4, workers=workers))
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match=r"07\.mp4") as caught:
        list(view_batches(videos, CLIP, batch_size=4, workers=workers))
    assert caught.value.exit_code == 3


def test_bad_videos_add_up_over_batches(tmp_path):
    for i in range(20):
        write_numbered(tmp_path / f"{i:02d}.mp4", 12)
    videos = open_videos(tmp_path, labelled=False)
    for name in ("03", "11", "16"):
        rot(tmp_path / f"{name}.mp4")
    with pytest.raises(DataError, match="3 of 20 videos do not decode"):
        list(train(videos, batch_size=1, steps=20, max_bad_fraction=0.1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_stops_the_run(digits_folder, tmp_path, workers):
    folder = shutil.copytree(digits_folder / "shards", tmp_path / "shards")
    index = json.loads((folder / "index.json").read_text())
    shard = next(s for s in index["shards"] if s["split"] == "test")
    offset = shard["samples"][9]["members"]["mp4"][0]
    with (folder / shard["file"]).open("rb+") as file:
        file.seek(offset + 100)
        byte = file.read(1)
        file.seek(offset + 100)
        file.write(bytes([byte[0] ^ 1]))
    videos = open_videos(folder, split="test", labelled=True)
    with pytest.raises(DataError, match="sha256 differs"):
        list(train(videos, batch_size=10, steps=4, workers=workers, max_bad_fraction=0.5))


class Deadly:
    """Kills the process that opens video 3."""

    def __init__(self, videos):
        self._videos = videos

    def __getattr__(self, name):
        return getattr(self.__dict__["_videos"], name)

    def __len__(self):
        return len(self._videos)

    def open(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._videos.open(index)


@pytest.mark.proc
def test_a_worker_that_dies_is_reported_with_its_video(numbered):
    with pytest.raises(SetupError, match=r"a data worker died.*d\.mp4") as caught:
        list(train(Deadly(numbered), batch_size=5, steps=9, workers=1))
    assert caught.value.exit_code == 5


def test_short_videos_repeat_their_last_frame(tmp_path):
    (tmp_path / "one.mp4").write_bytes(encode(numbered_frames(8)[5:6]))
    videos = open_videos(tmp_path, labelled=False)
    clip = ClipSpec(frames=4, stride=2, size=16, crop=(16, 16))
    for batch in (
        next(iter(train(videos, clip=clip, batch_size=1, augment=PLAIN))),
        next(iter(view_batches(videos, clip, batch_size=1, plan=COVER))),
    ):
        assert numbers(batch.clips[0].permute(1, 2, 3, 0).numpy()) == [5, 5, 5, 5]


def test_real_clips_make_batches(clips_folder):
    videos = open_videos(clips_folder, labelled=False)
    clip = ClipSpec(frames=8, stride=2, size=56, crop=64)
    batch = next(iter(train(videos, clip=clip, batch_size=len(videos), steps=1)))
    assert sorted(batch.keys) == sorted(videos.keys)
    assert batch.clips.shape == (len(videos), 3, 8, 56, 56)
    spread = batch.clips.float().flatten(1).std(1)
    assert (spread > 5).all()
    seen = [len(b.views) for b in islice(view_batches(videos, clip, batch_size=1, plan=COVER), 2)]
    assert np.all(np.array(seen) >= 2)


@pytest.mark.parametrize("clips", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_making_clips_leaves_no_memory_behind(videos, clips):
    import psutil

    batches = iter(train(videos, steps=clips // 8 + 20, augment=AugmentConfig()))
    process = psutil.Process()
    for _ in islice(batches, 20):
        pass
    before = process.memory_info().rss
    for _ in batches:
        pass
    assert process.memory_info().rss - before < 30 * 2**20
