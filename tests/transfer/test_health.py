"""Signs that should be seen, on features and heads that are made to show them."""

import pytest
import torch

from transfer3d.transfer.health import alarms, directions, recall
from transfer3d.transfer.pairs import different_sources

CPU = torch.device("cpu")


def test_directions_counts_independent_axes():
    torch.manual_seed(0)
    features_BD = torch.zeros(4000, 10)
    features_BD[:, :3] = torch.randn(4000, 3)
    assert float(directions(features_BD)) == pytest.approx(3, rel=0.02)
    line_BD = torch.randn(50, 1) * torch.randn(1, 10)
    assert float(directions(line_BD)) == pytest.approx(1, rel=1e-3)
    assert float(directions(torch.ones(5, 4))) == 0


def test_recall_counts_rank_among_other_videos():
    belief_BB = torch.tensor([[5.0, 9, 1], [2, 3, 4], [0, 0, 1]])
    different = different_sources(["a", "b", "c"], CPU)
    assert float(recall(belief_BB, different, 1)) == pytest.approx(1 / 3)
    assert float(recall(belief_BB, different, 2)) == 1
    # the rival of the first row is of the same video now
    assert float(recall(belief_BB, different_sources(["a", "a", "c"], CPU), 1)) == pytest.approx(2 / 3)


def test_a_head_that_finds_everything_equal_recalls_nothing():
    different = different_sources([str(i) for i in range(20)], CPU)
    assert float(recall(torch.zeros(20, 20), different, 5)) == 0


def test_alarms_name_what_is_wrong_and_nothing_else():
    good = {"match_loss": 0.2, "feature_directions": 12.0, "shuffled_accuracy": 0.51}
    assert alarms(good) == []
    (dead,) = alarms({**good, "kd_loss": 0.0})
    assert dead.startswith("kd:")
    (collapsed,) = alarms({**good, "feature_directions": 1.01})
    assert "collapsed" in collapsed
    (blind,) = alarms({**good, "shuffled_accuracy": 0.8})
    assert "without the student" in blind
