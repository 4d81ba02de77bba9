"""Every layout as a miniature, packed into shards and read back; what each says of wrong lists."""

import io
import json

import av
import numpy as np
import pytest
from media import numbers
from miniatures import (
    activitynet,
    hmdb51,
    kinetics,
    note,
    something_v1,
    something_v2,
    sports1m,
    ucf101,
    video,
)
from rich.console import Console

from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request, keep_classes
from transfer3d.data.decode import Video
from transfer3d.data.isolated import Limits
from transfer3d.data.sharding import ShardConfig, claim_folder, plan_shards, publish, write_planned
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, UsageError
from transfer3d.progress import progress


def pack(listing, out, **options):
    plan = plan_shards(listing, ShardConfig(name="mini", **options))
    claim_folder(out, plan)
    with progress("", 1, console=Console(quiet=True), quiet=True) as meter:
        write_planned(out, plan, meter, workers=1, limits=Limits())
    publish(out, plan, source="mini")
    return out


def facts(folder):
    """Returns the facts of every sample, by its name in the list, with split and frame numbers."""
    found = {}
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        data = (folder / shard["file"]).read_bytes()
        for sample in shard["samples"]:
            offset, size, _ = sample["members"]["json"]
            said = json.loads(data[offset : offset + size])
            suffix = next(s for s in sample["members"] if s not in ("json", "cls"))
            offset, size, _ = sample["members"][suffix]
            found[said["name"]] = {
                **said, "split": shard["split"], "suffix": suffix, "bytes": data[offset : offset + size]
            }  # fmt: skip
    return found


def shown(content):
    with Video(content) as opened:
        return numbers(opened.read(np.arange(opened.frames)))


def by_name(listing):
    return {entry.name: entry for entry in listing.entries}


@pytest.mark.parametrize(("fold", "group"), [(1, 1), (2, 2), (3, 1)])
def test_ucf101(tmp_path, fold, group):
    root = ucf101(tmp_path / "ucf")
    layout, listing = read_listing(Request(root, fold=fold))
    assert (layout, listing.classes) == ("ucf101", ("Basketball", "HandstandPushups"))
    assert not listing.missing
    assert not listing.extra
    for entry in listing.entries:
        train = f"_g0{group}_" in entry.name
        assert entry.split == ("train" if train else "test")
        assert listing.classes[entry.label] == entry.name.split("/")[0]
        assert entry.path.parent.name == entry.name.split("/")[0]
        assert entry.path.stem.casefold() == entry.name.split("/")[1][:-4].casefold()
    # Clips of one group are cut from one original: they are not a mismatched pair.
    assert len({entry.source for entry in listing.entries}) == 4


def test_ucf101_packed(tmp_path):
    root = ucf101(tmp_path / "ucf")
    gone = root / "UCF-101" / "Basketball" / "v_Basketball_g01_c02.avi"
    gone.rename(gone.with_name("v_Basketball_g01_c09.avi"))
    _, listing = read_listing(Request(root / "UCF-101", root / "ucfTrainTestlist"))
    assert [entry.name for entry in listing.missing] == ["Basketball/v_Basketball_g01_c02.avi"]
    assert [path.name for path in listing.extra] == ["v_Basketball_g01_c09.avi"]
    out = pack(listing, tmp_path / "out")
    train, test = (open_videos(out, split=split, labelled=True) for split in ("train", "test"))
    assert (len(train), len(test)) == (3, 4)
    assert sorted(test.labels) == [0, 0, 1, 1]
    for name, sample in facts(out).items():
        # Originals, byte for byte.
        place = next(e.path for e in listing.entries if e.name == name)
        assert sample["bytes"] == place.read_bytes()
        assert sample["suffix"] == "avi"
    index = json.loads((out / "index.json").read_text())
    assert index["official"] == {"train": 4, "test": 4}
    assert index["dropped"] == [["Basketball/v_Basketball_g01_c02.avi", "listed, but not there"]]


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("trainlist01.txt", "Basketball/v_Basketball_g01_c01.avi 2", "Basketball is class 1"),
        ("testlist01.txt", "Tennis/v_Tennis_g01_c01.avi", "'Tennis' is not a class"),
        ("classInd.txt", "3 Tennis", "is not '1 <class>'"),
    ],
)
def test_wrong_lists_of_ucf101(tmp_path, file, line, said):
    root = ucf101(tmp_path)
    note(root / "ucfTrainTestlist" / file, line)
    with pytest.raises(DataError, match=f"{file}, line 1: .*{said}"):
        read_listing(Request(root))
    with pytest.raises(UsageError, match="--fold 4: UCF101 has 1, 2 and 3"):
        read_listing(Request(root, fold=4))


