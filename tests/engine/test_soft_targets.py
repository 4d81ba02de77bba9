"""Mixed clips are learnt with both their classes: the loss written out, and by hand."""

import math

import pytest
import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.mix import mix_batch
from transfer3d.objectives.classification import Classification


class Fixed(nn.Module):
    """A student of three classes whose scores are always the same."""

    num_classes = 3

    def __init__(self, logits_BK):
        super().__init__()
        self.logits_BK = logits_BK

    def forward(self, _clips):
        return self.logits_BK


def batch(labels, targets=None):
    clips_u8 = torch.zeros(len(labels), 3, 2, 8, 8, dtype=torch.uint8)
    keys = [str(i) for i in range(len(labels))]
    return ClipBatch(clips_u8, torch.tensor(labels), keys, keys, targets)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_targets(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits_BK = torch.randn(4, 3, generator=generator)
    targets_BK = torch.softmax(torch.randn(4, 3, generator=generator), 1)
    report = Classification(Fixed(logits_BK), label_smoothing=smoothing)(batch([0, 1, 2, 0], targets_BK))
    smooth = targets_BK * (1 - smoothing) + smoothing / 3
    by_hand = -sum(
        smooth[b, k] * (logits_BK[b, k] - math.log(sum(math.exp(x) for x in logits_BK[b])))
        for b in range(4)
        for k in range(3)
    )
    assert report.total.item() == pytest.approx(by_hand.item() / 4, rel=1e-5)
    # Accuracy counts the clip's own label, which most of it shows or showed.
    expected = (logits_BK.argmax(1) == torch.tensor([0, 1, 2, 0])).float().mean()
    assert report.parts["clip_accuracy"] == expected


def test_targets_that_are_one_class_are_labels():
    logits_BK, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), [2, 0, 1, 1]
    hard = Classification(Fixed(logits_BK))(batch(labels))
    soft = Classification(Fixed(logits_BK))(batch(labels, torch.eye(3)[labels]))
    assert torch.equal(hard.total, soft.total)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixed_clip_is_learnt_with_both_classes(kind):
    mixed = mix_batch(batch([0, 1, 2]), AugmentConfig(**{kind: 1.0}), 3, seed=3)
    logits_BK = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))
    total = Classification(Fixed(logits_BK))(mixed).total
    own, other = (Classification(Fixed(logits_BK))(batch(labels)).total for labels in ([0, 1, 2], [2, 0, 1]))
    share = mixed.targets[0, 0]
    assert 0 < share < 1
    assert total.item() == pytest.approx((share * own + (1 - share) * other).item(), rel=1e-5)
