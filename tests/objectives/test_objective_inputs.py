"""What a batch, a config and a cache come to in the loss: sources, second views, temperatures, lessons."""

import pytest
import torch
from torch.nn import functional

from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.diagnostics import alarms
from transfer3d.objectives.feature_cache import LessonCache
from transfer3d.objectives.losses import distillation, infonce
from transfer3d.objectives.pairs import HARDEST
from transfer3d.objectives.teacher import FrozenTeacher

CPU = torch.device("cpu")
SOURCES = ["a", "a", "b", "c", "c", "c"]


class ClipBatch:
    def __init__(self, sources, *, second=False, names=None):
        generator = torch.Generator().manual_seed(len(sources))
        shape = (2, len(sources), 3, 8, 32, 32)
        self.clips, other_u8 = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        self.teacher_clips = other_u8 if second else None
        self.teacher_view_keys = names
        self.labels, self.targets = torch.zeros(len(sources), dtype=torch.long), None
        self.sources = sources


@pytest.fixture
def teacher():
    return FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5, seed=3))


def objective_of(teacher, cache=None, **config):
    objective = Correspondence(
        teacher, create_model("p3d_tiny", num_classes=5, seed=2), CorrespondenceConfig(**config), cache=cache
    )
    objective.trainable.eval()
    return objective


def answers_to(objective, batch, seen_u8):
    """What the student and its heads say where the teacher sees `seen_u8`."""
    with torch.no_grad():
        lesson = objective.teacher.look(seen_u8)
        clips = normalise(batch.clips, objective.clip.mean, objective.clip.std)
        return objective.trainable(clips, lesson.features_BD), lesson


def pairs_of(sources, same):
    count = range(len(sources))
    return [(i, j) for i in count for j in count if i != j and (sources[i] == sources[j]) == same]


def test_clips_of_one_video_are_never_a_mismatched_pair(teacher):
    batch = ClipBatch(SOURCES)
    objective = objective_of(teacher)
    found, _ = answers_to(objective, batch, batch.clips)
    logits_BB2 = found["match"] + 3 * torch.randn(6, 6, 2, generator=torch.Generator().manual_seed(1))
    apart = pairs_of(SOURCES, same=False)
    assert len(apart) == 36 - 4 - 1 - 9
    report = objective.judge({**found, "match": logits_BB2}, None, torch.tensor(
        [[one != other for other in SOURCES] for one in SOURCES]
    ))  # fmt: skip
    own = torch.stack([logits_BB2[i, i] for i in range(6)])
    others = torch.stack([logits_BB2[i, j] for i, j in apart])
    expected = functional.cross_entropy(own, torch.ones(6, dtype=torch.long)) / 2
    expected = expected + functional.cross_entropy(others, torch.zeros(len(apart), dtype=torch.long)) / 2
    torch.testing.assert_close(report.total, expected)

    seen = []
    objective.judge = lambda found, lesson, different_BB: seen.append(different_BB)
    objective.loss(objective.trainable, batch)
    assert sorted(map(tuple, seen[0].nonzero().tolist())) == apart


@pytest.mark.parametrize("pairs", ["in-batch", "one-to-one", "hard"])
def test_accuracies_and_recalls_are_of_all_pairs_of_different_videos_however_pairs_are_chosen(teacher, pairs):
    sources = [str(number) for number in range(7)] + ["6"]
    logits_BB2 = 2 * torch.randn(8, 8, 2, generator=torch.Generator().manual_seed(4))
    logits_BB2.diagonal().T[:, 1] += 1.5
    different_BB = torch.tensor([[one != other for other in sources] for one in sources])
    objective = objective_of(teacher, pairs=pairs)
    parts = objective.judge({"features": torch.rand(8, 4), "match": logits_BB2}, None, different_BB).parts
    belief = (logits_BB2[..., 1] - logits_BB2[..., 0]).tolist()
    apart = pairs_of(sources, same=False)
    matched = sum(belief[i][i] > 0 for i in range(8)) / 8
    mismatched = sum(belief[i][j] <= 0 for i, j in apart) / len(apart)
    assert float(parts["matched_accuracy"]) == pytest.approx(matched)
    assert float(parts["mismatched_accuracy"]) == pytest.approx(mismatched)
    assert float(parts["balanced_accuracy"]) == pytest.approx((matched + mismatched) / 2)
    for k in (1, 5):
        better = [sum(belief[i][j] > belief[i][i] for a, j in apart if a == i) for i in range(8)]
        assert float(parts[f"recall_at_{k}"]) == pytest.approx(sum(count < k for count in better) / 8)
    assert float(parts["shuffled_accuracy"]) != pytest.approx(float(parts["balanced_accuracy"]))


