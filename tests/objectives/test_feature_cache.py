"""Outputs of a teacher that are computed once and read from then on."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from transfer3d.errors import SetupError
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.objectives.feature_cache import FEATURES, LOGITS, FeatureCache
from transfer3d.objectives.teacher import FrozenTeacher

KEYS = ["a", "b", "c", "d"]


def teacher_of(seed, classes=5):
    return FrozenTeacher(create_image_model("test_resnet", "none", num_classes=classes, seed=seed))


@pytest.fixture
def clips_u8():
    torch.manual_seed(0)
    return torch.randint(0, 256, (4, 3, 2, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("classes", [5, 0])
def test_a_cache_returns_what_the_teacher_does_and_runs_it_once(tmp_path, clips_u8, classes):
    teacher = teacher_of(1, classes)
    cache = FeatureCache(teacher, tmp_path, scope="32")
    for rows in ([0, 1], [1, 2, 3], [3, 0]):
        output = cache(clips_u8[rows], [KEYS[row] for row in rows])
        expected = teacher(clips_u8[rows])
        torch.testing.assert_close(output.features, expected.features, rtol=1e-5, atol=1e-6)
        assert (output.logits is None) == (classes == 0)
        if expected.logits is not None:
            torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-6)
    assert (cache.computed, cache.requested) == (4, 7)


def test_a_later_run_reads_what_several_processes_wrote(tmp_path, clips_u8):
    teacher = teacher_of(1)
    expected = teacher(clips_u8)
    for process, rows in enumerate(([0, 1], [2, 3])):
        cache = FeatureCache(teacher, tmp_path, scope="32", process=process)
        cache(clips_u8[rows], [KEYS[row] for row in rows])
        cache.flush()
        cache.flush()  # nothing new: no file
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    later = FeatureCache(teacher, tmp_path, scope="32")
    output = later(torch.zeros_like(clips_u8), KEYS)
    assert later.computed == 0
    torch.testing.assert_close(output.features, expected.features, rtol=1e-5, atol=1e-6)


def test_another_teacher_or_size_never_reads_old_outputs(tmp_path, clips_u8):
    cache = FeatureCache(teacher_of(1), tmp_path, scope="32")
    cache(clips_u8, KEYS)
    cache.flush()
    assert len(FeatureCache(teacher_of(2), tmp_path, scope="32")) == 0
    other_size = FeatureCache(teacher_of(1), tmp_path, scope="64")
    other_size(clips_u8, KEYS)
    assert other_size.computed == 4


def test_a_teacher_with_another_normalisation_never_reads_old_outputs(tmp_path, clips_u8):
    first, other = teacher_of(1), teacher_of(1)
    other.mean = (0.1, 0.1, 0.1)
    assert first.digest() == other.digest()
    assert not torch.allclose(first(clips_u8).features, other(clips_u8).features, atol=1e-3)
    cache = FeatureCache(first, tmp_path, scope="32")
    cache(clips_u8, KEYS)
    cache.flush()
    again = FeatureCache(other, tmp_path, scope="32")
    torch.testing.assert_close(again(clips_u8, KEYS).features, other(clips_u8).features)
    assert again.computed == 4
    serial, skipping = (FrozenTeacher(create_model("p3d_tiny", blocks=blocks)) for blocks in "AC")
    skipping.network.load_state_dict(serial.network.state_dict())
    assert serial.digest() == skipping.digest()
    assert serial.identity() != skipping.identity() == FrozenTeacher(skipping.network).identity()


def test_files_are_only_added_even_after_one_was_removed(tmp_path, clips_u8):
    teacher = teacher_of(1)
    cache = FeatureCache(teacher, tmp_path, scope="32")
    for row in range(3):
        cache(clips_u8[[row]], [KEYS[row]])
        cache.flush()
    sorted(tmp_path.rglob("*.safetensors"))[0].unlink()
    cache(clips_u8[[3]], [KEYS[3]])
    cache.flush()
    assert len(FeatureCache(teacher, tmp_path, scope="32")) == 3


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/features"):
        with pytest.raises(SetupError, match="cannot be written"):
            FeatureCache(teacher_of(1), Path(folder), scope="32")


def test_a_damaged_file_is_computed_again(tmp_path, clips_u8):
    cache = FeatureCache(teacher_of(1), tmp_path, scope="32")
    cache(clips_u8, KEYS)
    cache.flush()
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-40])
    again = FeatureCache(teacher_of(1), tmp_path, scope="32")
    again(clips_u8, KEYS)
    assert again.computed == 4
    again.flush()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


ODD_NAMES = ("[" * 5000 + "]" * 5000, "7", "null", "[[1], [2], [3], [4]]", '{"32 a": 1}', '["32 a"]', "[")


@pytest.mark.parametrize("names", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_odd_names_in_a_file_are_computed_again(names, tmp_path, clips_u8):
    edited(tmp_path, clips_u8, lambda name, tensor: tensor, names)


@pytest.mark.parametrize(
    "edit",
    [
        lambda name, tensor: tensor[:, :-1] if name == FEATURES else tensor,
        lambda name, tensor: tensor[:, :-1] if name == LOGITS else tensor,
        lambda name, tensor: None if name == LOGITS else tensor,
        lambda name, tensor: tensor * float("nan"),
        lambda name, tensor: tensor.to(torch.int64),
        lambda name, tensor: tensor[0, 0],
    ],
    ids=["features", "logits", "no logits", "NaN", "whole numbers", "scalars"],
)
def test_outputs_that_are_not_this_teachers_are_computed_again(edit, tmp_path, clips_u8):
    edited(tmp_path, clips_u8, edit)


def edited(folder, clips_u8, edit, names=None):
    """Changes a cache's file, and asserts that it is passed over."""
    cache = FeatureCache(teacher_of(1), folder, scope="32")
    expected = cache(clips_u8, KEYS)
    cache.flush()
    (path,) = folder.rglob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    changed = {name: edit(name, tensor) for name, tensor in load_file(path).items()}
    tensors = {name: tensor.contiguous() for name, tensor in changed.items() if tensor is not None}
    save_file(tensors, path, metadata=metadata if names is None else {"names": names})
    again = FeatureCache(teacher_of(1), folder, scope="32")
    found = again(clips_u8, KEYS)
    assert again.computed == len(KEYS)
    torch.testing.assert_close(found.features, expected.features)
