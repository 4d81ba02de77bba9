"""Signs that should be seen, on features and heads that are made to show them."""

import pytest
import torch

from transfer3d.objectives.diagnostics import (
    ALIKE,
    effective_rank,
    recall,
    relative_std,
    shuffled_clip_accuracy,
    training_warnings,
)
from transfer3d.objectives.pairs import different_sources, source_ids


def different(sources):
    return different_sources(source_ids(sources, torch.device("cpu")))


def test_effective_rank_counts_independent_axes():
    torch.manual_seed(0)
    features_BD = torch.zeros(4000, 10)
    features_BD[:, :3] = torch.randn(4000, 3)
    assert float(effective_rank(features_BD)) == pytest.approx(3, rel=0.02)
    line_BD = torch.randn(50, 1) * torch.randn(1, 10)
    assert float(effective_rank(line_BD)) == pytest.approx(1, rel=1e-3)
    assert float(effective_rank(torch.ones(5, 4))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relative_std_does_not_depend_on_the_length_of_the_features(dtype):
    torch.manual_seed(1)
    axes_BD = torch.randn(500, 64)
    for length in (1.0, 40.0):
        wide_BD = length * (1 + 0.5 * axes_BD)
        assert float(relative_std(wide_BD.to(dtype))) == pytest.approx(0.5 / 1.25**0.5, rel=0.02)
        alike_BD = length * (1 + 1e-4 * axes_BD)
        assert float(relative_std(alike_BD.to(dtype))) < ALIKE / 3
        assert training_warnings({"feature_spread": float(relative_std(alike_BD.to(dtype)))})
    assert float(relative_std(torch.zeros(3, 4))) == 0


def test_a_head_that_needs_the_student_is_at_chance_on_shuffled_clips():
    for sources in ("abcdefgh", "aaaabbbbcccc", "aab", "ab"):
        different_BB = different(sources)
        perfect_BB = torch.where(different_BB, -1.0, 1.0)
        assert float(shuffled_clip_accuracy(perfect_BB, different_BB, different_BB)) == 0.5, sources


def test_a_head_that_knows_how_frames_were_chosen_is_above_chance_on_shuffled_clips():
    """Mismatched frames are always those of the first two videos, and the head knows these two."""
    different_BB = different("abcdefgh")
    negatives_BB = different_BB.clone()
    negatives_BB[2:] = False
    frames_alone_BB = torch.ones(8, 8)
    frames_alone_BB[:2] = -1
    # 6 of 8 frame sets are taken for matched with whatever clip, and all mismatched ones for such.
    found = shuffled_clip_accuracy(frames_alone_BB, negatives_BB, different_BB)
    assert float(found) == pytest.approx((6 / 8 + 1) / 2)


def test_recall_counts_rank_among_other_videos():
    logits_BB = torch.tensor([[5.0, 9, 1], [2, 3, 4], [0, 0, 1]])
    different_BB = different(["a", "b", "c"])
    assert float(recall(logits_BB, different_BB, 1)) == pytest.approx(1 / 3)
    assert float(recall(logits_BB, different_BB, 2)) == 1
    # the rival of the first row is of the same video now
    assert float(recall(logits_BB, different(["a", "a", "c"]), 1)) == pytest.approx(2 / 3)


def test_equal_logits_have_no_recall():
    different_BB = different([str(i) for i in range(20)])
    assert float(recall(torch.zeros(20, 20), different_BB, 5)) == 0


def test_warnings_name_what_is_wrong_and_nothing_else():
    good = {
        "match_loss": 0.2,
        "feature_directions": 12.0,
        "feature_spread": 0.2,
        "balanced_accuracy": 0.9,
        "shuffled_accuracy": 0.51,
    }
    assert training_warnings(good) == []
    (dead,) = training_warnings({**good, "kd_loss": 0.0})
    assert dead.startswith("the kd term of the loss is exactly 0")
    (lone,) = training_warnings({"loss": 0.0, "feature_directions": 12.0})
    assert "the loss is exactly 0" in lone
    (collapsed,) = training_warnings({**good, "feature_directions": 1.01})
    assert "collapsed" in collapsed
    (alike,) = training_warnings({**good, "feature_spread": 1e-4})
    assert "almost equal: their relative std is 0.01%" in alike
    (chance,) = training_warnings({**good, "balanced_accuracy": 0.52})
    assert "at chance: balanced pair accuracy 52%" in chance
    (blind,) = training_warnings({**good, "shuffled_accuracy": 0.8})
    assert "without the student" in blind