@pytest.mark.parametrize(("fold", "train", "test"), [(1, 2, 1), (2, 2, 1)])
def test_hmdb51(tmp_path, fold, train, test):
    root = hmdb51(tmp_path)
    layout, listing = read_listing(Request(root, fold=fold))
    assert (layout, listing.classes) == ("hmdb51", ("brush_hair", "wave"))
    assert listing.counts() == {"train": 2 * train, "test": 2 * test}
    assert not listing.missing
    assert not listing.extra  # those with a 0 are known, and unused
    for entry in listing.entries:
        assert entry.path.parent.name == listing.classes[entry.label]
        assert entry.name == f"{entry.path.parent.name}/{entry.path.name}"


def test_kinetics(tmp_path):
    layout, listing = read_listing(Request(kinetics(tmp_path)))
    assert (layout, listing.classes) == ("kinetics", ("abseiling", "riding a bike"))
    found = by_name(listing)
    assert found["-abcdefghi0_000001_000011"].label == 1
    # Names of YouTube differ in case alone.
    assert found["Abcdefghi_1_000004_000014"].path.parent.name == "riding_a_bike"
    assert found["abcdefghi_1_000004_000014"].path.parent.name == "abseiling"
    assert found["valvalvalva_000072_000082"].split == "val"
    assert (found["testtesttes_000000_000010"].split, found["testtesttes_000000_000010"].label) == (
        "test",
        None,
    )
    assert [entry.name for entry in listing.missing] == ["gonegonegon_000004_000014"]
    assert [path.name for path in listing.extra] == ["extraextrae_000000_000010.mp4"]
    some = keep_classes(listing, ["riding a bike"])
    assert [entry.label for entry in some.entries if entry.split == "train"] == [0, 0]
    assert not some.missing
    assert {entry.split for entry in some.entries} == {"train", "test"}
    with pytest.raises(UsageError, match="no class is called 'abseilin' .did you mean 'abseiling'"):
        keep_classes(listing, ["abseilin"])


