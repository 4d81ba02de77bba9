"""Signs that should be seen, on features and heads that are made to show them."""

import pytest
import torch

from transfer3d.objectives.diagnostics import ALIKE, alarms, directions, recall, spread, without_student
from transfer3d.objectives.pairs import different_sources

CPU = torch.device("cpu")


def test_directions_counts_independent_axes():
    torch.manual_seed(0)
    features_BD = torch.zeros(4000, 10)
    features_BD[:, :3] = torch.randn(4000, 3)
    assert float(directions(features_BD)) == pytest.approx(3, rel=0.02)
    line_BD = torch.randn(50, 1) * torch.randn(1, 10)
    assert float(directions(line_BD)) == pytest.approx(1, rel=1e-3)
    assert float(directions(torch.ones(5, 4))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spread_is_that_of_the_features_whatever_their_length(dtype):
    torch.manual_seed(1)
    axes_BD = torch.randn(500, 64)
    for length in (1.0, 40.0):
        wide_BD = length * (1 + 0.5 * axes_BD)
        assert float(spread(wide_BD.to(dtype))) == pytest.approx(0.5 / 1.25**0.5, rel=0.02)
        alike_BD = length * (1 + 1e-4 * axes_BD)
        assert float(spread(alike_BD.to(dtype))) < ALIKE / 3
        assert alarms({"feature_spread": float(spread(alike_BD.to(dtype)))})
    assert float(spread(torch.zeros(3, 4))) == 0


def test_a_head_that_needs_the_student_is_at_chance_without_it():
    for sources in ("abcdefgh", "aaaabbbbcccc", "aab", "ab"):
        different_BB = different_sources(sources, CPU)
        perfect_BB = torch.where(different_BB, -1.0, 1.0)
        assert float(without_student(perfect_BB, different_BB, different_BB)) == 0.5, sources


def test_a_head_that_tells_pairs_by_the_choice_of_frames_is_above_chance_without_the_student():
    """Mismatched frames are always those of the first two videos, and the head knows these two."""
    different_BB = different_sources("abcdefgh", CPU)
    negatives_BB = different_BB.clone()
    negatives_BB[2:] = False
    frames_alone_BB = torch.ones(8, 8)
    frames_alone_BB[:2] = -1
    # 6 of 8 frame sets are taken for matched with whatever clip, and all mismatched ones for such.
    found = without_student(frames_alone_BB, negatives_BB, different_BB)
    assert float(found) == pytest.approx((6 / 8 + 1) / 2)


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
    good = {
        "match_loss": 0.2,
        "feature_directions": 12.0,
        "feature_spread": 0.2,
        "balanced_accuracy": 0.9,
        "shuffled_accuracy": 0.51,
    }
    assert alarms(good) == []
    (dead,) = alarms({**good, "kd_loss": 0.0})
    assert dead.startswith("kd:")
    (lone,) = alarms({"loss": 0.0, "feature_directions": 12.0})
    assert "the loss stays exactly 0" in lone
    (collapsed,) = alarms({**good, "feature_directions": 1.01})
    assert "collapsed" in collapsed
    (alike,) = alarms({**good, "feature_spread": 1e-4})
    assert "all alike: they differ by 0.01% of their length" in alike
    (chance,) = alarms({**good, "balanced_accuracy": 0.52})
    assert "at chance: 52% of the pairs" in chance
    (blind,) = alarms({**good, "shuffled_accuracy": 0.8})
    assert "without the student" in blind
