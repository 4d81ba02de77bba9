"""`transfer3d bench correspond`: a plain step that does what the paper's text says."""

import json
import re

import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from transfer3d.bench import correspondence
from transfer3d.bench.baselines import load_baseline
from transfer3d.cli.main import app
from transfer3d.layout import ClipSpec
from transfer3d.models.image import create_image_model
from transfer3d.objectives.teacher import FrozenTeacher


def test_the_plain_step_judges_the_same_pairs_with_the_same_features():
    """Its first loss is what the teacher's own features and the head give, pair by pair."""
    torch.manual_seed(0)
    network = create_image_model("test_resnet", "none", num_classes=0)
    student = nn.Sequential(nn.Conv3d(3, 4, 3, stride=4), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    plain = load_baseline("correspond_plain").PlainCorrespondence(network, student, (96, 4))
    clips_u8 = torch.randint(0, 256, (3, 3, 4, 32, 32), dtype=torch.uint8)
    teacher = FrozenTeacher(network)
    frames_BD, clips_BD = teacher(clips_u8).features, student((clips_u8.float() / 255 - 0.5) / 0.25)
    expected = torch.tensor(0.0)
    for clip in range(3):
        for frames, target in ((clip, 1), ((clip - 1) % 3, 0)):
            logits = plain.head(torch.cat([frames_BD[frames], clips_BD[clip]]))
            expected = expected + functional.cross_entropy(logits, torch.tensor(target)) / 6
    losses, backward = [], torch.Tensor.backward

    def noted(loss):
        losses.append(float(loss.detach()))
        backward(loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", noted)
        plain.step(clips_u8, (teacher.mean, teacher.std), ((0.5,) * 3, (0.25,) * 3))
    assert losses == [pytest.approx(float(expected), rel=1e-4)]


def test_the_teacher_as_given_has_the_same_features_and_sees_every_frame():
    network = create_image_model("test_resnet", "none", num_classes=4)
    clips_u8, seen = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8), []
    network.conv1.register_forward_hook(lambda _, __, maps: seen.append(len(maps)))
    given, ours = correspondence.GivenTeacher(network)(clips_u8), FrozenTeacher(network)(clips_u8)
    assert seen[0] == 8
    torch.testing.assert_close(given.features, ours.features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given.logits, ours.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_command(monkeypatch):
    for name, value in (("TEACHER", "test_resnet"), ("CLIPS", 2), ("STEPS", 1)):
        monkeypatch.setattr(correspondence, name, value)
    monkeypatch.setattr(correspondence, "CLIP", ClipSpec(frames=16, stride=1, size=32, crop=32))
    done = CliRunner().invoke(app, ["bench", "correspond", "--pairs", "1", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["results"]
    assert len(rows) == 2 + len(correspondence.HALVES)
    assert all(row["ratio"] > 0 for row in rows)
    rows = rows[:2]
    assert [row["at_least"] for row in rows] == [4.0, 6.0]
    for row in rows:
        clips, pairs = row["per_second"]["clips"], row["per_second"]["pairs"]
        # Two clips: all four pairs, and in the plain step two matched and two mismatched ones.
        assert clips == pytest.approx([2000 / row["ours_ms"], 2000 / row["baseline_ms"]])
        assert pairs == pytest.approx([2 * clips[0], 2 * clips[1]])
    message = CliRunner().invoke(app, ["bench", "correspond", "--pairs", "1"]).stdout
    assert re.search(r"all pairs, features cached, per second: clips [\d.e+]+ / [\d.e+]+, pairs ", message)
