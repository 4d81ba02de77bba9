"""Videos from a list, from a class of one's own, and single clips for a loop of one's own."""

import shutil
from collections import Counter
from itertools import pairwise

import pytest
import torch
from media import write_numbered
from torch.utils.data import DataLoader

import transfer3d
from transfer3d.data import VideoDataset, VideoList, VideoSet, clip_of_file, collate_clips, open_videos
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.pipeline import clip_batches
from transfer3d.errors import DataError, UsageError
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=4, stride=2, size=16, crop=20)


@pytest.fixture
def files(tmp_path):
    return [write_numbered(tmp_path / f"{name}.mp4", 20) for name in "abcd"]


def test_a_list_by_names_by_numbers_and_without_labels(files):
    named = VideoList(files, labels=["run", "jump", "run", None], groups=["x", "x", "y", "z"])
    assert (named.classes, named.labels) == (["jump", "run"], [1, 0, 1, None])
    assert named.label_sets == [(1,), (0,), (1,), ()]
    assert (named.sources, named.keys) == (["x", "x", "y", "z"], [file.as_posix() for file in files])
    assert VideoList(files, labels=["b", "a", "b", "b"], classes=["b", "a", "c"]).labels == [0, 1, 0, 0]
    numbered = VideoList(files, labels=torch.tensor([0, 2, 1, 0]))
    assert (numbered.classes, numbered.labels) == (["0", "1", "2"], [0, 2, 1, 0])
    bare = VideoList(files)
    assert (bare.labels, bare.classes, bare.sources) == ([None] * 4, [], bare.keys)
    assert len({named.digest, numbered.digest, bare.digest}) == 3


def test_a_list_that_is_wrong_is_refused_in_a_sentence(files, tmp_path):
    for options, message in (
        ({"labels": ["a"]}, "1 labels for 4 files"),
        ({"groups": ["a"]}, "1 groups for 4 files"),
        ({"labels": ["runn"] * 4, "classes": ["run"]}, "label 'runn' .*did you mean 'run'"),
        ({"labels": [0, 1, 2, 3], "classes": ["a", "b"]}, "label 2 is outside the 2 classes"),
    ):
        with pytest.raises(UsageError, match=message):
            VideoList(files, **options)
    with pytest.raises(UsageError, match=r"a\.mp4 is listed twice"):
        VideoList([*files, files[0]])
    with pytest.raises(UsageError, match=r"aa\.mp4 does not exist .did you mean 'a\.mp4'"):
        VideoList([tmp_path / "aa.mp4"])
    with pytest.raises(DataError, match="no videos"):
        VideoList([])


def test_bad_files_of_a_list_are_named_and_left_out(files):
    files[1].write_bytes(b"nothing")
    videos = VideoList(files, labels=[0, 1, 2, 3], groups=list("wxyz"))
    assert ([d.path for d in videos.dropped], videos.labels) == ([str(files[1])], [0, 2, 3])
    assert (videos.sources, videos.open(1)) == (["w", "y", "z"], files[2])


def test_keys_and_open_are_enough_for_a_set_of_ones_own(files):
    class Mine(VideoSet):
        def __init__(self):
            self.keys = ["one", "two", "three", "four"]

        def open(self, index):
            return files[index]

    videos = Mine()
    assert (len(videos), videos.labels, videos.label_sets) == (4, [None] * 4, [()] * 4)
    assert (videos.sources, videos.official, videos.dropped) == (videos.keys, None, ())
    (batch,) = clip_batches(videos, CLIP, batch_size=4, steps=1, seed=0, augment=AugmentConfig())
    assert sorted(batch.keys) == sorted(videos.keys)
    before = videos.digest
    other = Mine()
    other.labels = [0, 1, 0, 1]
    assert Mine().digest == before != other.digest
    with pytest.raises(TypeError, match="abstract"):
        VideoSet()


@pytest.mark.parametrize("where", ["shards", "videos"])
def test_labels_where_the_data_has_them(digits_folder, where):
    train = transfer3d.open_videos(digits_folder / where, split="train")
    assert (None not in train.labels, len(train.classes)) == (True, 40)
    assert train.digest == open_videos(digits_folder / where, split="train", labelled=True).digest
    assert set(transfer3d.open_videos(digits_folder / where, split="unlabelled").labels) == {None}


def test_flat_folders_and_pools_have_no_labels(digits_folder, tmp_path):
    assert set(open_videos(digits_folder / "videos" / "unlabelled").labels) == {None}
    shutil.copytree(digits_folder / "videos" / "unlabelled", tmp_path / "pool" / "unlabelled")
    assert set(open_videos(tmp_path / "pool", split="unlabelled").labels) == {None}


def test_the_clip_of_an_item_is_that_of_its_file(files):
    dataset = VideoDataset(VideoList(files, labels=list("abca")), CLIP)
    assert len(dataset) == 4
    for index, file in enumerate(files):
        assert torch.equal(dataset[index].clip, clip_of_file(file, CLIP))
    batch = next(iter(DataLoader(dataset, batch_size=4, collate_fn=collate_clips)))
    assert (batch.labels.tolist(), batch.keys) == ([0, 1, 2, 0], dataset.videos.keys)
    assert batch.clips.shape == CLIP.shape(4)
    assert len(list(dataset)) == 4


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.proc)])
def test_training_clips_differ_by_epoch_and_by_worker(tmp_path, workers):
    """One video under many keys: any two equal clips would be repeated randomness."""
    file = write_numbered(tmp_path / "0.mp4", 200)
    for number in range(1, 8):
        shutil.copy(file, tmp_path / f"{number}.mp4")
    long = ClipSpec(frames=1, size=16, crop=16)
    dataset = VideoDataset(tmp_path, long, training=True, augment=AugmentConfig(scale=(1, 1), colour=1.0))
    loader = DataLoader(dataset, batch_size=2, shuffle=True, collate_fn=collate_clips, num_workers=workers)

    def epochs():
        torch.manual_seed(0)
        return [list(loader) for _ in range(2)]

    every = epochs()
    clips = [clip.numpy().tobytes() for epoch in every for batch in epoch for clip in batch.clips]
    assert len(clips) == 16
    assert max(Counter(clips).values()) == 1
    first, second = ([key for batch in epoch for key in batch.keys] for epoch in every)
    assert sorted(first) == sorted(second) == sorted(dataset.videos.keys)
    again = [clip.numpy().tobytes() for epoch in epochs() for batch in epoch for clip in batch.clips]
    assert again == clips


def test_a_second_view_for_a_teacher(files):
    dataset = VideoDataset(VideoList(files), CLIP, training=True, teacher_view="centre")
    batch = collate_clips([dataset[0], dataset[1]])
    assert batch.teacher_clips.shape == batch.clips.shape
    assert all(a.split()[0] != b.split()[0] for a, b in pairwise(batch.teacher_view_keys))
