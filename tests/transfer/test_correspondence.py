"""The matching task against brute force over pairs."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from transfer3d.transfer.correspondence import PairHead, correspondence_loss


def test_all_pairs_equal_a_network_over_concatenations():
    torch.manual_seed(0)
    head = PairHead(5, 7, hidden=(11, 3))
    frames_BD, clips_BD = torch.randn(4, 5), torch.randn(4, 7)
    fc1 = nn.Linear(12, 11)
    fc1.weight.data = torch.cat([head.fc1_frames.weight, head.fc1_clip.weight], dim=1).detach()
    fc1.bias.data = head.fc1_clip.bias.detach()
    plain = nn.Sequential(fc1, nn.ReLU(), head.fc2, nn.ReLU(), head.classifier)
    logits_BB2 = head(frames_BD, clips_BD)
    for i in range(4):
        for j in range(4):
            expected = plain(torch.cat([frames_BD[i], clips_BD[j]]))
            torch.testing.assert_close(logits_BB2[i, j], expected)


def brute_force(logits_BB2, sources):
    positives, negatives, right = [], [], {"matched": [], "mismatched": []}
    for i, frames_source in enumerate(sources):
        for j, clip_source in enumerate(sources):
            if i == j:
                positives.append(functional.cross_entropy(logits_BB2[i, j], torch.tensor(1)))
                right["matched"].append(float(logits_BB2[i, j].argmax() == 1))
            elif frames_source != clip_source:
                negatives.append(functional.cross_entropy(logits_BB2[i, j], torch.tensor(0)))
                right["mismatched"].append(float(logits_BB2[i, j].argmax() == 0))
    loss = (sum(positives) / len(positives) + sum(negatives) / len(negatives)) / 2
    means = {name: sum(values) / len(values) for name, values in right.items()}
    return loss, means, len(negatives)


@pytest.mark.parametrize("sources", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", "a", "c", "c")])
def test_in_batch_loss_equals_loops_over_pairs(sources):
    torch.manual_seed(1)
    logits_BB2 = torch.randn(len(sources), len(sources), 2, requires_grad=True)
    report = correspondence_loss(logits_BB2, sources)
    loss, means, _ = brute_force(logits_BB2, sources)
    torch.testing.assert_close(report.total, loss)
    assert float(report.parts["matched_accuracy"]) == pytest.approx(means["matched"])
    assert float(report.parts["mismatched_accuracy"]) == pytest.approx(means["mismatched"])
    assert float(report.parts["balanced_accuracy"]) == pytest.approx(sum(means.values()) / 2)


def test_an_undecided_head_scores_log_two_however_many_negatives():
    logits_BB2 = torch.zeros(6, 6, 2)
    assert float(correspondence_loss(logits_BB2, list("abcdef")).total) == pytest.approx(0.693147, abs=1e-5)


def test_one_to_one_uses_one_negative_of_another_video_for_each_clip():
    sources = ("a", "b", "a", "c", "d", "d")
    chosen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        logits_BB2 = torch.zeros(6, 6, 2, requires_grad=True)
        correspondence_loss(logits_BB2, sources, "one-to-one").total.backward()
        assert logits_BB2.grad is not None
        used = logits_BB2.grad.abs().sum(-1) > 0
        assert used.diagonal().all()
        negatives = [(i, j) for i, j in used.nonzero().tolist() if i != j]
        assert sorted(j for _, j in negatives) == list(range(6))
        assert all(sources[i] != sources[j] for i, j in negatives)
        chosen |= set(negatives)
    assert len(chosen) > 12  # they are drawn, not fixed


@pytest.mark.parametrize("pairs", ["in-batch", "one-to-one"])
def test_a_batch_of_one_video_counts_its_matched_half_alone(pairs):
    report = correspondence_loss(torch.zeros(3, 3, 2), ("a", "a", "a"), pairs)
    assert float(report.total) == pytest.approx(0.693147 / 2, abs=1e-5)
    assert set(report.parts) == {"loss", "matched_accuracy"}
