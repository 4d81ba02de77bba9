"""Lessons that were given once, and are not asked for again."""

from pathlib import Path

import pytest
import torch

from transfer3d.errors import SetupError
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.objectives.feature_cache import LessonCache
from transfer3d.objectives.teacher import FrozenTeacher

NAMES = ["a", "b", "c", "d"]


def teacher_of(seed, classes=5):
    return FrozenTeacher(create_image_model("test_resnet", "none", num_classes=classes, seed=seed))


@pytest.fixture
def clips_u8():
    torch.manual_seed(0)
    return torch.randint(0, 256, (4, 3, 2, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("classes", [5, 0])
def test_a_cache_gives_what_the_teacher_gives_and_asks_once(tmp_path, clips_u8, classes):
    teacher = teacher_of(1, classes)
    cache = LessonCache(teacher, tmp_path, scope="32")
    for rows in ([0, 1], [1, 2, 3], [3, 0]):
        found = cache.look(clips_u8[rows], [NAMES[row] for row in rows])
        wanted = teacher.look(clips_u8[rows])
        torch.testing.assert_close(found.features_BD, wanted.features_BD, rtol=1e-5, atol=1e-6)
        assert (found.logits_BK is None) == (classes == 0)
        if wanted.logits_BK is not None:
            torch.testing.assert_close(found.logits_BK, wanted.logits_BK, rtol=1e-5, atol=1e-6)
    assert (cache.asked, cache.given) == (4, 7)


def test_a_later_run_reads_what_several_processes_wrote(tmp_path, clips_u8):
    teacher = teacher_of(1)
    wanted = teacher.look(clips_u8)
    for process, rows in enumerate(([0, 1], [2, 3])):
        cache = LessonCache(teacher, tmp_path, scope="32", process=process)
        cache.look(clips_u8[rows], [NAMES[row] for row in rows])
        cache.flush()
        cache.flush()  # nothing new: no file
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    later = LessonCache(teacher, tmp_path, scope="32")
    found = later.look(torch.zeros_like(clips_u8), NAMES)
    assert later.asked == 0
    torch.testing.assert_close(found.features_BD, wanted.features_BD, rtol=1e-5, atol=1e-6)


def test_another_teacher_or_size_never_reads_old_lessons(tmp_path, clips_u8):
    cache = LessonCache(teacher_of(1), tmp_path, scope="32")
    cache.look(clips_u8, NAMES)
    cache.flush()
    assert len(LessonCache(teacher_of(2), tmp_path, scope="32")) == 0
    other_size = LessonCache(teacher_of(1), tmp_path, scope="64")
    other_size.look(clips_u8, NAMES)
    assert other_size.asked == 4


def test_a_teacher_that_sees_pixels_otherwise_never_reads_old_lessons(tmp_path, clips_u8):
    first, other = teacher_of(1), teacher_of(1)
    other.mean = (0.1, 0.1, 0.1)
    assert first.digest() == other.digest()
    assert not torch.allclose(first(clips_u8), other(clips_u8), atol=1e-3)
    cache = LessonCache(first, tmp_path, scope="32")
    cache.look(clips_u8, NAMES)
    cache.flush()
    again = LessonCache(other, tmp_path, scope="32")
    torch.testing.assert_close(again.look(clips_u8, NAMES).features_BD, other(clips_u8))
    assert again.asked == 4
    serial, skipping = (FrozenTeacher(create_model("p3d_tiny", blocks=blocks)) for blocks in "AC")
    skipping.network.load_state_dict(serial.network.state_dict())
    assert serial.digest() == skipping.digest()
    assert serial.identity() != skipping.identity() == FrozenTeacher(skipping.network).identity()


def test_files_are_only_added_also_where_one_was_removed(tmp_path, clips_u8):
    teacher = teacher_of(1)
    cache = LessonCache(teacher, tmp_path, scope="32")
    for row in range(3):
        cache.look(clips_u8[[row]], [NAMES[row]])
        cache.flush()
    sorted(tmp_path.rglob("*.safetensors"))[0].unlink()
    cache.look(clips_u8[[3]], [NAMES[3]])
    cache.flush()
    assert len(LessonCache(teacher, tmp_path, scope="32")) == 3


def test_a_place_that_takes_no_files_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/lessons"):
        with pytest.raises(SetupError, match="cannot be written"):
            LessonCache(teacher_of(1), Path(folder), scope="32")


def test_a_damaged_file_is_computed_again(tmp_path, clips_u8):
    cache = LessonCache(teacher_of(1), tmp_path, scope="32")
    cache.look(clips_u8, NAMES)
    cache.flush()
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-40])
    again = LessonCache(teacher_of(1), tmp_path, scope="32")
    again.look(clips_u8, NAMES)
    assert again.asked == 4
    again.flush()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
