"""Cross-entropy on labels: smoothed, weighted by class, and never on a label outside the classes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.errors import DataError, UsageError
from transfer3d.models.factory import create_model
from transfer3d.objectives.classification import Classification, balanced_weights

LOGITS_BK = [[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 3.0, 1.0]]
LABELS = [0, 2, 1]


class Fixed(nn.Module):
    """A student of three classes whose scores are always the same."""

    num_classes = 3

    def forward(self, _clips):
        return torch.tensor(LOGITS_BK)


def loss(labels=LABELS, **options):
    keys = [str(number) for number in range(len(labels))]
    clips_u8 = torch.zeros(len(labels), 3, 2, 8, 8, dtype=torch.uint8)
    student = Fixed()
    return Classification(student, **options)(ClipBatch(clips_u8, torch.tensor(labels), keys, keys))


def log_probability(row, label):
    return LOGITS_BK[row][label] - math.log(sum(math.exp(logit) for logit in LOGITS_BK[row]))


def test_the_loss_and_the_accuracy():
    expected = -sum(log_probability(row, label) for row, label in enumerate(LABELS)) / 3
    report = loss()
    assert report.total.item() == pytest.approx(expected, rel=1e-6)
    assert report.parts["clip_accuracy"].item() == pytest.approx(2 / 3)


def test_a_share_of_the_target_is_spread_over_all_classes():
    """Szegedy et al., arXiv:1512.00567, section 7: (1 - e) of the label, e / K of every class."""
    expected = 0.0
    for row, label in enumerate(LABELS):
        shares = [0.1 / 3 + (0.9 if label == k else 0.0) for k in range(3)]
        expected -= sum(share * log_probability(row, k) for k, share in enumerate(shares)) / 3
    assert loss(label_smoothing=0.1).total.item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_a_clip_is_multiplied_by_its_classes_weight():
    weights = [2.0, 0.5, 3.0]
    expected = -sum(weights[label] * log_probability(row, label) for row, label in enumerate(LABELS)) / 3
    assert loss(class_weights=torch.tensor(weights)).total.item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_make_every_class_count_alike():
    weights = balanced_weights([0, 0, 0, 0, 0, 0, 1, 1, 3, None], 4)
    counts = torch.tensor([6.0, 2.0, 0.0, 1.0])
    assert weights[2] == 0
    present = weights * counts
    assert present[[0, 1, 3]].tolist() == pytest.approx([9 / 4] * 3)


@pytest.mark.parametrize("label", [-100, -1, 3])
def test_what_is_no_class_is_refused(label):
    """torch ignores -100 in silence."""
    with pytest.raises(DataError, match="the student has 3 classes"):
        loss(labels=[0, label, 1])


def test_scores_of_a_videos_segments_are_averaged_before_the_softmax():
    """TSN's consensus (T3D, section 4.6), one clip at a time."""
    student = create_model("t3d_tiny", num_classes=3).eval()
    objective = Classification(student, segments=5)
    assert objective.clip == replace(student.clip, units=5)
    clips_u8 = torch.randint(0, 256, objective.clip.shape(2), dtype=torch.uint8)
    report = objective(ClipBatch(clips_u8, torch.tensor([2, 0]), ["a", "b"], ["a", "b"]))
    with torch.no_grad():
        logits = [sum(student(clip[None]) for clip in video) / 5 for video in clips_u8]
    expected = (
        sum(-torch.log_softmax(row[0], 0)[label] for row, label in zip(logits, (2, 0), strict=True)) / 2
    )
    torch.testing.assert_close(report.total, expected)


def test_segments_of_a_student_with_units_are_refused():
    with pytest.raises(UsageError, match="segments=5: v4d_tiny sees 4 units"):
        Classification(create_model("v4d_tiny", num_classes=3), segments=5)
