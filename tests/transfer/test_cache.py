"""Lessons that were given once, and are not asked for again."""

import pytest
import torch

from transfer3d.models.image import create_image_model
from transfer3d.transfer.cache import LessonCache
from transfer3d.transfer.teacher import FrozenTeacher

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
    assert cache.asked == 4


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
