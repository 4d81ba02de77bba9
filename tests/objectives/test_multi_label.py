"""Binary cross-entropy of clips of several classes, against sums written out and scikit-learn's weights."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from transfer3d.batch import ClipBatch, multi_hot
from transfer3d.engine.accumulation import backward_mean
from transfer3d.models.factory import create_model
from transfer3d.objectives.classification import Classification, balanced_binary_weights

LOGITS_BK = [[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 3.0, 1.0], [-40.0, 0.2, 40.0]]
LABEL_SETS = [(0, 2), (2,), (1, 2, 0), (1,)]


class Fixed(nn.Module):
    """A student of three classes whose scores are always the same."""

    num_classes = 3

    def forward(self, _clips):
        return torch.tensor(LOGITS_BK)


def batch(targets=True):
    keys = [str(number) for number in range(4)]
    labels = torch.tensor([labels[0] for labels in LABEL_SETS])
    clips_u8 = torch.zeros(4, 3, 2, 8, 8, dtype=torch.uint8)
    return ClipBatch(clips_u8, labels, keys, keys, multi_hot(LABEL_SETS, 3) if targets else None)


def brute_force(weights=((1.0,) * 3, (1.0,) * 3), smoothing=0.0):
    total = 0.0
    for row, labels in zip(LOGITS_BK, LABEL_SETS, strict=True):
        for k, logit in enumerate(row):
            is_of_class = k in labels
            yes = math.log1p(math.exp(-abs(logit))) + max(-logit, 0)  # -log sigmoid
            no = yes + logit
            target = (1 - smoothing) * is_of_class + smoothing / 2
            total += weights[is_of_class][k] * (target * yes + (1 - target) * no)
    return total / 12


def test_the_loss_and_the_hits():
    student = Fixed()
    report = Classification(student, loss="bce")(batch())
    assert report.total.item() == pytest.approx(brute_force(), rel=1e-6)
    assert report.parts["clip_hit1"].item() == pytest.approx(2 / 4)  # classes 0, 0, 1 and 2 score best
    assert student.multi_label


def test_smoothing_is_towards_one_half():
    report = Classification(Fixed(), loss="bce", label_smoothing=0.2)(batch())
    assert report.total.item() == pytest.approx(brute_force(smoothing=0.2), rel=1e-6)


def test_weights_of_yes_and_no():
    weights = ((0.5, 2.0, 1.0), (3.0, 0.1, 1.5))
    report = Classification(Fixed(), loss="bce", class_weights=torch.tensor(weights))(batch())
    assert report.total.item() == pytest.approx(brute_force(weights), rel=1e-6)


def test_without_targets_a_clip_is_of_its_label_alone():
    alone = replace(batch(), targets=multi_hot([(labels[0],) for labels in LABEL_SETS], 3))
    objective = Classification(Fixed(), loss="bce")
    assert objective(batch(targets=False)).total.item() == objective(alone).total.item()


def test_balance_is_scikit_learns_of_each_class():
    label_sets = [(0, 1), (0,), (0, 2, 3), (0, 1), (0, 3), (0,)]
    weights = balanced_binary_weights(label_sets, 5)
    for k in range(5):
        column = [int(k in labels) for labels in label_sets]
        if len(set(column)) == 1:
            assert weights[:, k].tolist() == [1, 1]
            continue
        expected = compute_class_weight("balanced", classes=np.arange(2), y=column)
        assert weights[:, k].tolist() == pytest.approx(expected.tolist())


def test_parts_of_a_batch_add_up_to_it():
    gradients = []
    for slices in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        student = create_model("p3d_tiny", num_classes=3, seed=0).double().eval()
        objective = Classification(student, loss="bce", class_weights=torch.rand(2, 3).fill_(0.7).double())
        generator = torch.Generator().manual_seed(1)
        clips_u8 = torch.randint(0, 256, (4, 3, 4, 32, 32), dtype=torch.uint8, generator=generator)
        whole = replace(batch(), clips=clips_u8)
        backward_mean(objective, [whole[part] for part in slices], autocast=nullcontext, no_sync=nullcontext)
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
