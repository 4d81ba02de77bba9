"""How sources, second views, temperatures and cached teacher outputs enter the loss."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from transfer3d.batch import ClipBatch
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.diagnostics import training_warnings
from transfer3d.objectives.feature_cache import FeatureCache
from transfer3d.objectives.losses import distillation, infonce
from transfer3d.objectives.objective import Embeddings
from transfer3d.objectives.pairs import HARDEST, source_ids
from transfer3d.objectives.teacher import FrozenTeacher

SOURCES = ["a", "a", "b", "c", "c", "c"]


def batch_of(sources, *, second=False, view_keys=None):
    generator = torch.Generator().manual_seed(len(sources))
    shape = (2, len(sources), 3, 8, 32, 32)
    clips, other = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.zeros(len(sources), dtype=torch.long)
    names = list(sources)
    return ClipBatch(clips, labels, names, names, None, other if second else None, view_keys)


@pytest.fixture
def teacher():
    return FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5, seed=3))


def objective_of(teacher, cache=None, **config):
    objective = Correspondence(
        teacher, create_model("p3d_tiny", num_classes=5, seed=2), CorrespondenceConfig(**config), cache=cache
    )
    objective.eval()
    return objective


def features_of(objective, batch, teacher_clips):
    """What teacher and student compute where the teacher sees `teacher_clips`."""
    student = objective.student
    with torch.no_grad():
        maps = student.forward_features(normalise(batch.clips, objective.clip.mean, objective.clip.std))
        return objective.teacher(teacher_clips), student.forward_head(maps, pre_logits=True)


class Fixed(nn.Module):
    """A matching head whose logits are always the same."""

    def __init__(self, logits_BB2):
        super().__init__()
        self.logits_BB2 = logits_BB2

    def forward(self, _frames_BD, _clips_BD):
        return self.logits_BB2


def compare(objective, logits_BB2, sources):
    """The report on clips for which the matching head returns these logits."""
    objective.head = Fixed(logits_BB2)
    rows = torch.rand(len(sources), 4)
    return objective.compare(Embeddings(rows, rows, source_ids(sources, rows.device)))


def pairs_of(sources, same):
    count = range(len(sources))
    return [(i, j) for i in count for j in count if i != j and (sources[i] == sources[j]) == same]


def test_clips_of_one_video_are_never_a_mismatched_pair(teacher):
    batch = batch_of(SOURCES)
    objective = objective_of(teacher)
    taught, features_BD = features_of(objective, batch, batch.clips)
    with torch.no_grad():
        logits_BB2 = objective.head(taught.features, features_BD)
    logits_BB2 = logits_BB2 + 3 * torch.randn(6, 6, 2, generator=torch.Generator().manual_seed(1))
    apart = pairs_of(SOURCES, same=False)
    assert len(apart) == 36 - 4 - 1 - 9
    own = torch.stack([logits_BB2[i, i] for i in range(6)])
    others = torch.stack([logits_BB2[i, j] for i, j in apart])
    expected = functional.cross_entropy(own, torch.ones(6, dtype=torch.long)) / 2
    expected = expected + functional.cross_entropy(others, torch.zeros(len(apart), dtype=torch.long)) / 2
    torch.testing.assert_close(compare(objective, logits_BB2, SOURCES).total, expected)
    torch.testing.assert_close(objective(batch).total, expected)  # the batch's sources too


@pytest.mark.parametrize("pairs", ["in-batch", "one-to-one", "hard"])
def test_accuracies_and_recalls_are_of_all_pairs_of_different_videos_however_pairs_are_chosen(teacher, pairs):
    sources = [str(number) for number in range(7)] + ["6"]
    logits_BB2 = 2 * torch.randn(8, 8, 2, generator=torch.Generator().manual_seed(4))
    logits_BB2.diagonal().T[:, 1] += 1.5
    objective = objective_of(teacher, pairs=pairs)
    parts = compare(objective, logits_BB2, sources).parts
    match_logits = (logits_BB2[..., 1] - logits_BB2[..., 0]).tolist()
    apart = pairs_of(sources, same=False)
    matched = sum(match_logits[i][i] > 0 for i in range(8)) / 8
    mismatched = sum(match_logits[i][j] <= 0 for i, j in apart) / len(apart)
    assert float(parts["matched_accuracy"]) == pytest.approx(matched)
    assert float(parts["mismatched_accuracy"]) == pytest.approx(mismatched)
    assert float(parts["balanced_accuracy"]) == pytest.approx((matched + mismatched) / 2)
    for k in (1, 5):
        better = [sum(match_logits[i][j] > match_logits[i][i] for a, j in apart if a == i) for i in range(8)]
        assert float(parts[f"recall_at_{k}"]) == pytest.approx(sum(count < k for count in better) / 8)
    assert float(parts["shuffled_accuracy"]) != pytest.approx(float(parts["balanced_accuracy"]))


def test_hard_pairs_count_as_much_as_all_of_them(teacher):
    logits_BB2 = torch.randn(8, 8, 2, generator=torch.Generator().manual_seed(6))
    objective = objective_of(teacher, pairs="hard")
    report = compare(objective, logits_BB2, "abcdefgh")

    def cost(pairs, target):
        return sum(functional.cross_entropy(logits_BB2[i, j], torch.tensor(target)) for i, j in pairs) / len(
            pairs
        )

    match_logits_BB = logits_BB2[..., 1] - logits_BB2[..., 0]
    everyone = [(i, j) for i in range(8) for j in range(8) if i != j]
    hardest = []
    for clip in range(8):
        others = sorted(
            (pair for pair in everyone if pair[1] == clip), key=lambda pair: -float(match_logits_BB[pair])
        )
        hardest += others[:HARDEST]
    own = cost([(i, i) for i in range(8)], 1)
    torch.testing.assert_close(report.total, own / 2 + (cost(everyone, 0) + cost(hardest, 0)) / 4)


def test_each_temperature_is_that_of_its_own_term(teacher):
    batch = batch_of(SOURCES)
    config = {"match": 0, "infonce": 2.0, "kd": 0.25, "temperature": 0.3, "kd_temperature": 1.5}
    objective = objective_of(teacher, **config)
    taught, features_BD = features_of(objective, batch, batch.clips)
    different_BB = torch.tensor([[one != other for other in SOURCES] for one in SOURCES])
    parts = objective(batch).parts
    contrast = infonce(objective.similarity(taught.features, features_BD), different_BB, 0.3)
    soft = distillation(objective.student.head(features_BD), taught.logits, 1.5)
    torch.testing.assert_close(parts["infonce_loss"], contrast)
    torch.testing.assert_close(parts["kd_loss"], soft)
    torch.testing.assert_close(parts["loss"], 2 * contrast + soft / 4)


@pytest.mark.parametrize("second", [False, True])
def test_the_teacher_sees_its_own_view_where_there_is_one(teacher, second):
    batch = batch_of(SOURCES, second=second)
    objective = objective_of(teacher, feature=1.0)
    seen = batch.teacher_clips if second else batch.clips
    taught, features_BD = features_of(objective, batch, seen)
    report = objective(batch)
    torch.testing.assert_close(report.parts["feature_loss"], objective.feature(taught.features, features_BD))


def test_views_with_keys_are_computed_once(teacher, tmp_path):
    cache = FeatureCache(teacher, tmp_path, scope="32")
    batch = batch_of(SOURCES, second=True, view_keys=list("uvwxyz"))
    objective = objective_of(teacher, cache)
    first = objective(batch).parts
    assert cache.computed == 6
    batch = replace(batch, teacher_clips=torch.zeros_like(batch.teacher_clips))
    again = objective(batch).parts
    assert cache.computed == 6
    torch.testing.assert_close(again["loss"], first["loss"])
    batch = replace(batch, teacher_view_keys=None)  # drawn at random: not to be cached
    assert not torch.allclose(objective(batch).parts["loss"], first["loss"], atol=1e-4)
    assert cache.computed == 6


def test_a_lone_term_without_negatives_is_0_and_warned_of():
    """Contrast in a batch of one video: every clip has its own frame set alone to choose from."""
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", seed=3))
    objective = objective_of(teacher, match=0, infonce=1)
    parts = objective(batch_of(["a"] * 4)).parts
    assert [name for name in parts if name.endswith("loss")] == ["loss"]
    assert "the loss is exactly 0, so nothing is learnt." in training_warnings(
        {k: float(v) for k, v in parts.items()}
    )


@pytest.mark.parametrize("weight", ["match", "infonce", "feature", "kd", "temperature", "kd_temperature"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_weights_and_temperatures_are_finite(weight, value):
    with pytest.raises(ValueError, match=weight):
        CorrespondenceConfig.model_validate({weight: value})
