"""The evaluation's comparison: ours and the plain loops give the same scores."""

import pytest
import torch
from media import encode, numbered_frames

from transfer3d.bench import evaluation
from transfer3d.bench.evaluation import evaluation_cases


@pytest.fixture
def small(monkeypatch):
    for name, value in {"CLIPS": 2, "SIZE": 32, "STUDENT": "p3d_tiny"}.items():
        monkeypatch.setattr(evaluation, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("height", "alike"),
    [
        (32, 1e-5),  # nothing is scaled: all else is the same
        (48, 0.02),  # ours scales in the decoder, the loop scales whole frames
    ],
)
def test_the_contestants_give_the_same_scores(tmp_path, height, alike):
    (tmp_path / "videos").mkdir()
    for number in range(2):
        frames = numbered_frames(30 + number, height)
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(encode(frames))
    cases = list(evaluation_cases(tmp_path / "videos", tmp_path))
    assert [case.at_least for case in cases] == [1.3, None]
    for case in cases:
        comparison = case.build(torch.device("cpu"))
        assert comparison.ours().shape == (1, evaluation.CLASSES)
        assert comparison.difference is not None
        assert comparison.difference() < alike
