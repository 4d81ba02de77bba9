"""The README beside shards: Hugging Face `datasets` finds splits, columns, videos and class names by it."""

import hashlib
import json

import pytest
import yaml

from transfer3d.data.shard_writer import Sample, write_index, write_shards
from transfer3d.data.source import open_videos

CLASSES = ("yes", "1", "jump: high", "- 'ü' # \"é\"", "null")
COUNTS = {"train": 10, "val": 5, "unlabelled": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards"))


def write(folder, **changes):
    shards = []
    for split, count in COUNTS.items():
        samples = [
            Sample(
                key=f"{split}-{i:06d}",
                video=f"video {split} {i}".encode(),
                suffix=("mp4", "avi")[i % 2],
                label=None if split == "unlabelled" else i % len(CLASSES),
                source=f"from {i}",
                frames=10 + i,
                info={} if i % 3 else {"rate": "25"},
                **changes,
            )
            for i in range(count)
        ]
        shards += write_shards(folder, "my-set", split, samples, per_shard=4)
    write_index(folder, "my-set", shards, classes=CLASSES, source="made up")
    return folder


def front_matter(folder):
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert text.startswith("\n# my-set\n")
    return yaml.safe_load(front)


def test_the_front_matter_names_splits_files_columns_and_classes(folder):
    front = front_matter(folder)
    (config,) = front["configs"]
    files = {entry["split"]: {p.name for p in folder.glob(entry["path"])} for entry in config["data_files"]}
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert files == {split: {s["file"] for s in index["shards"] if s["split"] == split} for split in COUNTS}
    info = front["dataset_info"]
    assert info["splits"] == [{"name": split, "num_examples": count} for split, count in COUNTS.items()]
    columns = {column.pop("name"): column for column in info["features"]}
    assert columns["mp4"] == columns["avi"] == {"dtype": "video"}
    assert columns["cls"]["dtype"]["class_label"]["names"] == dict(zip("01234", CLASSES, strict=True))
    assert [column["name"] for column in columns["json"]["struct"]] == ["source", "frames"]


def test_several_labels_are_a_column_and_without_classes_there_is_none(tmp_path):
    columns = front_matter(write(tmp_path / "several", labels=(0, 2)))["dataset_info"]["features"]
    assert {"name": "labels", "list": "int64"} in next(c for c in columns if c["name"] == "json")["struct"]
    samples = [Sample("a", b"video", "mp4", None, "a", 8)]
    shards = write_shards(tmp_path / "bare", "my-set", "unlabelled", samples)
    write_index(tmp_path / "bare", "my-set", shards, classes=(), source="made up")
    names = [column["name"] for column in front_matter(tmp_path / "bare")["dataset_info"]["features"]]
    assert names == ["__key__", "mp4", "json"]


def test_a_readme_of_ones_own_takes_nothing_from_the_shards(tmp_path):
    write(tmp_path)
    before = open_videos(tmp_path, split="train", labelled=True).digest
    (tmp_path / "README.md").write_text("# Mine\n")
    videos = open_videos(tmp_path, split="train", labelled=True)
    assert (videos.digest, videos.open(3)) == (before, b"video train 3")


def test_datasets_reads_splits_videos_and_classes(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    sha256 = {
        sample["key"]: member[2]
        for shard in index["shards"]
        for sample in shard["samples"]
        for suffix, member in sample["members"].items()
        if suffix in ("mp4", "avi")
    }
    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in found.items()} == COUNTS
    for split, rows in found.items():
        assert rows.features["cls"].names == list(CLASSES)
        for suffix in ("mp4", "avi"):
            rows = rows.cast_column(suffix, datasets.Video(decode=False))
        for i, row in enumerate(rows):
            assert row["__key__"] == f"{split}-{i:06d}"
            assert row["cls"] == (None if split == "unlabelled" else i % len(CLASSES))
            assert row["json"] == {"source": f"from {i}", "frames": 10 + i}
            video, other = (row["mp4"], row["avi"])[:: 1 if i % 2 == 0 else -1]
            assert other is None
            assert hashlib.sha256(video["bytes"]).hexdigest() == sha256[row["__key__"]]
