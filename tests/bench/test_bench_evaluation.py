"""The evaluation's contest: ours and the plain loops give the same scores."""

import pytest
import torch
from media import write_numbered

from transfer3d.bench import evaluation
from transfer3d.bench.evaluation import evaluation_cases


@pytest.fixture
def small(monkeypatch):
    for name, value in {"CLIPS": 2, "SIZE": 32, "STUDENT": "p3d_tiny"}.items():
        monkeypatch.setattr(evaluation, name, value)


@pytest.mark.usefixtures("small")
def test_the_contestants_give_the_same_scores(tmp_path):
    for number in range(2):
        write_numbered(tmp_path / "videos" / f"{number}.mp4", 30 + number)
    cases = list(evaluation_cases(tmp_path / "videos", tmp_path))
    assert [case.at_least for case in cases] == [1.3, None]
    for case in cases:
        contest = case.build(torch.device("cpu"))
        assert contest.ours().shape == (1, evaluation.CLASSES)
        # Ours scales in the decoder, the loop scales whole frames.
        assert contest.difference is not None
        assert contest.difference() < 0.02
