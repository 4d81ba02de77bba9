"""The same bytes under two names are reported, in two splits and in two classes."""

import pytest
from media import write_numbered

from transfer3d.data.overlap import contradicting_videos, shared_videos
from transfer3d.data.shard_writer import Sample, write_index, write_shards
from transfer3d.data.source import open_videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("twice")
    video = write_numbered(root / "train" / "jump" / "a.mp4", 4).read_bytes()
    write_numbered(root / "train" / "wave" / "b.mp4", 5)
    (root / "train" / "wave" / "again.mp4").write_bytes(video)
    (root / "val" / "jump").mkdir(parents=True)
    (root / "val" / "jump" / "c.mp4").write_bytes(video)
    write_numbered(root / "val" / "wave" / "d.mp4", 6)
    return root


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    out, written = tmp_path_factory.mktemp("shards"), []
    for split in ("train", "val"):
        videos = open_videos(folder, split=split)
        samples = [
            Sample(f"{split}{i}", videos.open(i).read_bytes(), "mp4", videos.labels[i], "s", 4)
            for i in range(len(videos))
        ]
        written += write_shards(out, "x", split, samples)
    write_index(out, "x", written, classes=("jump", "wave"), source="test")
    return out


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_the_same_bytes_in_two_splits_and_in_two_classes(kind, request):
    place = request.getfixturevalue(kind)
    train, val = (open_videos(place, split=split) for split in ("train", "val"))
    shared, contradicting = shared_videos(train, val), contradicting_videos(train)
    assert shared == (["jump/c.mp4"] if kind == "folder" else ["val0"])
    assert contradicting == (["wave/again.mp4"] if kind == "folder" else ["train1"])
    assert contradicting_videos(val) == []
