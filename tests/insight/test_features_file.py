"""A file of features: read back by ours, by safetensors alone, and refused when damaged."""

import json
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import torch
from feature_sets import facts_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from transfer3d.errors import DataError, UsageError
from transfer3d.insight.features.file import ENTRY, FeatureSet, load_features, save_features
from transfer3d.insight.features.formats import FORMATS, write_npz, write_parquet

FACTS = facts_of()


def features_of(**changes):
    generator = torch.Generator().manual_seed(0)
    made = FeatureSet(
        keys=("a/0", "a/1", "b/ü.mp4"),
        label_sets=[(1,), (), (0,)],
        sources=("x", "x", "y"),
        classes=("waving", "running"),
        layers={
            "pool5": torch.randn(3, 5, generator=generator),
            "res4": torch.randn(3, 4, generator=generator),
        },
        metadata=FACTS,
    )
    return replace(made, **changes)


@pytest.mark.parametrize("label_sets", [[(1,), (), (0,)], [(0, 1), (), (1,)]], ids=["single", "several"])
def test_what_is_read_is_what_was_written(tmp_path, label_sets):
    features = features_of(label_sets=label_sets)
    save_features(features, tmp_path / "f.safetensors")
    again = load_features(tmp_path / "f.safetensors")
    for name in ("keys", "label_sets", "sources", "classes", "metadata"):
        assert getattr(again, name) == getattr(features, name)
    assert all(torch.equal(again.layers[name], tensor) for name, tensor in features.layers.items())
    assert again.labels_N.tolist() == [(*some, -1)[0] for some in label_sets]


def test_safetensors_alone_reads_it(tmp_path):
    save_features(features_of(), tmp_path / "f.safetensors")
    tensors = load_file(tmp_path / "f.safetensors")
    assert tensors["labels"].tolist() == [1, -1, 0]
    assert tensors["pool5"].shape == (3, 5)
    with safe_open(tmp_path / "f.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["transfer3d.features"])
    assert header["keys"] == ["a/0", "a/1", "b/ü.mp4"]
    assert header["facts"]["student"] == "p3d_tiny"


def test_of_several_classes_other_programs_get_all_and_the_first_ones_name(tmp_path):
    features = features_of(label_sets=[(1, 0), (), (0,)])
    write_parquet(features, tmp_path / "f.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist()
    assert [row["labels"] for row in rows] == [[1, 0], [], [0]]
    assert [row["class"] for row in rows] == ["running", None, "waving"]
    assert [row["source"] for row in rows] == ["x", "x", "y"]
    write_npz(features, tmp_path / "f.npz")
    assert np.load(tmp_path / "f.npz")["labels"].tolist() == [1, -1, 0]


def test_the_same_features_are_the_same_bytes(tmp_path):
    for name in ("f", "g"):
        save_features(features_of(), tmp_path / name)
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()


def test_a_layer_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"no layer 'pool4' \(did you mean 'pool5'\?\)"):
        features_of().layer("pool4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ("a", "b")}, "not of the same videos"),
        ({"keys": ("a", "a", "b")}, "a key appears twice"),
        ({"classes": ("waving",)}, "a label has no class"),
        ({"layers": {"pool5": torch.full((3, 2), torch.nan)}}, "layer 'pool5' is not a matrix of finite"),
        (
            {"layers": {"pool5": torch.zeros(3, 2, dtype=torch.int64)}},
            "layer 'pool5' is not a matrix of finite",
        ),
        ({"layers": {"pool5": torch.zeros(3, 0)}}, "layer 'pool5' is not a matrix of finite"),
        ({"layers": {"pool5": torch.zeros(4, 2)}}, "not of the same videos"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, changes, message):
    save_features(features_of(**changes), tmp_path / "f.safetensors")
    with pytest.raises(DataError, match=message) as caught:
        load_features(tmp_path / "f.safetensors")
    assert "f.safetensors" in str(caught.value)


def test_damaged_and_foreign_files_end_with_one_sentence(tmp_path):
    path = tmp_path / "f.safetensors"
    save_features(features_of(), path)
    whole = path.read_bytes()
    foreign = tmp_path / "g.safetensors"
    save_file({"pool5": torch.zeros(3, 2)}, foreign)
    headless = tmp_path / "h.safetensors"
    save_file({"pool5": torch.zeros(3, 2)}, headless, metadata={ENTRY: "{}"})
    for cut in (0, 5, 100, len(whole) - 1):
        (tmp_path / f"{cut}.safetensors").write_bytes(whole[:cut])
    bad = [tmp_path, tmp_path / "none", foreign, headless, *tmp_path.glob("[0-9]*.safetensors")]
    assert len(bad) == 8
    for file in bad:
        with pytest.raises(DataError) as caught:
            load_features(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("write", "name"), [(write_npz, "npz"), (write_parquet, "Parquet")])
def test_features_for_other_programs_are_told_from_damaged_ones(tmp_path, write, name):
    path = tmp_path / "f.safetensors"  # whatever its name
    write(features_of(), path)
    with pytest.raises(UsageError, match=f"f.safetensors is {name}.* needs a .safetensors file") as caught:
        load_features(path)
    assert "\n" not in str(caught.value)


ODD_LABELS = (
    torch.tensor(1),
    torch.zeros(2),
    torch.zeros(2, 1, 1, dtype=torch.int64),
    torch.zeros(0, dtype=torch.int64),
    torch.tensor([5, 9]),
)


@pytest.mark.parametrize("labels", ODD_LABELS, ids=range(len(ODD_LABELS)))
def test_odd_labels_are_refused_in_a_sentence(labels, tmp_path):
    path = tmp_path / "f.safetensors"
    save_features(features_of(), path)
    load_features(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {"labels": labels}, path, metadata=metadata)
    with pytest.raises(DataError, match=r"f.safetensors: (not a file of features, or damaged|damaged,)"):
        load_features(path)


def test_the_facts_of_an_archive_are_not_unpacked_into_memory(tmp_path):
    path, size = tmp_path / "f.npz", 200 << 20
    write_npz(features_of(), path)
    assert FORMATS["npz"].read_header(path) == (["pool5", "res4"], FACTS)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("facts.npy", "w") as file:
        kind = {"descr": f"<U{size // 4}", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, kind)
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"facts of \d{9} bytes"):
            FORMATS["npz"].read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