def test_hard_pairs_count_as_much_as_all_of_them(teacher):
    logits_BB2 = torch.randn(8, 8, 2, generator=torch.Generator().manual_seed(6))
    different_BB = ~torch.eye(8, dtype=torch.bool)
    objective = objective_of(teacher, pairs="hard")
    report = objective.judge({"features": torch.rand(8, 4), "match": logits_BB2}, None, different_BB)

    def cost(pairs, target):
        return sum(functional.cross_entropy(logits_BB2[i, j], torch.tensor(target)) for i, j in pairs) / len(
            pairs
        )

    belief_BB = logits_BB2[..., 1] - logits_BB2[..., 0]
    everyone = [(i, j) for i in range(8) for j in range(8) if i != j]
    hardest = []
    for clip in range(8):
        rivals = sorted(
            (pair for pair in everyone if pair[1] == clip), key=lambda pair: -float(belief_BB[pair])
        )
        hardest += rivals[:HARDEST]
    own = cost([(i, i) for i in range(8)], 1)
    torch.testing.assert_close(report.total, own / 2 + (cost(everyone, 0) + cost(hardest, 0)) / 4)


def test_each_temperature_is_that_of_its_own_term(teacher):
    batch = ClipBatch(SOURCES)
    config = {"match": 0, "infonce": 2.0, "kd": 0.25, "temperature": 0.3, "kd_temperature": 1.5}
    objective = objective_of(teacher, **config)
    found, lesson = answers_to(objective, batch, batch.clips)
    different_BB = torch.tensor([[one != other for other in SOURCES] for one in SOURCES])
    parts = objective.loss(objective.trainable, batch).parts
    contrast = infonce(found["similarity"], different_BB, 0.3)
    soft = distillation(found["logits"], lesson.logits_BK, 1.5)
    torch.testing.assert_close(parts["infonce_loss"], contrast)
    torch.testing.assert_close(parts["kd_loss"], soft)
    torch.testing.assert_close(parts["loss"], 2 * contrast + soft / 4)


@pytest.mark.parametrize("second", [False, True])
def test_the_teacher_sees_its_own_view_where_there_is_one(teacher, second):
    batch = ClipBatch(SOURCES, second=second)
    objective = objective_of(teacher, feature=1.0)
    seen_u8 = batch.teacher_clips if second else batch.clips
    found, _ = answers_to(objective, batch, seen_u8)
    report = objective.loss(objective.trainable, batch)
    torch.testing.assert_close(report.parts["feature_loss"], found["feature_error"])


def test_named_views_are_asked_for_once(teacher, tmp_path):
    cache = LessonCache(teacher, tmp_path, scope="32")
    batch = ClipBatch(SOURCES, second=True, names=list("uvwxyz"))
    objective = objective_of(teacher, cache)
    first = objective.loss(objective.trainable, batch).parts
    assert cache.asked == 6
    batch.teacher_clips = torch.zeros_like(batch.teacher_clips)
    again = objective.loss(objective.trainable, batch).parts
    assert cache.asked == 6
    torch.testing.assert_close(again["loss"], first["loss"])
    batch.teacher_view_keys = None  # drawn at random: nothing to go by
    assert not torch.allclose(
        objective.loss(objective.trainable, batch).parts["loss"], first["loss"], atol=1e-4
    )
    assert cache.asked == 6


def test_a_lone_term_without_rivals_is_0_and_said_to_be():
    """Contrast in a batch of one video: every clip has its own frame set alone to choose from."""
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", seed=3))
    objective = objective_of(teacher, match=0, infonce=1)
    parts = objective.loss(objective.trainable, ClipBatch(["a"] * 4)).parts
    assert [name for name in parts if name.endswith("loss")] == ["loss"]
    assert "the loss stays exactly 0, so nothing is learnt." in alarms(
        {k: float(v) for k, v in parts.items()}
    )


@pytest.mark.parametrize("weight", ["match", "infonce", "feature", "kd", "temperature", "kd_temperature"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_weights_and_temperatures_are_finite(weight, value):
    with pytest.raises(ValueError, match=weight):
        CorrespondenceConfig.model_validate({weight: value})
