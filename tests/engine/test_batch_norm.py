"""Statistics that stay, and statistics that are recomputed."""

import pytest
import torch
from torch import nn

from transfer3d.batch import ClipBatch
from transfer3d.engine.batch_norm import recompute_statistics, training_mode
from transfer3d.engine.distributed import make_accelerator
from transfer3d.models.factory import create_model
from transfer3d.objectives.objective import LossReport


def norms(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm3d)]


@pytest.mark.parametrize(("kind", "moving"), [("live", None), ("partial", 1), ("frozen", 0)])
def test_whose_statistics_follow_the_batch(kind, moving):
    student = create_model("p3d_tiny", num_classes=3)
    training_mode(student, kind)
    before = [norm.running_mean.clone() for norm in norms(student)]
    student(torch.randn(4, 3, 8, 32, 32)).sum().backward()
    moved = [
        not torch.equal(old, norm.running_mean) for old, norm in zip(before, norms(student), strict=True)
    ]
    assert sum(moved) == (len(moved) if moving is None else moving)
    if moving == 1:
        assert moved[0]  # the stem's
    assert all(norm.weight.grad is not None for norm in norms(student))  # scale and shift learn
    assert student.dropout.training


def test_statistics_of_a_frozen_part_stay():
    student = create_model("p3d_tiny", num_classes=3)
    student.trunk.requires_grad_(False)
    training_mode(student, "live")
    assert not any(norm.training for norm in norms(student))
    assert student.training


class Sum(nn.Module):
    """An objective whose loss is the sum of a network's outputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, batch):
        return LossReport(self.network(batch.clips.float()).sum(), {})


def test_recomputed_statistics_are_the_means_over_the_batches():
    net = nn.Sequential(
        nn.BatchNorm3d(3, momentum=0.01), nn.Dropout(0.9), nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2)
    )
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randint(0, 9, (4, 3, 2, 5, 5), dtype=torch.uint8, generator=generator) for _ in range(3)]
    batches = [ClipBatch(clip, torch.zeros(4, dtype=torch.long), ["a"] * 4, ["a"] * 4) for clip in clips]
    recompute_statistics(Sum(net), batches, make_accelerator("fp32"))
    axes = (0, 2, 3, 4)
    means = torch.stack([clip.float().mean(axes) for clip in clips]).mean(0)
    variances = torch.stack([clip.float().var(axes, unbiased=True) for clip in clips]).mean(0)
    torch.testing.assert_close(net[0].running_mean, means)
    torch.testing.assert_close(net[0].running_var, variances)
    inner = []
    with torch.no_grad():
        for clip in clips:  # the second layer saw what the first one gave with its batch's own statistics
            whitened = nn.functional.batch_norm(clip.float(), None, None, training=True)
            inner.append(net[2](whitened).mean(axes))
    torch.testing.assert_close(net[3].running_mean, torch.stack(inner).mean(0), atol=1e-5, rtol=1e-5)
    assert net[0].momentum == 0.01
    assert not net[0].training
