"""What a folder may look like, and what is said about one that is not right."""

import pytest
from endless import ENDLESS, place_endless
from media import audio_only, encode, numbered_frames, write_numbered

from transfer3d.data.check import check_videos
from transfer3d.data.isolated import Limits
from transfer3d.data.moving_digits import CLASSES
from transfer3d.data.source import open_files, open_videos
from transfer3d.errors import DataError, UsageError

PARTS = {"train": 80, "val": 40, "test": 40}


@pytest.mark.parametrize("where", [".", "shards", "videos"])
def test_the_built_in_dataset_by_every_door(digits_folder, where):
    for split, count in PARTS.items():
        videos = open_videos(digits_folder / where, split=split, labelled=True)
        assert len(videos) == count
        assert list(videos.classes) == list(CLASSES)
        assert sorted(videos.labels) == sorted(list(range(40)) * (count // 40))
        assert not videos.dropped
    for split in ("unlabelled", "train", None):
        videos = open_videos(digits_folder / where, split=split, labelled=False)
        assert len(videos) == 60
        assert set(videos.labels) == {None}


def test_files_and_shards_hold_the_same(digits_folder):
    files = open_videos(digits_folder / "videos", split="test", labelled=True)
    shards = open_videos(digits_folder / "shards", split="test", labelled=True)
    by_key = {key: i for i, key in enumerate(shards.keys)}
    for i, key in enumerate(files.keys):
        other = by_key[key.rsplit("/")[-1].removesuffix(".mp4")]
        assert files.open(i).read_bytes() == shards.open(other)
        assert files.labels[i] == shards.labels[other]


def test_class_folders_without_splits(tmp_path):
    for name in ("zebra", "ape", "cat"):
        write_numbered(tmp_path / name / "1.mp4")
        write_numbered(tmp_path / name / "2.MP4")
    (tmp_path / "ape" / "notes.txt").write_text("not a video")
    (tmp_path / "ape" / "._1.mp4").write_text("a Mac's shadow")
    for split in ("train", None):
        videos = open_videos(tmp_path, split=split, labelled=True)
        assert list(videos.classes) == ["ape", "cat", "zebra"]
        assert videos.labels == [0, 0, 1, 1, 2, 2]
        assert videos.keys[:3] == ["ape/1.mp4", "ape/2.MP4", "cat/1.mp4"]
        assert not videos.dropped
    with pytest.raises(UsageError, match="no split 'test'"):
        open_videos(tmp_path, split="test", labelled=True)
    assert len(open_videos(tmp_path, split="unlabelled", labelled=False)) == 6


def test_labels_agree_over_splits_that_lack_a_class(tmp_path):
    for name in ("a", "b", "c"):
        write_numbered(tmp_path / "train" / name / "1.mp4")
    write_numbered(tmp_path / "val" / "c" / "2.mp4")
    videos = open_videos(tmp_path, split="val", labelled=True)
    assert videos.labels == [2]
    assert list(videos.classes) == ["a", "b", "c"]
    write_numbered(tmp_path / "val" / "d" / "3.mp4")
    with pytest.raises(DataError, match="class d is not in"):
        open_videos(tmp_path, split="val", labelled=True)


def test_an_empty_class_is_named(tmp_path):
    write_numbered(tmp_path / "a" / "1.mp4")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="class b has no videos"):
        open_videos(tmp_path, labelled=True)


def test_a_flat_folder_of_mixed_containers(tmp_path):
    for name, options in {
        "a.mp4": {},
        "b.avi": {"container": "avi", "codec": "mpeg4"},
        "c.mkv": {"container": "matroska"},
        "d.webm": {"container": "webm", "codec": "libvpx-vp9", "deadline": "realtime"},
        "e.mov": {"container": "mov"},
    }.items():
        write_numbered(tmp_path / name, 6, **options)
    videos = open_videos(tmp_path, split="unlabelled", labelled=False)
    assert list(videos.keys) == ["a.mp4", "b.avi", "c.mkv", "d.webm", "e.mov"]
    assert list(videos.sources) == list(videos.keys)
    with pytest.raises(DataError, match="no class folders"):
        open_videos(tmp_path, labelled=True)


def test_bad_files_are_named_and_left_out(tmp_path):
    whole = encode(numbered_frames(40))
    write_numbered(tmp_path / "good.mp4")
    bad = {
        "audio.mp4": (audio_only(), "no video stream"),
        "empty.mp4": (b"", "empty"),
        "text.avi": (b"this is not a video\n" * 9, "does not decode"),
        "truncated.mp4": (whole[: len(whole) // 2], "does not decode"),
    }
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    videos = open_videos(tmp_path, split="unlabelled", labelled=False)
    assert list(videos.keys) == ["good.mp4"]
    assert [d.path for d in videos.dropped] == [str(tmp_path / name) for name in bad]
    for dropped, (name, (_, reason)) in zip(videos.dropped, bad.items(), strict=True):
        assert name in dropped.reason
        assert reason in dropped.reason
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(DataError, match="none of 4 videos decodes, first: audio.mp4") as caught:
        open_videos(tmp_path, split="unlabelled", labelled=False)
    assert caught.value.exit_code == 3


def test_files_that_were_named_are_not_said_to_lie_in_a_folder(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    with pytest.raises(DataError, match=r"^a.mp4: does not decode \(.*\)\.$"):
        open_files([tmp_path / "a.mp4"])
    with pytest.raises(DataError, match=r"^none of 2 videos decodes, first: a.mp4: "):
        open_files([tmp_path])


def test_no_folder_no_videos_no_commands(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        open_videos(tmp_path / "gone", labelled=False)
    with pytest.raises(DataError, match="no videos"):
        open_videos(tmp_path, labelled=False)
    for address in (f"pipe:touch {tmp_path}/canary", "ftp://localhost/x.tar", "file:///tmp"):
        with pytest.raises(DataError):
            open_videos(address, labelled=False)
    assert not (tmp_path / "canary").exists()


def test_the_digest_sees_names_labels_and_sizes(tmp_path):
    first = write_numbered(tmp_path / "a" / "1.mp4")
    write_numbered(tmp_path / "b" / "1.mp4")
    before = open_videos(tmp_path, labelled=True).digest
    assert open_videos(tmp_path, labelled=True).digest == before
    first.rename(tmp_path / "a" / "2.mp4")
    renamed = open_videos(tmp_path, labelled=True).digest
    assert renamed != before
    write_numbered(tmp_path / "a" / "2.mp4", 50)
    assert open_videos(tmp_path, labelled=True).digest not in (before, renamed)


def test_files_one_by_one(tmp_path, monkeypatch):
    write_numbered(tmp_path / "one.mp4")
    write_numbered(tmp_path / "more" / "two.mp4")
    monkeypatch.chdir(tmp_path)
    videos = open_files(["one.mp4", "more", "more/two.mp4"])
    assert list(videos.keys) == ["one.mp4", "more/two.mp4"]
    with pytest.raises(UsageError, match="three.mp4 does not exist .did you mean"):
        open_files(["three.mp4"])


def test_real_clips(clips_folder):
    videos = open_videos(clips_folder, split="unlabelled", labelled=False)
    assert len(videos) >= 9
    assert not videos.dropped


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_no_shard_and_no_video(kind, tmp_path):
    for name in ("a.tar", "a.mp4"):
        place_endless(tmp_path / name, kind)
    with pytest.raises(DataError, match="no videos"):
        open_videos(tmp_path)
    with pytest.raises(DataError, match="no videos"):
        list(check_videos(tmp_path, workers=1, limits=Limits()))
    with pytest.raises(UsageError, match=r"a\.tar is a device or a pipe"):
        open_videos(tmp_path / "a.tar")
    with pytest.raises(UsageError, match=r"a\.mp4 is a device or a pipe"):
        open_files([tmp_path / "a.mp4"])
    with pytest.raises(UsageError, match=r"a\.mp4 is a device or a pipe"):
        list(check_videos(tmp_path / "a.mp4", workers=1, limits=Limits()))


def test_shards_beside_a_pipe_are_read(digits_folder, tmp_path):
    shard = next((digits_folder / "shards").glob("*val*.tar"))
    (tmp_path / shard.name).write_bytes(shard.read_bytes())
    place_endless(tmp_path / "a.tar", "pipe")
    assert len(open_videos(tmp_path, split="val")) == PARTS["val"]