def test_mini_kinetics_takes_the_ids_of_its_lists_alone(tmp_path):
    root = kinetics(tmp_path)
    (root / "annotations" / "train_ytid_list.txt").write_text("-abcdefghi0\nabcdefghi_1\nneverinlist\n")
    (root / "annotations" / "val_ytid_list.txt").write_text("valvalvalva\n")
    layout, listing = read_listing(Request(root))
    assert (layout, listing.classes) == ("kinetics", ("abseiling", "riding a bike"))
    rows = {entry.name: (entry.split, entry.label, entry.path is not None) for entry in listing.entries}
    assert rows == {
        "-abcdefghi0_000001_000011": ("train", 1, True),
        "abcdefghi_1_000004_000014": ("train", 0, True),
        "valvalvalva_000072_000082": ("val", 0, True),
        "neverinlist": ("train", None, False),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val_ytid_list.txt", "valvalvalva\n-abcdefghi0\n", "line 2: -abcdefghi0 is in train too"),
        ("my_ytid_list.txt", "valvalvalva\n", "called after its split"),
    ],
)
def test_wrong_lists_of_mini_kinetics(tmp_path, name, content, message):
    root = kinetics(tmp_path)
    (root / "annotations" / "train_ytid_list.txt").write_text("-abcdefghi0\n")
    (root / "annotations" / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_listing(Request(root))


@pytest.mark.parametrize("old_names", [True, False])
def test_something_v2(tmp_path, old_names):
    layout, listing = read_listing(Request(something_v2(tmp_path / "ss", old_names=old_names)))
    assert (layout, listing.classes) == ("something-v2", ("Holding something", "Pushing something"))
    rows = {entry.name: (entry.split, entry.label) for entry in listing.entries}
    test = None if old_names else 1
    assert rows == {"10": ("train", 0), "11": ("train", 1), "12": ("val", 1), "13": ("test", test)}
    out = pack(listing, tmp_path / "out")
    assert {sample["suffix"] for sample in facts(out).values()} == {"webm"}
    assert sorted(open_videos(out, split="train", labelled=True).labels) == [0, 1]


def test_something_v1_is_encoded_without_loss(tmp_path):
    root = something_v1(tmp_path / "ss")
    layout, listing = read_listing(Request(root))
    assert layout == "something-v1"
    rows = {entry.name: (entry.split, entry.label) for entry in listing.entries}
    assert rows == {"1": ("train", 0), "2": ("train", 1), "3": ("val", 0), "4": ("test", None)}
    packed = facts(pack(listing, tmp_path / "out"))
    assert set(packed) == set(rows)
    for name, sample in packed.items():
        assert sample["transcoded"] == "frames, H.264 without loss"
        assert (sample["frames"], sample["fps"]) == (5, 12)
        pictures = sorted((root / "20bn-something-something-v1" / name).iterdir())
        with av.open(io.BytesIO(sample["bytes"])) as container:
            for frame, path in zip(container.decode(video=0), pictures, strict=True):
                with av.open(str(path)) as picture:
                    original = next(picture.decode(video=0))
                assert np.array_equal(frame.to_ndarray(), original.to_ndarray())


def test_activitynet_is_cut_exactly(tmp_path):
    root = activitynet(tmp_path / "an")
    layout, listing = read_listing(Request(root))
    assert (layout, listing.classes) == ("activitynet", ("Archery", "Polishing shoes"))
    packed = facts(pack(listing, tmp_path / "out", allow_empty_classes=True))
    whole = shown((root / "v_-idididid00.mp4").read_bytes())
    first, second = packed["-idididid00 0.2-0.6 s"], packed["-idididid00 1-1.4 s"]
    # 25 frames a second: 0.2 s is frame 5, and the frame at the end is not in it.
    assert shown(first["bytes"]) == whole[5:15]
    assert shown(second["bytes"]) == whole[25:35]
    assert (first["label"], second["label"], first["source"]) == (1, 0, "-idididid00")
    assert packed["idididid_01 0-0.4 s"]["split"] == "val"
    test = packed["idididid_02"]
    assert (test["split"], test["label"]) == ("test", None)
    assert test["bytes"] == (root / "v_idididid_02.mp4").read_bytes()


def test_activitynets_videos_whole_with_all_their_classes(tmp_path):
    root = activitynet(tmp_path / "an")
    layout, listing = read_listing(Request(root), "activitynet-videos")
    assert (layout, listing.classes) == ("activitynet-videos", ("Archery", "Polishing shoes"))
    rows = {entry.name: (entry.split, entry.labels, entry.cut) for entry in listing.entries}
    assert rows == {
        "-idididid00": ("train", (1, 0), None),
        "idididid_01": ("val", (0,), None),
        "idididid_02": ("test", (), None),
    }
    packed = facts(pack(listing, tmp_path / "out", allow_empty_classes=True))
    assert packed["-idididid00"]["bytes"] == (root / "v_-idididid00.mp4").read_bytes()
    assert packed["-idididid00"]["labels"] == [1, 0]


def test_sports1m_gives_five_cuts_of_five_seconds(tmp_path):
    root = sports1m(tmp_path / "s1m")
    layout, listing = read_listing(Request(root))
    assert (layout, listing.counts()) == ("sports1m", {"train": 15, "test": 1})
    assert read_listing(Request(root))[1] == listing
    packed = facts(pack(listing, tmp_path / "out"))
    whole = shown((root / "-a_b_c_d_e0.mp4").read_bytes())
    starts = set()
    for index in range(5):
        cut = packed[f"-a_b_c_d_e0 cut {index}"]
        assert (cut["label"], cut["labels"]) == (2, [2, 0])
        start = whole.index(shown(cut["bytes"])[0])
        assert shown(cut["bytes"]) == whole[start : start + 20]  # five seconds of four frames
        starts.add(start)
        # A video shorter than five seconds is taken whole.
        assert packed[f"abcdefghi01 cut {index}"]["frames"] == 12
    assert len(starts) > 1
    assert packed["testtest_99"]["bytes"] == (root / "testtest_99.mp4").read_bytes()


@pytest.mark.parametrize(
    ("lines", "classes"),
    [
        (["path,label", "a b.mp4,walk the dog", '"c,d.mp4",run'], ("run", "walk the dog")),
        (["a b.mp4,walk the dog", '"c,d.mp4",run'], ("run", "walk the dog")),
        (["a b.mp4,1", '"c,d.mp4",0'], ("0", "1")),
        (["a b.mp4 1", "c,d.mp4 0"], ("0", "1")),
        (["video_path,label", "a b.mp4,walk the dog", '"c,d.mp4",run'], ("run", "walk the dog")),
        (["Filename,Class", "a b.mp4,walk the dog", '"c,d.mp4",run'], ("run", "walk the dog")),
        (["clips,verb", "a b.mp4,walk the dog", '"c,d.mp4",run'], ("run", "walk the dog")),
        (["id,action,fps,file", "7,walk the dog,25,a b.mp4", '8,run,30,"c,d.mp4"'], ("run", "walk the dog")),
    ],
)
def test_lists_of_paths(tmp_path, lines, classes):
    video(tmp_path / "a b.mp4")
    video(tmp_path / "c,d.mp4")
    layout, listing = read_listing(Request(note(tmp_path / "list.csv", *lines)))
    assert (layout, listing.classes) == ("csv", classes)
    assert {e.name: e.label for e in listing.entries} == {"a b.mp4": 1, "c,d.mp4": 0}
    assert not listing.missing


def test_a_first_line_without_a_suffix_may_be_a_folder_of_frames(tmp_path):
    for name in ("v1", "v2"):
        note(tmp_path / name / "1.jpg")
    _, listing = read_listing(Request(note(tmp_path / "list.csv", "v1,action", "v2,run")))
    assert [entry.name for entry in listing.entries] == ["v1", "v2"]


def test_a_folder_of_lists_as_slowfast_has_it(tmp_path):
    for split in ("train", "val", "test"):
        video(tmp_path / "videos" / f"{split} 1.mp4")
        note(tmp_path / f"{split}.csv", f"videos/{split} 1.mp4 0", f"{tmp_path}/nowhere/{split}.mp4 0")
    video(tmp_path / "videos" / "other.mp4")
    layout, listing = read_listing(Request(tmp_path))
    assert (layout, listing.counts()) == ("csv", {"train": 2, "val": 2, "test": 2})
    assert len(listing.missing) == 3
    assert [path.name for path in listing.extra] == ["other.mp4"]


@pytest.mark.parametrize("label", ["-1", "-100", "1.0", "dog", "9999999999"])
def test_labels_that_are_no_class(tmp_path, label):
    video(tmp_path / "a.mp4")
    note(tmp_path / "list.csv", "path,label", "a.mp4,0", f"b.mp4,{label}")
    with pytest.raises(DataError, match=rf"list.csv, line 3: b.mp4 has label '{label}'"):
        read_listing(Request(tmp_path / "list.csv"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a.mp4,x", "a.mp4,y"], "line 2: a.mp4 is listed before, in line 1"),
        (["a.mp4,x,train", "b.mp4,y,val"], "line 2: class 'y' has no videos in train"),
        (["a.mp4,x,trian"], "line 1: 'trian' is not one of train, val, test"),
        (["a.mp4"], "line 1: 'a.mp4' is not 'path,label'"),
        (["id,verb,noun", "a.mp4,x,y"], "line 1: the header 'id,verb,noun' has no columns called path and"),
        (["file,label", "a.mp4"], "line 2: 'a.mp4' is not 'path,label'"),
    ],
)
def test_wrong_lists_of_paths(tmp_path, lines, said):
    with pytest.raises(DataError, match=said):
        read_listing(Request(note(tmp_path / "list.csv", *lines)))


@pytest.mark.parametrize(
    ("name", "first"),
    [("list.csv", "path,label"), ("train.csv", "label,youtube_id,time_start,time_end,split")],
)
def test_a_list_that_is_not_utf_8(tmp_path, name, first):
    (tmp_path / name).write_bytes(f"{first}\ncafé,cafécafécaf,1,2,train\n".encode("latin-1"))
    place = tmp_path / name if name == "list.csv" else tmp_path
    with pytest.raises(DataError, match=rf"{name}, line 2: it is not UTF-8"):
        read_listing(Request(place))


@pytest.mark.parametrize(
    "database",
    [
        [],
        {"a": []},
        {"a": {"subset": "training", "annotations": [{"label": "x", "segment": [1.0]}]}},
        {"a": {"subset": "training", "annotations": [{"label": "x", "segment": [1.0, 2.0, 3.0]}]}},
        {"a": {"subset": "training", "annotations": [{"label": "x", "segment": "12:30"}]}},
    ],
)
def test_wrong_lists_of_activitynet(tmp_path, database):
    (tmp_path / "list.json").write_text(json.dumps({"database": database}))
    with pytest.raises(DataError, match=r"list\.json: not ActivityNet's JSON"):
        read_listing(Request(tmp_path))


def test_class_folders_and_pools(tmp_path):
    for name in ("train/a/1.mp4", "train/b/1.mp4", "val/b/2.mp4", "unlabelled/3.mp4", "stray.mp4"):
        video(tmp_path / "parts" / name)
    layout, listing = read_listing(Request(tmp_path / "parts"))
    assert (layout, [path.name for path in listing.extra]) == ("folders", ["stray.mp4"])
    (tmp_path / "parts" / "stray.mp4").rename(tmp_path / "parts" / "train" / "stray.mp4")
    layout, listing = read_listing(Request(tmp_path / "parts"))
    assert (layout, listing.classes) == ("folders", ("a", "b"))
    rows = {entry.name: (entry.split, entry.label) for entry in listing.entries}
    assert rows["val/b/2.mp4"] == ("val", 1)
    assert rows["unlabelled/3.mp4"] == ("unlabelled", None)
    assert [path.name for path in listing.extra] == ["stray.mp4"]
    layout, listing = read_listing(Request(tmp_path / "parts" / "train"))
    assert (layout, len(listing.entries)) == ("pool", 3)
    with pytest.raises(UsageError, match="layout 'ucf10' .did you mean 'ucf101'"):
        read_listing(Request(tmp_path / "parts"), "ucf10")
