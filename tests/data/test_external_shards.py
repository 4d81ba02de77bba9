"""Webdatasets without our index: the same exactness, here and from servers that can and do less."""

import io
import itertools
import json
import pickle
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
import webdataset
from faulty_server import serving
from media import write_numbered
from sweeps import sweep
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.data import remote
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.external_shards import expand, index_external
from transfer3d.data.pipeline import clip_batches, view_batches
from transfer3d.data.remote import HttpStore, Patience
from transfer3d.data.shards import FolderStore, ShardVideos
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=2, size=16, crop=16)
HASTY = Patience(stall_s=0.3, tries=4, pause_s=0.01)
NAMES = "other-{000..004}.tar"


@pytest.fixture(scope="module")
def samples(digits_folder):
    videos = open_videos(digits_folder, split="test", labelled=True)
    return [(f"clip{i:03d}", videos.open(i), i % 3) for i in range(23)]


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """Five shards, as webdataset's own writer makes them."""
    root = tmp_path_factory.mktemp("foreign")
    with webdataset.ShardWriter(str(root / "other-%03d.tar"), maxcount=5, verbose=0) as writer:
        for key, video, label in samples:
            writer.write({"__key__": key, "mp4": video, "cls": label, "txt": "a moving digit"})
    return root


def batches(videos, **options):
    settings = {"batch_size": 6, "steps": 8, "seed": 3, "augment": AugmentConfig()}
    return list(clip_batches(videos, CLIP, **settings | options))


