"""A share of a dataset."""

import pytest

from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of, split_off
from transfer3d.data.videoset import VideoSet


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


class Groups(VideoSet):
    """Three classes: of ten groups of three videos, of two groups, of one."""

    labels = (0,) * 30 + (1,) * 8 + (2,) * 2
    sources = (*(f"a{n // 3}" for n in range(30)), *["b0"] * 3, *["b1"] * 5, *["c0"] * 2)
    keys = tuple(str(n) for n in range(40))
    label_sets = tuple((label,) for label in labels)
    classes, digest = ("a", "b", "c"), "0"

    def open(self, index):
        raise NotImplementedError


def test_what_is_held_out_is_a_share_of_every_class_by_whole_sources():
    rest, held = split_off(Groups(), 0.2, seed=0)
    assert sorted([*rest.keys, *held.keys], key=int) == list(Groups.keys)
    assert not set(rest.sources) & set(held.sources)
    assert held.labels.count(0) == 6
    assert held.labels.count(1) in (3, 5)  # one of its two groups
    assert held.labels.count(2) == 0  # there is but one
    again, other = (split_off(Groups(), 0.2, seed=seed)[1] for seed in (0, 1))
    assert again.keys == held.keys != other.keys


class Shared(Groups):
    """Three classes, of which the first two share all sources but one, as segments of long videos do."""

    labels = tuple(n % 2 for n in range(20)) + (1,) * 2 + (2,) * 4
    sources = (*(f"v{n // 2}" for n in range(20)), "b", "b", *(f"v{n}" for n in (0, 1)), "c", "c")
    keys = tuple(str(n) for n in range(26))
    label_sets = tuple((label,) for label in labels)


@pytest.mark.parametrize("seed", range(8))
def test_a_source_of_several_classes_is_in_one_part(seed):
    rest, held = split_off(Shared(), 0.3, seed=seed)
    assert sorted([*rest.keys, *held.keys], key=int) == list(Shared.keys)
    assert not set(rest.sources) & set(held.sources)
    assert set(rest.labels) == {0, 1, 2}
    assert held.labels.count(0) >= 3
    assert held.labels.count(1) >= 3
