"""Shards over HTTP: what a faulty server does to a run, and that it is the same run."""

import pickle
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from faulty_server import serving

from transfer3d.data import remote
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.check import check_videos
from transfer3d.data.epoch_sampler import BufferedEpochSampler
from transfer3d.data.isolated import Limits
from transfer3d.data.pipeline import clip_batches, view_batches
from transfer3d.data.remote import HttpStore, Patience
from transfer3d.data.shards import ShardVideos, read_index
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, SetupError
from transfer3d.layout import ClipSpec
from transfer3d.run.training.session import Session
from transfer3d.scratch import PREFIX

CLIP = ClipSpec(frames=2, size=16, crop=16)
HASTY = Patience(stall_s=0.3, tries=3, pause_s=0.01)


@pytest.fixture(scope="module")
def folder(digits_folder):
    return digits_folder / "shards"


def opened(address, split="train", patience=HASTY):
    store = HttpStore(address, patience)
    return ShardVideos(store, read_index(store), split=split, labelled=True)


def batches(videos, **options):
    settings = {"batch_size": 4, "steps": 6, "seed": 3, "augment": AugmentConfig()}
    return list(clip_batches(videos, CLIP, **settings, **options))


def same(one, two):
    return all(a.keys == b.keys and torch.equal(a.clips, b.clips) for a, b in zip(one, two, strict=True))


def test_by_ranges_it_is_the_same_run_as_from_disk(folder):
    local = batches(open_videos(folder, split="train", labelled=True))
    with serving(folder) as (address, state):
        videos = open_videos(address, split="train", labelled=True)
        assert videos.digest == open_videos(folder, split="train", labelled=True).digest
        assert same(batches(videos), local)
        assert same(batches(videos, workers=2), local)
        assert all(part for name, part in state.asked if name.endswith(".tar"))


@pytest.mark.parametrize("fault", ["500", "truncate", "stall"])
def test_what_passes_is_waited_for(folder, fault):
    local = open_videos(folder, split="train", labelled=True)
    with serving(folder) as (address, state):
        state.faults = [fault, "ok", fault]
        videos = opened(address)
        state.faults = [fault, fault, "ok", "ok", fault]
        for index in (5, 0, 7):
            assert videos.open(index) == local.open(index)
        assert not state.faults


@pytest.mark.parametrize(
    ("fault", "said"), [("500", "answer 500"), ("truncate", "of"), ("stall", "timed out")]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_what_does_not_pass_ends_with_one_sentence(folder, fault, said, workers):
    with serving(folder) as (address, state):
        videos = opened(address)
        state.always = fault
        with pytest.raises(SetupError, match=rf"train-000000.tar: .*{said}.*, 3 times\. Look at") as caught:
            batches(videos, workers=workers)
        assert caught.value.exit_code == 5
    with pytest.raises(SetupError, match="refused"):
        opened(address)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("abc", SetupError, "a wrong Content-Length"),
        ("nowhere", DataError, "a wrong address"),
        ("endless", SetupError, "more than 1000000 bytes"),
        ("continue", SetupError, "index.json: .*, 3 times"),
        ("loop", DataError, r"answers 302 \(The HTTP server returned a redirect error[^\n]*\)\.$"),
    ],
)
def test_a_server_without_manners_is_given_up_in_time(folder, fault, error, said, monkeypatch):
    monkeypatch.setattr(remote, "MAX_INDEX_BYTES", 1_000_000)
    started = time.monotonic()
    with serving(folder) as (address, state):
        state.always = fault
        with pytest.raises(error, match=said):
            HttpStore(address, HASTY).whole("index.json")
    assert time.monotonic() - started < 10


def test_what_follows_the_last_chunk_without_end_is_cut_off(folder):
    started = time.monotonic()
    with serving(folder) as (address, state):
        state.always = "trailers"
        assert HttpStore(address, HASTY).whole("index.json") == b"{}"
    assert time.monotonic() - started < 5


def test_another_server_is_named_once_and_the_body_of_a_redirect_is_not_read(folder, caplog):
    with serving(folder) as (address, state):
        state.faults = ["moved", "ok", "moved", "ok"]
        store = HttpStore(address, HASTY)
        started = time.monotonic()
        assert store.whole("index.json") == store.whole("index.json") == (folder / "index.json").read_bytes()
        assert time.monotonic() - started < 3
        assert len(state.asked) == 4
    port = address.rpartition(":")[2]
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"http://127.0.0.1:{port} sends to another server, http://localhost:{port}"]


