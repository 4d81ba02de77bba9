"""The score of a video from its views, by hand."""

import numpy as np
import pytest
import torch

from transfer3d.evaluation.pooling import pooled

NO_SCALE = torch.zeros(5, dtype=torch.int64)


def test_mean():
    views = torch.rand(5, 4)
    torch.testing.assert_close(pooled(views, NO_SCALE, "mean"), torch.from_numpy(views.numpy().mean(0)))


def test_consensus_averages_what_stands_in_front_of_the_softmax():
    logits = torch.randn(5, 4, dtype=torch.float64)
    found = pooled(logits.softmax(-1), NO_SCALE, "consensus")
    torch.testing.assert_close(found, logits.mean(0).softmax(-1))
    assert not torch.allclose(found, logits.softmax(-1).mean(0), atol=1e-3)
    certain = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    assert pooled(certain, NO_SCALE[:2], "consensus").isfinite().all()


@pytest.mark.parametrize(("counts", "kept"), [((80, 30, 7), (20, 15, 7)), ((1,), (1,))])
def test_windows_average_the_best_of_each_length(counts, kept):
    rng = np.random.default_rng(0)
    rows = [rng.random((count, 3)) for count in counts]
    scale = torch.tensor([number for number, count in enumerate(counts) for _ in range(count)])
    best = [np.sort(row, 0)[::-1][:k].mean(0) for row, k in zip(rows, kept, strict=True)]
    expected = np.mean(best, axis=0)
    found = pooled(torch.from_numpy(np.concatenate(rows)), scale, "windows")
    np.testing.assert_allclose(found.numpy(), expected)
