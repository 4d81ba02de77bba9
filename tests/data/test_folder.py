"""Which splits and classes people's folders have, by their names."""

import logging
import unicodedata

import pytest
from media import write_numbered

from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.data.folder import SUFFIXES, split_folders, videos_under
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
    ],
)
def test_other_words_for_splits(names, splits, tmp_path, caplog):
    fill(tmp_path, *(f"{name}/jump/1.mp4" for name in names))
    assert tuple(split_folders(tmp_path)) == splits
    assert ("folders beside the splits are ignored: jump, wave" in caplog.text) == ("wave" in names)


def test_a_class_may_be_called_like_a_split(tmp_path):
    fill(tmp_path, "training/1.mp4", "running/1.mp4", "Testing/1.mp4")
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
    assert len(videos_under(tmp_path)) == len(SUFFIXES) == 18
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="none of 18 videos decodes"):
        open_files([tmp_path])
    assert "4 other files are ignored: 2 .jpg, 1 .txt, 1 no suffix" in caplog.text


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
    with pytest.raises(NoSuchSplit, match="has no split 'val'. It has train"):
        open_videos(tmp_path, split="val")
