"""Shards against other readers of them, and against damage."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
import webdataset
from endless import ENDLESS, place_endless
from timm.data.readers import reader_wds

from transfer3d.data.shard_writer import Sample, list_members, write_index, write_shards
from transfer3d.data.shards import FolderStore, ShardVideos, read_index
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, SetupError, UsageError


def make_samples(count=7, *, labelled=True):
    """Returns samples of random bytes: reading shards does not decode."""
    rng = np.random.default_rng(0)
    return [
        Sample(
            key=f"c{i:06d}",
            video=rng.bytes(700 + 100 * i),
            suffix=("mp4", "avi", "mkv")[i % 3],
            label=i % 2 if labelled else None,
            source=f"Straße {i // 2}.mp4",
            frames=10 + i,
            info={"note": "ü"},
        )
        for i in range(count)
    ]


def write(folder, samples=None, **options):
    samples = make_samples() if samples is None else samples
    shards = write_shards(folder, "toy", "train", samples, per_shard=3)
    write_index(folder, "toy", shards, classes=("a", "b"), source="made up", **options)
    return folder


def opened(folder):
    return open_videos(folder, split="train", labelled=True)


def test_webdataset_reads_what_was_written(tmp_path):
    write(tmp_path)
    paths = sorted(map(str, tmp_path.glob("*.tar")))
    assert [p.rsplit("/", 1)[1] for p in paths] == [f"toy-train-{i:06d}.tar" for i in range(3)]
    read = list(webdataset.WebDataset(paths, shardshuffle=False))
    for sample, theirs in zip(make_samples(), read, strict=True):
        assert theirs["__key__"] == sample.key
        assert theirs[sample.suffix] == sample.video
        assert int(theirs["cls"]) == sample.label
        facts = json.loads(theirs["json"])
        assert facts == {"label": sample.label, "source": sample.source, "frames": sample.frames, "note": "ü"}


def test_the_index_points_at_the_members_bytes(tmp_path):
    write(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    seen = 0
    for shard in index["shards"]:
        data = (tmp_path / shard["file"]).read_bytes()
        assert len(data) == shard["size"]
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for sample in shard["samples"]:
                for suffix, (offset, size, sha256) in sample["members"].items():
                    content = tar.extractfile(f"{sample['key']}.{suffix}").read()
                    assert data[offset : offset + size] == content
                    assert hashlib.sha256(content).hexdigest() == sha256
                    seen += 1
    assert seen == 7 * 3
    assert index["counts"] == {"train": 7}
    assert index["classes"] == ["a", "b"]


def test_timm_and_open_clip_find_their_sizes(tmp_path):
    write(tmp_path)
    info = reader_wds._load_info(str(tmp_path))["splits"]["train"]
    assert info["num_samples"] == 7
    assert info["shard_lengths"] == [3, 3, 1]
    assert json.loads((tmp_path / "sizes.json").read_text()) == dict(
        zip(info["filenames"], info["shard_lengths"], strict=True)
    )


def test_same_samples_same_bytes(tmp_path):
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    files = sorted(p.name for p in one.iterdir())
    assert files == sorted(p.name for p in two.iterdir())
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_reading_by_index(tmp_path):
    videos = opened(write(tmp_path))
    samples = make_samples()
    assert len(videos) == 7
    for i in np.random.default_rng(0).permutation(7):
        assert videos.open(i) == samples[i].video
    assert videos.keys == [s.key for s in samples]
    assert videos.labels == [s.label for s in samples]
    assert videos.sources == [s.source for s in samples]
    assert list(videos.classes) == ["a", "b"]


def test_labels_are_not_looked_at_where_they_are_not_wanted(tmp_path):
    write(tmp_path, make_samples(labelled=False))
    videos = open_videos(tmp_path, split="train", labelled=False)
    assert set(videos.labels) == {None}
    with pytest.raises(
        DataError, match=r"7 videos of 'train' have no label, first c000000\. Pack them again"
    ):
        opened(tmp_path)


def test_the_digest_sees_bytes_and_labels(tmp_path):
    samples = make_samples()
    same = opened(write(tmp_path / "a")).digest
    assert opened(write(tmp_path / "b")).digest == same
    samples[3] = Sample(**{**vars(samples[3]), "label": 0})
    assert opened(write(tmp_path / "c", samples)).digest != same
    samples = make_samples()
    samples[3] = Sample(**{**vars(samples[3]), "video": b"other"})
    assert opened(write(tmp_path / "d", samples)).digest != same


def test_every_flipped_bit_of_a_video_is_found(tmp_path):
    folder = write(tmp_path)
    shard = read_index(FolderStore(folder)).shards[0]
    path, member = folder / shard.file, shard.samples[1].members["avi"]
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(member.offset, member.offset + member.size, size=60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        videos = opened(folder)
        with pytest.raises(DataError, match=r"toy-train-000000\.tar: c000001\.avi: sha256 differs") as caught:
            videos.open(1)
        assert caught.value.exit_code == 3
        assert videos.open(0) == make_samples()[0].video


def test_a_cut_shard_is_found_before_anything_is_read(tmp_path):
    folder = write(tmp_path)
    path = folder / "toy-train-000001.tar"
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 512), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"000001\.tar: {length} of {len(whole)} bytes, \d of 3 samples"):
            opened(folder)
    path.unlink()
    with pytest.raises(DataError, match=r"000001\.tar: 0 of .* 0 of 3 samples"):
        opened(folder)


@pytest.mark.parametrize("key", ["a.b", "a/b", "..", "", "a\\b"])
def test_unsafe_keys_are_not_written(tmp_path, key):
    with pytest.raises(ValueError, match="key"):
        write_shards(tmp_path, "toy", "train", [Sample(key, b"x", "mp4", 0, "s", 1)])
    assert list(tmp_path.iterdir()) == []


def test_keys_are_unique_over_all_splits(tmp_path):
    shards = write_shards(tmp_path, "toy", "train", make_samples(2))
    shards += write_shards(tmp_path, "toy", "test", make_samples(1))
    with pytest.raises(DataError, match="c000000 is there 2 times"):
        write_index(tmp_path, "toy", shards, classes=("a", "b"), source="made up")
    assert not (tmp_path / "index.json").exists()


def test_a_failure_leaves_no_shard(tmp_path):
    def samples():
        yield from make_samples(4)
        raise OSError("no space left")

    with pytest.raises(SetupError, match="cannot be written: no space"):
        write_shards(tmp_path, "toy", "train", samples(), per_shard=3)
    assert [p.name for p in tmp_path.iterdir()] == ["toy-train-000000.tar"]


def test_every_flipped_bit_of_an_index_is_found(tmp_path):
    write_index(
        tmp_path, "toy", write_shards(tmp_path, "toy", "train", make_samples(4), per_shard=3),
        classes=["a", "b"], source="test",
    )  # fmt: skip
    index = tmp_path / "index.json"
    whole = index.read_bytes()
    read_index(FolderStore(tmp_path))
    for place in range(0, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        if damaged[place : place + 1].isspace() and whole[place : place + 1].isspace():
            continue  # white space between tokens
        index.write_bytes(damaged)
        with pytest.raises(DataError):
            read_index(FolderStore(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i: i["shards"][0]["samples"].append(i["shards"][0]["samples"][0]), "is listed twice"),
        (lambda i: i.update(classes=["a", "a"]), "class .a. is listed twice"),
        (lambda i: i["shards"][0].update(size=600), "members outside"),
        (lambda i: i["counts"].update(train=9), "it counts .* and lists"),
        (lambda i: i["shards"][1].update(file=i["shards"][0]["file"]), "is listed twice"),
        (lambda i: i["shards"][0]["samples"][0]["members"]["mp4"].__setitem__(1, 2000), "overlap"),
        (lambda i: _grow(i, 2**33), "a member of more than 4294967296 bytes"),
    ],
)
def test_an_index_of_an_older_version_may_not_contradict_itself(change, said, tmp_path):
    write_index(
        tmp_path, "toy", write_shards(tmp_path, "toy", "train", make_samples(4), per_shard=3),
        classes=["a", "b"], source="test",
    )  # fmt: skip
    index = json.loads((tmp_path / "index.json").read_text())
    del index["digest"]
    (tmp_path / "index.json").write_text(json.dumps(index))
    read_index(FolderStore(tmp_path))
    change(index)
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=said):
        read_index(FolderStore(tmp_path))


def _grow(index, size):
    shard = index["shards"][1]  # of one sample
    shard["size"] = 2 * size
    shard["samples"][0]["members"]["mp4"][1] = size


@pytest.mark.parametrize("kind", [*ENDLESS, "large"])
def test_an_index_that_is_no_file_of_a_size_is_not_read(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("transfer3d.data.shards.MAX_INDEX_BYTES", 100)
    path = tmp_path / "index.json"
    if kind == "large":
        path.write_bytes(bytes(101))
    else:
        place_endless(path, kind)
    with pytest.raises(DataError, match="index.json: (not a regular file|101 bytes, more than 100)"):
        read_index(FolderStore(tmp_path))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_members_that_are_no_plain_files_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("c000001.mp4")
    member.type, member.linkname = kind, "/etc/passwd"
    _refused(tmp_path, member)


@pytest.mark.parametrize("name", ["../canary.mp4", "/canary.mp4", "a/../../canary.mp4"])
def test_members_with_unsafe_names_are_refused(tmp_path, name):
    _refused(tmp_path, tarfile.TarInfo(name))
    assert not (tmp_path.parent / "canary.mp4").exists()


def _refused(folder, member):
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.addfile(member)
    with pytest.raises(DataError, match="is refused"):
        list_members(folder / "x.tar")


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda i: i["shards"][0].update(file="../other.tar"), "is not the name of a shard"),
        (lambda i: i["shards"][0].update(file="pipe:cat x.tar"), "is not the name of a shard"),
        (lambda i: i["shards"][0]["samples"][0].update(label=2), "has label 2 of 2 classes"),
        (lambda i: i["shards"][0]["samples"][0].update(label=-100), "label"),
        (lambda i: i["shards"][0]["samples"][0].update(label="dog"), "label"),
        (lambda i: i["shards"][0]["samples"][0]["members"].pop("mp4"), "must have exactly one video"),
        (lambda i: i.pop("classes"), "classes"),
        (lambda i: i.update(format="something-2"), "something-2"),
        (lambda i: i.update(extra=1), "extra"),
    ],
)
def test_an_index_that_was_tampered_with(tmp_path, change, reason):
    path = write(tmp_path) / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json.*" + reason):
        opened(tmp_path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"index\.json"):
        opened(tmp_path)


def test_an_unknown_split_names_the_known(tmp_path):
    with pytest.raises(UsageError, match="no split 'val'. It has train"):
        open_videos(write(tmp_path), split="val", labelled=True)


@pytest.mark.parametrize("name", ["ü x", "a#b?c;d", "100%", "{a,b}", "x::y"])
def test_names_that_trouble_others(tmp_path, name):
    videos = opened(write(tmp_path / name))
    assert videos.open(6) == make_samples()[6].video


def test_it_reads_the_same_after_pickling(tmp_path):
    import pickle

    videos = opened(write(tmp_path))
    copy = pickle.loads(pickle.dumps(videos))
    assert isinstance(copy, ShardVideos)
    assert copy.open(2) == videos.open(2)
