"""Which splits and classes people's folders have, by their names."""

import logging
import os
import socket
import unicodedata
from pathlib import Path

import pytest
from media import write_numbered

from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.data.folder import (
    SUFFIXES,
    existing,
    labelled_folders,
    log_other_files,
    split_folders,
    videos_under,
)
from transfer3d.data.source import open_files, open_videos
from transfer3d.errors import DataError, NoSuchSplit


def fill(root, *names):
    """Makes empty files; the names of folders and files are all that counts."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test", "unlabelled"), ("train", "val", "test", "unlabelled")),
        (("Train", "Validation", "TEST"), ("train", "val", "test")),
        (("training", "valid", "testing", "unlabeled"), ("train", "val", "test", "unlabelled")),
        (("jump", "train", "wave"), ("train",)),
        (("train_set", "valset", "Test-Set"), ("train", "val", "test")),
        (("training videos", "validation_videos", "test.clips"), ("train", "val", "test")),
        (("train", "dev", "test"), ("train", "val", "test")),
        (("tr", "va", "te"), ("train", "val", "test")),
        (("train", "testset", "wave"), ("train",)),
        (("testing_ground", "train_station"), ()),
        (("devset", "testset", "wave"), ()),
        (("training_set", "train_set"), ()),
        (("training set", "recruitment set"), ()),
    ],
)
def test_other_words_for_splits(names, splits, tmp_path, caplog):
    fill(tmp_path, *(f"{name}/jump/1.mp4" for name in names))
    assert tuple(split_folders(tmp_path)) == splits
    assert ("folders beside the splits are ignored" in caplog.text) == ("train" in splits and "wave" in names)


def test_a_class_may_be_called_like_a_split(tmp_path):
    fill(tmp_path, "training/1.mp4", "running/1.mp4", "Testing/1.mp4")
    assert split_folders(tmp_path) == {}


def test_two_letters_are_classes_unless_all_hold_the_same_folders(tmp_path):
    for name in ("tr/anna/1.mp4", "te/bela/1.mp4"):
        fill(tmp_path, name)
        assert split_folders(tmp_path) == {}
    fill(tmp_path, "te/anna/1.mp4")
    assert tuple(split_folders(tmp_path)) == ("train", "test")
    fill(tmp_path, "en/anna/1.mp4")
    assert split_folders(tmp_path) == {}


def test_two_folders_of_one_split_are_refused(tmp_path):
    fill(tmp_path, "val/a/1.mp4", "Validation/a/1.mp4")
    with pytest.raises(DataError, match="both Validation and val are the split val"):
        split_folders(tmp_path)


@pytest.mark.parametrize("inner", [("jump", "wave"), ("train", "test")])
def test_a_folder_around_the_classes_is_named(inner, tmp_path):
    fill(tmp_path, *(f"UCF-101/{name}/1.mp4" for name in inner))
    first = ", ".join(sorted(inner))
    reason = rf"has one class, UCF-101, whose folders look like classes: {first}. Give .*/UCF-101"
    with pytest.raises(DataError, match=reason):
        open_videos(tmp_path)
    with pytest.raises(DataError, match=reason):
        read_listing(Request(tmp_path))


def test_videos_by_any_usual_suffix_and_the_rest_counted(tmp_path, caplog):
    fill(tmp_path, *(f"{number}.{suffix.upper()}" for number, suffix in enumerate(SUFFIXES)))
    fill(tmp_path, "notes.txt", "a.jpg", "b.JPG", "README", ".hidden.txt", ".cache/c.bin")
    assert len(videos_under(tmp_path)) == len(SUFFIXES) == 29
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="none of 29 videos decodes"):
        open_files([tmp_path])
    assert "files that are not videos are ignored: 2 .jpg, 1 .txt, 1 no suffix" in caplog.text


@pytest.mark.parametrize(
    ("container", "suffixes"),
    [
        ("mp4", ("m4v", "qt", "f4v", "3gp", "3gpp", "3g2")),
        ("avi", ("divx",)),
        ("matroska", ("mk3d",)),
        ("vob", ("mpe", "tod")),
        ("mpegts", ("m2t", "trp")),
        ("ogg", ("ogv", "ogg")),
    ],
)
def test_other_suffixes_of_a_container_decode_in_folders(container, suffixes, tmp_path):
    codec = {"ogg": "libvpx", "vob": "mpeg2video"}.get(container, "libx264")
    for suffix in suffixes:
        write_numbered(tmp_path / f"a.{suffix}", 4, container=container, codec=codec)
    videos = open_videos(tmp_path, labelled=False)
    assert videos.keys == sorted(f"a.{suffix}" for suffix in suffixes)
    assert not videos.dropped


def test_pipes_sockets_and_devices_are_counted(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("a.mp4")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("b.mp4")
    os.symlink(os.devnull, "c.mp4")
    fill(tmp_path, "d.mp4")
    assert videos_under(tmp_path) == [tmp_path / "d.mp4"]
    log_other_files(tmp_path)
    assert "files that are not videos are ignored: 3 pipes, sockets or devices" in caplog.text


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_either_unicode_form(forms, tmp_path):
    train, val = (unicodedata.normalize(form, "caf\u00e9") for form in forms)
    for folder in ("train/jump", f"train/{train}", "val/jump", f"val/{val}"):
        write_numbered(tmp_path / folder / "1.mp4", 4)
    videos = open_videos(tmp_path, split="val")
    assert (list(videos.classes), videos.labels) == (["caf\u00e9", "jump"], [0, 1])
    _, listing = read_listing(Request(tmp_path))
    assert [entry.label for entry in listing.entries] == [0, 1, 0, 1]
    typed = tmp_path / "train" / val / "1.mp4"
    assert len(open_files([typed])) == 1


def test_lists_in_either_unicode_form(tmp_path):
    composed, name = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    fill(tmp_path, f"{name}.mp4", "b.mp4")
    (tmp_path / "Validation.csv").write_text(f"{composed}.mp4,a\nb.mp4,{name}\n", encoding="utf-8")
    _, listing = read_listing(Request(tmp_path))
    assert [(entry.split, entry.path) for entry in listing.entries] == [
        ("val", tmp_path / f"{name}.mp4"), ("val", tmp_path / "b.mp4")
    ]  # fmt: skip
    assert listing.classes == ("a", composed)


def test_two_folders_of_one_name_are_refused(tmp_path):
    fill(tmp_path, *(unicodedata.normalize(form, "caf\u00e9/1.mp4") for form in ("NFC", "NFD")))
    with pytest.raises(DataError, match="in two Unicode forms"):
        open_videos(tmp_path)


def test_a_split_that_is_not_there(tmp_path):
    fill(tmp_path, "Train/a/1.mp4")
    with pytest.raises(NoSuchSplit, match="has no split 'val'. It has train: choose with --split"):
        open_videos(tmp_path, split="val")
    remedy = rf"no split 'test', .*Put its videos into {tmp_path / 'Train' / 'test'} and the others"
    with pytest.raises(NoSuchSplit, match=remedy):
        open_videos(tmp_path / "Train", split="test")


def test_videos_behind_links_are_found_once_and_circles_end(tmp_path, caplog):
    fill(tmp_path / "elsewhere", "1.mp4", "2.mp4")
    root = fill(tmp_path / "videos", "0.mp4")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "back").symlink_to(root)
    (root / "gone.mp4").symlink_to(tmp_path / "nowhere")
    assert [path.relative_to(root).as_posix() for path in videos_under(root)] == [
        "0.mp4",
        "more/1.mp4",
        "more/2.mp4",
    ]
    log_other_files(root)
    assert "1 links to nothing" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, which only root can")
def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path):
    fill(tmp_path, "open/1.mp4", "closed/2.mp4")
    (tmp_path / "closed").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match="closed"):
            videos_under(tmp_path)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [b"\xff.mp4", b"\xff/1.mp4"])
def test_names_that_are_not_utf8_are_refused(name, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").close()
    with pytest.raises(DataError, match="is not UTF-8. Rename it"):
        videos_under(tmp_path)
    if b"/" in name:
        with pytest.raises(DataError, match="is not UTF-8. Rename it"):
            labelled_folders(tmp_path)


@pytest.mark.parametrize(
    ("names", "are_splits"),
    [
        (("train_256", "val_256"), True),
        (("videos-train", "videos-test"), True),
        (("trainset", "other"), True),
        (("fold1", "fold2"), False),
        (("jump", "wave"), False),
    ],
)
def test_folders_that_hold_the_same_folders_are_splits_or_said(names, are_splits, tmp_path, caplog):
    fill(tmp_path, *(f"{name}/{inner}/1.mp4" for name in names for inner in ("a", "b")))
    if are_splits:
        with pytest.raises(DataError, match="hold the same folders .a, b., so they are not classes"):
            labelled_folders(tmp_path)
    else:
        assert list(labelled_folders(tmp_path)) == list(names)
        assert "are they parts?" in caplog.text


def test_splits_within_classes_are_refused(tmp_path):
    fill(tmp_path, *(f"{name}/{part}/1.mp4" for name in ("jump", "wave") for part in ("Test", "training")))
    with pytest.raises(DataError, match=r"jump holds splits: Test, training. Put them around .*Test/jump\."):
        open_videos(tmp_path, labelled=True)
    with pytest.raises(DataError, match="jump holds splits"):
        read_listing(Request(tmp_path))
    fill(tmp_path / "other", "jump/train/1.mp4", "wave/2.mp4")
    assert list(labelled_folders(tmp_path / "other")) == ["jump", "wave"]


def test_classes_that_differ_in_case_are_said(tmp_path, caplog):
    fill(tmp_path, "Jump/1.mp4", "jump/2.mp4", "wave/3.mp4")
    assert list(labelled_folders(tmp_path)) == ["Jump", "jump", "wave"]
    assert "the classes Jump and jump have similar names: are they one?" in caplog.text


def test_videos_beside_class_folders_are_said(tmp_path, caplog):
    for name in ("train/jump/1", "train/wave/2", "val/3", "intro", "train/intro"):
        write_numbered(tmp_path / f"{name}.mp4", 4)
    assert len(open_videos(tmp_path, labelled=True)) == 2
    assert (
        f"{tmp_path / 'train'}: 1 videos beside the class folders are ignored, first intro.mp4" in caplog.text
    )
    with pytest.raises(DataError, match="val: its videos are not in class folders"):
        open_videos(tmp_path, split="val", labelled=True)
    layout, listing = read_listing(Request(tmp_path))
    assert (layout, listing.counts(), listing.classes) == ("folders", {"train": 2}, ("jump", "wave"))
    assert [path.relative_to(tmp_path).as_posix() for path in listing.extra] == [
        "intro.mp4",
        "train/intro.mp4",
        "val/3.mp4",
    ]


def test_a_path_that_is_longer_than_any_is_nowhere():
    assert existing(Path("x" * 5000)) is None
    assert existing(Path("a\0b")) is None