def same(one, two):
    return all(a.keys == b.keys and torch.equal(a.clips, b.clips) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("where", [".", NAMES])
def test_what_webdataset_wrote_is_read(folder, samples, where):
    videos = open_videos(folder / where, labelled=True)
    assert videos.keys == [key for key, _, _ in samples]
    assert videos.labels == [label for _, _, label in samples]
    assert list(videos.classes) == ["0", "1", "2"]
    for index in np.random.default_rng(0).permutation(len(samples)):
        assert videos.open(index) == samples[index][1]
    assert set(open_videos(folder / where, labelled=False).labels) == {None}
    with pytest.raises(UsageError, match="no split 'val'. It has train"):
        open_videos(folder / where, split="val", labelled=True)


def external_at(address, patience=HASTY):
    store = HttpStore(address, patience)
    return ShardVideos(store, index_external(store, expand(NAMES)), split="train", labelled=True)


@pytest.mark.parametrize(
    ("workers", "world"),
    sweep(itertools.product(range(3), (1, 2, 3)), [(0, 1), (1, 2)]),
)
def test_each_sample_once_per_epoch_from_a_bad_server(folder, world, workers, monkeypatch):
    """Without ranges, and every so often it stalls, truncates or answers 500."""
    monkeypatch.setattr(remote, "BUFFER", 2)
    monkeypatch.setattr(remote, "KEPT", 3)
    with serving(folder, ranges=False) as (address, state):
        state.faults = ["500", "truncate", "stall", "ok"]
        ranks = [external_at(address) for _ in range(world)]
        assert not state.faults
        # Each sample is as often there as all others: 12 batches of 6 are 72 = 3 x 23 + 3 places.
        # Three: however they fall, a file that meets them all comes at the fourth attempt.
        state.faults = ["truncate", "ok", "500", "ok", "stall"]
        parts = [
            batches(videos, steps=12, rank=rank, world=world, workers=workers)
            for rank, videos in enumerate(ranks)
        ]
        assert {len(part) for part in parts} == {12}
        keys = [key for step in zip(*parts, strict=True) for batch in step for key in batch.keys]
        for epoch in range(3):
            assert Counter(keys[23 * epoch : 23 * (epoch + 1)]) == Counter(ranks[0].keys)
        assert keys[:23] != keys[23:46]
        whole = batches(ranks[0], steps=12)
        assert [key for batch in whole for key in batch.keys] == keys
        mixed = torch.cat([part[5].clips for part in parts])
        assert torch.equal(mixed, whole[5].clips)
        seen = [
            key
            for rank, videos in enumerate(ranks)
            for batch in view_batches(videos, CLIP, batch_size=4, rank=rank, world=world, workers=workers)
            for key in batch.keys
        ]
        assert sorted(seen) == ranks[0].keys
        assert not state.faults


@pytest.mark.slow
@pytest.mark.parametrize("ranges", [True, False])
def test_any_step_again_without_those_before(folder, ranges):
    local = batches(open_videos(folder, labelled=True))
    with serving(folder, ranges=ranges) as (address, _):
        videos = external_at(address)
        found = batches(videos)
        for start in (1, 5):
            assert same(batches(external_at(address), start_step=start, workers=1), found[start:])
        assert same(batches(pickle.loads(pickle.dumps(videos))), found)
        # By ranges the order is that of a folder.
        assert same(found, local) == ranges


def test_by_its_address(folder):
    with serving(folder) as (address, state):
        assert len(open_videos(f"{address}/{NAMES}", labelled=True)) == 23
        state.always = "500"
        with pytest.raises(SetupError, match=r"other-000\.tar: answer 500, 4 times"):
            external_at(address)
        state.always = "ok"
        with pytest.raises(DataError, match=r"other-009\.tar: the server answers 404"):
            open_videos(f"{address}/other-{{008..009}}.tar".replace("008", "009"), labelled=True)


def test_check_reads_them_too(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["check", str(folder)])
    assert (done.exit_code, "23 videos" in done.output) == (0, True), done.output


def tar_of(path, *members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_refused_and_never_loaded(tmp_path):
    canary = tmp_path / "canary"
    payload = pickle.dumps(Payload(str(canary)))
    assert not canary.exists()
    for name in ("a.pyd", "a.pkl", "a.pickle", "a.x.PTH"):
        tar_of(tmp_path / "x.tar", ("a.mp4", b"x"), (name, payload))
        with pytest.raises(DataError, match=rf"x\.tar: member '{name}' is a pickle") as caught:
            open_videos(tmp_path, labelled=False)
        assert caught.value.exit_code == 3
    assert not canary.exists()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.mp4", b"x"), ("a.cls", b"-1")], "a has label '-1'"),
        ([("a.mp4", b"x"), ("a.cls", b"-100")], "a has label '-100'"),
        ([("a.mp4", b"x"), ("a.cls", b"1000000")], "a has label '1000000'"),
        ([("a.mp4", b"x"), ("a.cls", b"dog"), ("b.mp4", b"x"), ("b.cls", b"1")], "a has label 'dog'"),
        ([("a.mp4", b"x"), ("a.cls", b" ")], "a has an empty label"),
        ([("a.v1.mp4", b"x"), ("a.v2.MP4", b"x")], "a has two videos, v1.mp4 and v2.MP4"),
        ([("a.mp4", b"x"), ("a.json", b'{"label": 1.0}')], "a has label '1.0'"),
        ([("a.mp4", b"x"), ("a.json", b'{"label": true}')], "a has label 'True'"),
        ([("a.mp4", b"x"), ("b.cls", b"1")], "b must have exactly one video"),
        ([("a.mp4", b"x"), ("a.avi", b"x")], "a must have exactly one video"),
        ([("a.mp4", b"x"), ("a.mp4", b"y")], "'a.mp4' is refused"),
        ([("../a.mp4", b"x")], "'../a.mp4' is refused"),
        ([("a.txt", b"x")], "no videos"),
    ],
)
def test_samples_that_are_not_right(tmp_path, members, said):
    tar_of(tmp_path / "x.tar", *members)
    with pytest.raises(DataError, match=said):
        open_videos(tmp_path, labelled=True)


def test_labels_and_sources_from_json_and_keys_with_folders(tmp_path):
    facts = json.dumps({"label": 2, "source": "film", "frames": 9}).encode()
    tar_of(
        tmp_path / "a-val-0.tar", ("x/1.mp4", b"v"), ("x/1.json", facts), ("y/1.mp4", b"w"), ("y/1.cls", b"0")
    )
    videos = open_videos(tmp_path, split="val", labelled=True)
    assert (videos.keys, videos.labels, videos.sources) == (["x/1", "y/1"], [2, 0], ["film", "y/1"])
    tar_of(tmp_path / "a-val-1.tar", ("x/1.mp4", b"v"))
    with pytest.raises(DataError, match=r"a-val-1\.tar: x/1 is in a-val-0\.tar too"):
        open_videos(tmp_path, split="val", labelled=False)


