"""Videos of several classes: every list of them, shards, batches, balance, and what a mirror exchanges."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from miniatures import activitynet, charades, note, video

from transfer3d.data.augment import AugmentConfig
from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request, keep_classes
from transfer3d.data.epoch_sampler import BalancedEpochSampler
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.source import open_videos
from transfer3d.data.video_list import VideoList
from transfer3d.errors import DataError
from transfer3d.layout import ClipSpec

CLIP = ClipSpec(frames=2, size=16, crop=16)


def listed(root, layout="auto"):
    found, listing = read_listing(Request(root), layout)
    rows = {entry.name: (entry.split, entry.label, entry.labels) for entry in listing.entries}
    return found, listing, rows


@pytest.mark.parametrize(
    ("lines", "classes", "labels"),
    [
        (["path,labels", "a.mp4,run;jump", "b.mp4,run", "c.mp4,jump | sit"], ("jump", "run", "sit"),
         [(1, 0), (1,), (0, 2)]),
        (["a.mp4,2;0", "b.mp4,1", '"c.mp4","0, 1"'], ("0", "1", "2"), [(2, 0), (1,), (0, 1)]),
        (["a.mp4 2,0", "b.mp4 1", "c.mp4 0,1,2"], ("0", "1", "2"), [(2, 0), (1,), (0, 1, 2)]),
        (["a.mp4,Turning it; upside down", "b.mp4,run", "c.mp4,Turning it; upside down"],
         ("Turning it; upside down", "run"), [(0,), (1,), (0,)]),
        (['a.mp4,"run, then jump"', "b.mp4,run", "c.mp4,run"], ("run", "run, then jump"), [(1,), (0,), (0,)]),
    ],
    ids=["names", "numbers", "slowfast", "a semicolon in a name", "a comma in a name"],
)  # fmt: skip
def test_a_list_of_paths(tmp_path, lines, classes, labels):
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    layout, listing, rows = listed(note(tmp_path / "list.csv", *lines))
    assert (layout, listing.classes) == ("csv", classes)
    assert [own or (label,) for _, label, own in rows.values()] == labels
    assert all(label == (own or (label,))[0] for _, label, own in rows.values())


@pytest.mark.parametrize("cell", ["run;;jump", "run;run", ";run"])
def test_a_label_that_is_empty_or_there_twice(tmp_path, cell):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="line 1: .* a label is empty or listed twice"):
        read_listing(Request(note(tmp_path / "list.csv", f"a.mp4,{cell}", "b.mp4,run")))


def test_charades(tmp_path):
    layout, listing, rows = listed(charades(tmp_path))
    assert layout == "charades"
    assert listing.classes == ("Holding some clothes", "Opening a door", "Sneezing")
    assert rows == {
        "AAAA1": ("train", 2, (2, 0)),
        "AAAA2": ("train", 1, ()),
        "AAAA3": ("unlabelled", None, ()),
        "GONE1": ("train", 1, ()),
        "BBBB1": ("test", 0, (0, 1)),
    }
    assert [entry.name for entry in listing.missing] == ["GONE1"]
    kept = {entry.name: entry.labels for entry in keep_classes(listing, listing.classes[:2]).entries}
    assert kept["AAAA1"] == (0,)
    note(tmp_path / "Charades_v1_train.csv", "id,actions", "AAAA1,c009 0 1")
    with pytest.raises(DataError, match=r"Charades_v1_train\.csv, line 2: action 'c009'"):
        read_listing(Request(tmp_path))


def test_a_segment_of_activitynet_that_is_listed_for_two_classes(tmp_path):
    root = activitynet(tmp_path)
    file = next(root.glob("*.json"))
    content = json.loads(file.read_text())
    notes = content["database"]["-idididid00"]["annotations"]
    notes.append({**notes[0], "label": "Archery"})
    file.write_text(json.dumps(content))
    _, listing, rows = listed(root)
    names = {listing.classes[label] for label in rows["-idididid00 0.2-0.6 s"][2]}
    assert names == {"Archery", "Polishing shoes"}
    assert rows["-idididid00 1-1.4 s"][2] == ()


@pytest.mark.parametrize(
    ("members", "labels"),
    [
        ({"json": b'{"labels": [2, 0]}'}, (2, 0)),
        ({"cls": b"2", "json": b'{"labels": [0, 2]}'}, (2, 0)),
        ({"cls": b"2,0"}, (2, 0)),
        ({"json": b'{"label": [2, 0]}'}, (2, 0)),
        ({"cls": b"2", "json": b'{"labels": ["a caption"]}'}, (2,)),
    ],
    ids=["labels", "cls and labels", "cls", "label", "labels of something else"],
)
def test_shards_of_others(tmp_path, members, labels):
    content = video(tmp_path / "x.mp4").read_bytes()
    with tarfile.open(tmp_path / "a-000.tar", "w") as tar:
        for name, data in {"x.mp4": content, **{f"x.{s}": d for s, d in members.items()}}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    (tmp_path / "x.mp4").unlink()
    videos = open_videos(tmp_path, labelled=True)
    assert (videos.label_sets, videos.labels) == ([labels], [2])


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    labels = [("left", "tall"), ("right",), ("tall",), ("left", "right", "tall")]
    return VideoList([video(root / f"{i}.mp4") for i in range(4)], labels)


def batches(videos, **options):
    settings = {"batch_size": 4, "steps": 2, "seed": 3, "augment": AugmentConfig(), "multi_label": True}
    return list(clip_batches(videos, CLIP, **settings | options))


def test_batches_have_all_classes(videos):
    assert videos.classes == ["left", "right", "tall"]
    assert videos.multi_label
    assert videos.labels == [0, 1, 2, 0]
    for batch in batches(videos):
        rows = [videos.label_sets[videos.keys.index(key)] for key in batch.keys]
        assert batch.targets.tolist() == [[float(k in row) for k in range(3)] for row in rows]
    first = batches(videos, multi_label=False)
    assert all(batch.targets is None for batch in first)
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(first, batches(videos), strict=True))


def test_a_mirror_exchanges_classes(videos):
    """A clip that is mirrored is of the mirrored classes, all of them; the first label too."""
    augment = AugmentConfig(flip_pairs=[("left", "right")])
    seen = set()
    for batch in batches(videos, augment=augment, steps=10):
        for key, row, label in zip(batch.keys, batch.targets.tolist(), batch.labels.tolist(), strict=True):
            seen.add((videos.keys.index(key), tuple(row), label))
    assert {row[1:] for row in seen if row[0] == 0} == {((1, 0, 1), 0), ((0, 1, 1), 1)}
    assert {row[1] for row in seen if row[0] == 3} == {(1, 1, 1)}


def test_mixed_clips_have_shares_of_all_their_classes(videos):
    """MixUp (Zhang et al., arXiv:1710.09412): a share of each clip's classes, the rest of its neighbour's."""
    plain, mixed = batches(videos), batches(videos, augment=AugmentConfig(mixup=1.0))
    for before, after in zip(plain, mixed, strict=True):
        own, other = before.targets.numpy(), np.roll(before.targets.numpy(), 1, 0)
        differs = own != other
        share = (after.targets.numpy() - other)[differs] / (own - other)[differs]
        assert np.allclose(share, share[0], atol=1e-5)
        assert 0 <= share[0] <= 1


def test_balanced_epochs_draw_each_class_equally_often():
    label_sets = [(0,)] * 9 + [(0, 1)] * 2 + [(2,)]
    order = BalancedEpochSampler(5, label_sets)
    drawn = [label_sets[order.draw(position).video] for position in range(1200)]
    assert drawn.count((2,)) == 400
    assert 400 <= sum(1 in labels for labels in drawn) < 550  # 400 for class 1, 2 of 11 for class 0
