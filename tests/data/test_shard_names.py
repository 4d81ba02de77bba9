"""Third-party shards as people name and keep them: splits, folders; packed, joined or unfinished files."""

import gzip
import io
import tarfile

import pytest
from media import write_numbered
from miniatures import video
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.data.external_shards import expand
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, UsageError


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp("video") / "a.mp4", 4).read_bytes()


def shard(path, content, count, label=b"1"):
    """Writes a shard whose keys count from 0, as in each of a set's splits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            for name, data in ((f"{i}.mp4", content), (f"{i}.cls", label)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train-000000.tar", "val-000000.tar"),
        ("mine_train_00.tar", "mine_valid_00.tar"),
        ("mine-0.tar", "mine-validation-part-0-of-1.tar"),
        ("Train.TAR", "Val.tar"),
        ("train/0.tar", "val/0.tar"),
        ("training/a-test-0.tar", "validation/a-test-0.tar"),
    ],
)
def test_splits_by_names_of_shards_and_of_folders(train, val, content, tmp_path):
    shard(tmp_path / train, content, 3)
    shard(tmp_path / val, content, 2)
    assert open_videos(tmp_path, labelled=True).keys == ["train/0", "train/1", "train/2"]
    videos = open_videos(tmp_path, split="val", labelled=True)
    assert (videos.keys, videos.labels, videos.sources) == (["val/0", "val/1"], [1, 1], ["val/0", "val/1"])
    assert videos.open(1) == content


@pytest.mark.parametrize(
    ("name", "split"), [("test-of-mine-0", "train"), ("my-test-0", "test"), ("val_1", "val")]
)
def test_one_split_is_the_word_before_the_number(name, split, content, tmp_path):
    shard(tmp_path / f"{name}.tar", content, 1)
    assert open_videos(tmp_path, split=split).keys == ["0"]
    with pytest.raises(UsageError, match=f"no split 'other'. It has {split}"):
        open_videos(tmp_path, split="other")


def test_a_key_twice_in_a_split_is_refused(content, tmp_path):
    for name in ("train-0", "train-1", "val-0"):
        shard(tmp_path / f"{name}.tar", content, 1)
    with pytest.raises(DataError, match=r"train-1\.tar: 0 is in train-0\.tar too"):
        open_videos(tmp_path)


def test_hidden_tar_files_are_passed_over(content, tmp_path):
    shard(tmp_path / "a.tar", content, 2)
    (tmp_path / "._a.tar").write_bytes(b"\0\5\26\7")  # what macOS leaves on other disks
    assert len(open_videos(tmp_path)) == 2


def test_compressed_shards_are_called_compressed(content, tmp_path):
    packed = gzip.compress(shard(tmp_path / "a.tar", content, 2).read_bytes())
    (tmp_path / "a.tar").write_bytes(packed)
    with pytest.raises(DataError, match=r"a\.tar is not a complete tar file: it is compressed by gzip"):
        open_videos(tmp_path)
    for name in ("a.tar.gz", "a.tgz"):
        (tmp_path / "b" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "b" / name).write_bytes(packed)
        with pytest.raises(DataError, match=r"a\.(tar\.gz|tgz) is compressed. Decompress it"):
            open_videos(tmp_path / "b")
    write_numbered(tmp_path / "b" / "video.mp4", 4)  # the packed file may be anything
    assert open_videos(tmp_path / "b").keys == ["video.mp4"]


def test_tar_files_joined_to_one_are_refused(content, tmp_path):
    one = shard(tmp_path / "a.tar", content, 2)
    one.write_bytes(one.read_bytes() + shard(tmp_path / "other" / "b.tar", content, 1).read_bytes())
    with pytest.raises(DataError, match=r"a\.tar: the tar file ends after 4 members, and more follows"):
        open_videos(tmp_path)


def test_shards_that_are_not_finished_are_refused(tmp_path):
    for name in "abc":
        video(tmp_path / "data" / "train" / name / f"{name}.mp4")
    (tmp_path / "data" / "train" / "a" / "bad.mp4").write_bytes(b"no video")
    arguments = ["shard", str(tmp_path / "data"), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 3
    assert list((tmp_path / "out").glob("*.tar"))
    with pytest.raises(DataError, match="its shards are not finished. Run the same `transfer3d shard` again"):
        open_videos(tmp_path / "out", labelled=True)
    done = CliRunner().invoke(app, [*arguments, "--max-bad-fraction", "1"])
    assert done.exit_code == 0, done.output
    assert list(open_videos(tmp_path / "out", labelled=True).classes) == ["a", "b", "c"]


def test_splits_that_were_sharded_one_by_one_are_no_dataset(tmp_path):
    for split in ("train", "val"):
        video(tmp_path / split / "a" / "a.mp4")
        done = CliRunner().invoke(app, ["shard", str(tmp_path / split), "-o", str(tmp_path / "out" / split)])
        assert done.exit_code == 0, done.output
    with pytest.raises(DataError, match=r"train is a dataset of shards by itself\. Give that folder"):
        open_videos(tmp_path / "out")
    assert len(open_videos(tmp_path / "out" / "val")) == 1


def test_lists_and_several_ranges_in_braces():
    assert expand("{train,val}-{0..1}.tar") == ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]
    assert expand("a-{000,007}.tar") == ["a-000.tar", "a-007.tar"]
    with pytest.raises(UsageError, match="more than 100000 shards"):
        expand("{0..999}-{0..999}-{0..999}.tar")
