"""A share of a dataset."""

import pytest

from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of


def test_a_share_is_of_every_class_alike_and_the_seed_decides_which(digits_folder):
    whole = open_videos(digits_folder / "shards", split="train", labelled=True)
    half, again, other = (share_of(whole, 0.5, seed=seed) for seed in (0, 0, 1))
    assert len(half) == len(whole) // 2
    assert {half.labels.count(label) for label in set(whole.labels)} == {
        whole.labels.count(whole.labels[0]) // 2
    }
    assert (half.keys, half.digest) == (again.keys, again.digest)
    assert half.keys != other.keys
    assert half.digest not in (other.digest, whole.digest)
    assert set(half.keys) < set(whole.keys)
    assert share_of(whole, 1, seed=0) is whole
    for index, key in enumerate(half.keys[:3]):
        place = list(whole.keys).index(key)
        assert half.labels[index] == whole.labels[place]
        assert half.open(index) is not None
    assert len(share_of(whole, 0.001, seed=0)) == len(whole.classes)


def test_a_share_of_unlabelled_videos_is_a_share(digits_folder):
    whole = open_videos(digits_folder / "shards", split=None, labelled=False)
    assert len(share_of(whole, 0.25, seed=3)) == pytest.approx(len(whole) / 4, abs=1)