def test_a_server_that_is_lost_ends_a_check(folder, monkeypatch):
    monkeypatch.setattr("transfer3d.data.source.HttpStore", lambda address: HttpStore(address, HASTY))
    with serving(folder) as (address, state):
        state.faults = ["ok"] * 1000
        answers = check_videos(address, workers=1, limits=Limits())
        assert next(answers).reason == ""
        state.faults, state.always = [], "500"
        with pytest.raises(SetupError, match="answer 500, 3 times"):
            list(answers)


def test_an_address_may_have_letters_of_any_alphabet(folder, tmp_path):
    (tmp_path / "vid\u00e9os 1").symlink_to(folder)
    with serving(tmp_path) as (address, _):
        assert len(opened(f"{address}/vid\u00e9os 1/")) == len(opened(f"{address}/vid%C3%A9os%201"))


def test_what_will_never_come_is_not_asked_for_again(folder, tmp_path):
    with serving(tmp_path) as (address, state):
        with pytest.raises(DataError, match=r"index.json: the server answers 404"):
            opened(address)
        assert len(state.asked) == 1
        state.always = "elsewhere"
        with pytest.raises((DataError, SetupError)):
            opened(address)
    with serving(folder) as (address, state):
        videos = opened(address)
        state.always = "flip"
        with pytest.raises(DataError, match="sha256 differs"):
            videos.open(3)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_ranges_shards_are_read_whole_and_one_after_another(folder, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(remote, "BUFFER", 2)
    monkeypatch.setattr(remote, "KEPT", 3)
    out = _small_shards(folder, tmp_path)
    local = open_videos(out, split="train", labelled=True)
    with serving(out, ranges=False) as (address, state):
        videos = opened(address)
        assert list(videos.sequential_groups) == [10] * 8
        said = []
        Session.say_dropped(SimpleNamespace(say=said.append), videos)
        assert said == [
            "the server does not support byte ranges: whole shards are read, "
            "and videos shuffled within a buffer of 2"
        ]
        found = batches(videos, workers=workers)
        bytes_of = {key: local.open(i) for i, key in enumerate(local.keys)}
        for index in (0, 79, 40):
            assert videos.open(index) == bytes_of[videos.keys[index]]
        kept = Path(videos._store._folder)
        assert 0 < len(list(kept.iterdir())) <= 4
        # Any step again, without those before it; and the same in every process.
        assert same(batches(videos, start_step=4), found[4:])
        assert same(batches(pickle.loads(pickle.dumps(videos))), found)
        everything = [k for b in view_batches(videos, CLIP, batch_size=16) for k in b.keys]
        assert everything == local.keys
        state.always = "truncate"
        with pytest.raises(SetupError, match="3 times"):
            batches(opened_again(videos, kept))


def test_shards_that_are_kept_go_with_the_run_and_those_of_a_killed_one_with_the_next(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{PREFIX}{'0' * 32}"
    left.mkdir()
    (left / "train-000000.tar").write_bytes(b"x")
    with serving(folder, ranges=False) as (address, _):
        videos = opened(address)
        assert videos.open(0)
        (kept,) = tmp_path.iterdir()
        assert kept != left
        del videos
    assert not list(tmp_path.iterdir())


def opened_again(videos, kept):
    for path in kept.iterdir():
        path.unlink()
    return videos


def _small_shards(folder, out):
    from transfer3d.data.shard_writer import Sample, write_index, write_shards

    videos = open_videos(folder, split="train", labelled=True)
    samples = [
        Sample(key, videos.open(i), "mp4", videos.labels[i], videos.sources[i], 12)
        for i, key in enumerate(videos.keys)
    ]
    shards = write_shards(out, "small", "train", samples, per_shard=10)
    write_index(out, "small", shards, classes=videos.classes, source="test")
    return out


def test_a_buffered_order_takes_each_video_once_and_few_shards_at_a_time():
    order = BufferedEpochSampler(1, [5, 5, 3, 5, 5, 5], buffer=2)
    for epoch in (0, 1):
        videos = [order.draw(position).video for position in range(28 * epoch, 28 * (epoch + 1))]
        assert Counter(videos) == Counter(range(28))
        runs = [min(v // 5, 2) if v < 13 else 3 + (v - 13) // 5 for v in videos]
        met = list(dict.fromkeys(runs))
        # Two runs at a time: a pair is through before the next one begins.
        pairs = [set(met[start : start + 2]) for start in (0, 2, 4)]
        starts = [*(min(runs.index(run) for run in pair) for pair in pairs), 28]
        assert [set(runs[a:b]) for a, b in pairwise(starts)] == pairs
    assert [order.draw(p).video for p in range(28)] != [order.draw(p).video for p in range(28, 56)]
