"""Peers' protocols look at the views that they name; their class accuracy from ours."""

import numpy as np
import pytest
import torch
from blocks import ROOT, blocks_of

from transfer3d.errors import UsageError
from transfer3d.evaluation.metrics import video_metrics
from transfer3d.evaluation.protocols import PROTOCOLS, check_protocol, named_protocol
from transfer3d.evaluation.scores import Scores
from transfer3d.models.factory import create_model

PEERS = [name for name in PROTOCOLS if name.endswith("-10x3")]


@pytest.mark.parametrize("name", PEERS)
def test_thirty_views_of_the_full_short_side(name):
    student = create_model("p3d_tiny", num_classes=2)
    protocol = named_protocol(name)
    check_protocol(protocol, student)
    assert protocol.plan.views_of_a_video(student.clip) == 30
    indices, _ = protocol.plan.indices(100, 25.0, student.clip)
    assert indices.shape == (10, student.clip.frames)
    clip = protocol.clip_for(student.clip)
    assert clip.size == clip.crop
    assert protocol.pooling == "mean"


@pytest.mark.parametrize("name", PEERS)
def test_students_of_several_clips_are_refused(name):
    with pytest.raises(UsageError, match="several units together"):
        check_protocol(named_protocol(name), create_model("v4d_tiny", num_classes=2))


def test_there_are_three():
    assert len(PEERS) == 3


def mean_class_accuracy(labels, predictions):
    """mmaction2's, from its rule: classes of labels or predictions; one without videos counts 0."""
    classes = sorted({*labels, *predictions})
    shares = []
    for k in classes:
        own = [prediction == k for label, prediction in zip(labels, predictions, strict=True) if label == k]
        shares.append(sum(own) / len(own) if own else 0.0)
    return sum(shares) / len(shares)


def test_the_pages_lines_turn_our_class_accuracy_into_mmaction2s():
    rng = np.random.default_rng(0)
    block = next(block for block in blocks_of(ROOT / "docs" / "peers.md") if "confusion" in block.text)
    for _ in range(20):
        labels, predictions = rng.integers(0, 4, 12).tolist(), rng.integers(0, 6, 12).tolist()
        scores = torch.nn.functional.one_hot(torch.tensor(predictions), 6).float()
        keys = [str(number) for number in range(12)]
        report = video_metrics(
            Scores(keys, [(label,) for label in labels], list(scores[:, None])), list("abcdef")
        )
        names = {"report": report}
        exec(block.text, names)
        assert names["theirs"] == pytest.approx(mean_class_accuracy(labels, predictions))
        present = [share for share in report["per_class"].values() if share is not None]
        assert report["mean_class_accuracy"] == pytest.approx(np.mean(present))