def test_folder_entries_capitals_dotted_suffixes_and_class_names(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (
            ("./", None), ("./db", None), ("./db/1.MP4", b"v"), ("./db/1.cls", "caf\u00e9\n".encode()),
            ("./db/2.rgb.mp4", b"w"), ("./db/2.meta.json", b'{"label": "bar"}'), ("./db/3.mov", b"u"),
            ("./db/3.json", b'{"label": "cafe\\u0301"}'), ("./db/3.x.json", b"{}"), ("./end", None),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.size = len(content or b"")
            tar.addfile(member, io.BytesIO(content or b""))
    videos = open_videos(tmp_path, labelled=True)
    assert list(videos.classes) == ["bar", "caf\u00e9"]
    assert (videos.keys, videos.labels) == (["db/1", "db/2", "db/3"], [1, 0, 1])
    assert [videos.open(index) for index in range(3)] == [b"v", b"w", b"u"]


def test_a_cut_or_damaged_shard_is_found(tmp_path):
    """Where webdataset is silent: at block boundaries, and for flips in headers."""
    members = [(f"{i}.mp4", bytes([65 + i]) * 700) for i in range(4)]
    whole = tar_of(tmp_path / "x.tar", *members).read_bytes()
    end = 4 * (512 + 1024)
    rng = np.random.default_rng(0)
    for length in range(0, end + 1024, 256):
        (tmp_path / "x.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"x\.tar"):
            open_videos(tmp_path, labelled=False)
    for _ in range(60):
        damaged = bytearray(whole)
        place = 1536 * int(rng.integers(4)) + int(rng.integers(500))
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "x.tar").write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.tar"):
            open_videos(tmp_path, labelled=False)


def test_what_changes_later_is_found(tmp_path):
    path = tar_of(tmp_path / "x.tar", ("a.mp4", b"v" * 100))
    store = FolderStore(tmp_path)
    videos = ShardVideos(store, index_external(store, ["x.tar"]), split="train", labelled=False)
    assert videos.open(0) == b"v" * 100
    path.write_bytes(path.read_bytes().replace(b"vv", b"vw", 1))
    with pytest.raises(DataError, match=r"a\.mp4: sha256 differs"):
        videos.open(0)


def test_a_tar_file_beside_videos_is_none_of_the_data(tmp_path):
    write_numbered(tmp_path / "a" / "1.mp4", 5)
    tar_of(tmp_path / "download.tar", ("a.txt", b"x"))
    assert open_videos(tmp_path, labelled=True).keys == ["a/1.mp4"]


@pytest.mark.parametrize(
    ("notes", "labels"),
    [
        (({"class": "run"}, {"class": "jump"}), ["run", "jump"]),
        (({"class_name": "run", "class": None}, {"action": "jump"}), ["run", "jump"]),
        (({"label": "run", "class": 7}, {"label": "jump", "class": 7}), ["run", "jump"]),
        (({"class": 1}, {"class": 0}), ["1", "0"]),
    ],
)
def test_other_keys_of_the_class(notes, labels, tmp_path):
    files = [(f"{key}.json", json.dumps(note).encode()) for key, note in zip("ab", notes, strict=True)]
    tar_of(tmp_path / "x.tar", ("a.mp4", b"v"), ("b.mp4", b"w"), *files)
    videos = open_videos(tmp_path, labelled=True)
    assert [videos.classes[label] for label in videos.labels] == labels


@pytest.mark.parametrize(
    ("keys", "classes"),
    [
        ("run/1 run/2 jump/3", ["jump", "run"]),
        ("./videos/run/1 ./videos/jump/2 ./videos/jump/3", ["jump", "run"]),
        ("run/1 run/2 jump/3 4", None),
        ("train/run/1 val/run/2 val/run/3", None),
        ("trainset/1 testset/2 testset/3", None),
        ("part1/1 part1/2 part2/3", None),
        ("videos/1 videos/2", None),
        ("film/a other/a", None),
    ],
)
def test_folders_in_a_shard_are_classes_if_they_can_only_be_classes(keys, classes, tmp_path, caplog):
    keys = keys.split()
    tar_of(tmp_path / "x.tar", *((f"{key}.mp4", key.encode()) for key in keys))
    if classes is None:
        with pytest.raises(DataError, match=r"have no label, first .*\. Add a member NAME.cls"):
            open_videos(tmp_path, labelled=True)
        assert not open_videos(tmp_path).classes
        return
    videos = open_videos(tmp_path, labelled=True)
    assert list(videos.classes) == classes
    assert [videos.classes[label] for label in videos.labels] == [key.split("/")[-2] for key in keys]
    assert "no labels; its 2 folders are the classes, first jump" in caplog.text


def test_a_split_with_labels_is_named_where_there_is_one(tmp_path):
    tar_of(tmp_path / "x-train-0.tar", ("run/a.mp4", b"v"), ("run/c.mp4", b"v"), ("jump/d.mp4", b"v"))
    tar_of(tmp_path / "x-test-0.tar", ("b.mp4", b"w"), ("b.cls", b"0"))
    with pytest.raises(DataError, match="Choose a split with labels, as in --split test"):
        open_videos(tmp_path, labelled=True)


def test_sound_beside_a_video_is_ignored(samples, tmp_path):
    video = samples[0][1]
    tar_of(tmp_path / "x.tar", ("a.mp4", video), ("a.ogg", b"sound"), ("a.cls", b"0"), ("b.ogg", video))
    videos = open_videos(tmp_path, labelled=False)
    assert videos.keys == ["a", "b"]
    assert [videos.open(index) for index in range(2)] == [video, video]


def test_webdatasets_notation():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("a.tar") == ["a.tar"]
    with pytest.raises(UsageError, match="3 comes after 1"):
        expand("a-{3..1}.tar")
    with pytest.raises(UsageError, match=r"x-0\.tar does not exist.* Of 2 shards 2 are missing"):
        open_videos("/nowhere/x-{0..1}.tar", labelled=False)
    with pytest.raises(DataError, match="never from commands"):
        open_videos("pipe:cat /etc/passwd #.tar", labelled=False)


def _tar(path, members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for name, content, changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


SPARSE = {f"GNU.sparse.{key}": value for key, value in (
    ("major", "1"), ("minor", "0"), ("name", "a.mp4"), ("realsize", "99999999999")
)}  # fmt: skip
ODD = {
    "a name that is not UTF-8": ({}, "\udcff.mp4", b"x"),
    "a very long name": ({}, "a" * 5000 + ".mp4", b"x"),
    "a sparse file": ({"pax_headers": SPARSE}, "a.mp4", b"1\n0\n5\n" + bytes(506)),
    "a map of words": ({"pax_headers": {"GNU.sparse.map": "a,b", "GNU.sparse.size": "5"}}, "a.mp4", b"x"),
    "a large class": ({}, "a.cls", b"x" * 2_000_000),
    "a class of half a character": ({}, "a.json", b'{"label": "\\ud800"}'),
    "a class as long as a book": ({}, "a.json", json.dumps({"label": "x" * 5000}).encode()),
    "half a class": ({}, "a.json", b'{"label": 1.5}'),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_members_are_refused_in_a_sentence(odd, samples, tmp_path):
    changes, name, content = ODD[odd]
    video = ("b.mp4" if "mp4" in name else "a.mp4", samples[0][1], {})
    _tar(tmp_path / "x.tar", [video, (name, content, changes)])
    with pytest.raises(DataError, match="x.tar") as caught:
        open_videos(tmp_path, split=None, labelled=True)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_size_below_zero_is_refused_at_once(kind, samples, tmp_path):
    path = _tar(tmp_path / "x.tar", [("a.mp4", samples[0][1], {}), ("b", b"", {"type": kind})])
    content = bytearray(path.read_bytes())
    start = content.index(b"b", tarfile.BLOCKSIZE * (1 + -(-len(samples[0][1]) // tarfile.BLOCKSIZE)))
    content[start + 124 : start + 136] = b"\xff" * 10 + b"\xfc\x00"  # base 256: -1024
    content[start + 148 : start + 156] = b"        "
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    path.write_bytes(content)
    with pytest.raises(DataError, match="x.tar"):
        open_videos(tmp_path, split=None, labelled=False)


@pytest.mark.parametrize(
    "entry",
    [{"source": "x" * 5000}, {"source": "\ud800"}, {"frames": 10**30}, {"frames": -3}, {"frames": True}],
)
def test_what_a_sample_says_beside_its_class_is_taken_where_it_can_be(entry, samples, tmp_path):
    note = json.dumps({"label": "run", **entry}).encode()
    _tar(tmp_path / "x.tar", [("a.mp4", samples[0][1], {}), ("a.json", note, {})])
    videos = open_videos(tmp_path, split=None, labelled=True)
    assert (videos.sources, videos.classes) == (["a"], ("run",))
    assert list(videos.frame_counts) == [0]


@pytest.mark.parametrize("names", ["x-{0..99999999}.tar", "x-{0..999999}.tar"])
def test_a_range_that_nobody_means_is_refused(names):
    with pytest.raises(UsageError, match="more than 100000 shards"):
        expand(names)
    assert expand("x-{0.." + "9" * 5000 + "}.tar") == ["x-{0.." + "9" * 5000 + "}.tar"]
