"""Frame-order sensitivity: hand-made students that cannot see order, or see nothing else."""

import json
import math
import re

import numpy as np
import pytest
import timm
import torch
from media import Here, encode
from torch import nn
from typer.testing import CliRunner

import transfer3d
from transfer3d.cli.main import app
from transfer3d.data import workers
from transfer3d.data.decode import Video
from transfer3d.data.source import open_videos
from transfer3d.data.views import ViewPlan
from transfer3d.engine.distributed import make_accelerator
from transfer3d.evaluation.protocols import Protocol
from transfer3d.evaluation.scores import Scores
from transfer3d.evaluation.scoring import score_videos
from transfer3d.insight.order import (
    CLIP_ORDERS,
    OrderResult,
    order_figure,
    order_results,
    orders_for,
    split_orders,
)
from transfer3d.layout import ClipSpec

STEPS = {"left": -4, "right": 4, "stands": 0}
FRAMES = 9


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """Three videos of each class: a picture of noise that moves to the left, to the right, or not."""
    root = tmp_path_factory.mktemp("moving")
    rng = np.random.default_rng(0)
    for name, step in STEPS.items():
        (root / "test" / name).mkdir(parents=True)
        for number in range(3):
            picture = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            frames = np.stack([np.roll(picture, step * t, axis=1) for t in range(FRAMES)])
            (root / "test" / name / f"{number}.mp4").write_bytes(encode(frames))
    return root


class Watcher(nn.Module):
    """A student by hand: `judge` makes scores of clips."""

    def __init__(self, judge, **clip):
        super().__init__()
        self.judge, self.model_name, self.trunk = judge, "p3d_tiny", nn.Identity()
        self.clip = ClipSpec(size=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3, **clip)

    multi_label = False

    def forward(self, clips):
        return self.judge(clips.float() / 127.5 - 1)

    def probabilities(self, logits):
        return logits.softmax(-1)


def direction(clips_BCTHW):
    """How well each frame, moved by four pixels to the left, to the right or not, becomes the next."""
    frames, following = clips_BCTHW[:, :, :-1], clips_BCTHW[:, :, 1:]
    misses = [(frames.roll(step, -1) - following).abs().mean((1, 2, 3, 4)) for step in STEPS.values()]
    return -10 * torch.stack(misses, -1)


def agresti_min(lost, gained, count):
    """By its other description: Wald's interval with half a video more in each of the table's four cells."""
    changes, videos = np.array([-1, 0, 1]), np.array([gained + 0.5, count - lost - gained + 1, lost + 0.5])
    mean = np.average(changes, weights=videos)
    deviation = math.sqrt(np.average((changes - mean) ** 2, weights=videos) / videos.sum())
    return mean - 1.96 * deviation, mean + 1.96 * deviation


def results_of(student, folder):
    videos = open_videos(folder, split="test", labelled=True)
    plan = ViewPlan(orders=orders_for(student.clip))
    protocol = Protocol(name="dense", source="", plan=plan)
    scores = score_videos(student, videos, make_accelerator("fp32"), protocol)
    found = order_results(scores, plan.orders, videos.classes)
    return {result.order: result for result in found}


def test_a_student_of_motion_takes_a_reversed_film_for_the_opposite_motion(moving):
    results = results_of(Watcher(direction, frames=8), moving)
    assert list(results) == list(CLIP_ORDERS)
    forward, reversed_, still = (results[name] for name in ("forward", "frames_reversed", "still"))
    assert (forward.top1, forward.drop, forward.changed, forward.moves) == (1, 0, 0, [])
    assert reversed_.top1 == pytest.approx(1 / 3)
    assert reversed_.drop == pytest.approx(2 / 3)
    assert reversed_.changed == pytest.approx(2 / 3)
    assert sorted(reversed_.moves) == [("left", "right", 3), ("right", "left", 3)]
    assert still.top1 == pytest.approx(1 / 3)
    assert sorted(still.moves) == [("left", "stands", 3), ("right", "stands", 3)]
    assert still.drop_95 == pytest.approx(agresti_min(lost=6, gained=0, count=9), abs=1e-4)


def test_a_video_level_student_is_asked_for_the_order_of_its_units_too(tmp_path):
    """One that judges whether its units, or the frames in them, become brighter."""
    for name, ramp in {"darker": range(230, 20, -10), "lighter": range(20, 230, 10)}.items():
        (tmp_path / "test" / name).mkdir(parents=True)
        frames = np.stack([np.full((32, 32, 3), level, np.uint8) for level in ramp])
        (tmp_path / "test" / name / "0.mp4").write_bytes(encode(frames))

    def by_units(clips_BUCTHW):
        units_BU = clips_BUCTHW.mean((2, 3, 4, 5))
        rise_B = units_BU[:, -1] - units_BU[:, 0]
        return torch.stack([-rise_B, rise_B], -1)

    def by_frames(clips_BUCTHW):
        frames_BT = clips_BUCTHW.mean((1, 2, 4, 5))
        rise_B = frames_BT[:, -1] - frames_BT[:, 0] + 1e-3
        return torch.stack([-rise_B, rise_B], -1)

    coarse = results_of(Watcher(by_units, frames=3, units=4), tmp_path)
    fine = results_of(Watcher(by_frames, frames=3, units=4), tmp_path)
    top1 = {name: (coarse[name].top1, fine[name].top1) for name in coarse}
    assert top1.pop("units_shuffled")[1] == 1
    assert top1.pop("frames_shuffled")[0] == 1
    assert top1 == {
        "forward": (1, 1),
        "frames_reversed": (1, 0),
        "still": (1, 0.5),
        "units_reversed": (0, 1),
    }


def test_each_video_is_decoded_once_for_all_orders(moving, monkeypatch):
    opened = []

    class Counted(Video):
        def __init__(self, source, *, name="", **options):
            opened.append(name)
            super().__init__(source, name=name, **options)

    monkeypatch.setattr(workers, "Decoder", lambda: Here(Counted))
    results_of(Watcher(direction, frames=8), moving)
    assert len(opened) == len(set(opened)) == 9


def test_the_numbers_by_hand():
    """Four videos, two orders, two views each; the last one has two labels."""
    forward = [[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]
    backward = [[0.1, 0.9, 0.0], [0.6, 0.4, 0.0], [0.2, 0.1, 0.7], [0.1, 0.8, 0.1]]
    views = [torch.tensor([old, old, new, new]) for old, new in zip(forward, backward, strict=True)]
    scales = [torch.tensor([0, 1, 0, 1])] * 4
    scores = Scores(list("abcd"), [(0,), (1,), (2,), (1, 2)], views, scales, "windows")
    orders = ("forward", "frames_reversed")
    parts = split_orders(scores, orders)
    torch.testing.assert_close(parts[1].videos_NK, torch.tensor(backward))
    assert parts[1].scale_V[0].tolist() == [0, 1]
    first, second = order_results(scores, orders, ["x", "y", "z"])
    assert (first.top1, first.drop) == (0.5, 0)
    # Right before: a and d. Right backwards: c and d. Lost: 1, 0, -1, 0.
    assert (second.top1, second.drop, second.changed) == (0.5, 0, 0.75)
    assert second.drop_95 == pytest.approx(agresti_min(lost=1, gained=1, count=4), abs=1e-4)
    assert sorted(second.moves) == [("x", "y", 1), ("y", "z", 1), ("z", "y", 1)]


def test_the_most_frequent_move_comes_first():
    forward = torch.eye(3)[[0, 1, 1, 2]]
    backward = torch.eye(3)[[1, 2, 2, 2]]
    views = list(torch.stack([forward, backward], 1))
    scores = Scores(list("abcd"), [(0,)] * 4, views, [torch.tensor([0, 0])] * 4, "mean")
    _, second = order_results(scores, ("forward", "frames_reversed"), ["x", "y", "z"])
    assert second.moves == [("y", "z", 2), ("x", "y", 1)]


def test_the_figure_says_how_far_top_1_falls_and_where_chance_is():
    shared = {"drop_95": (-0.002, 0.4), "moves": []}
    figure = order_figure(
        [
            OrderResult(order="forward", top1=0.75, drop=0, changed=0, **shared),
            OrderResult(order="still", top1=0.5, drop=0.25, changed=0.375, **shared),
        ],
        chance=0.25,
        title="t",
    )
    left, right = figure.axes
    assert [text.get_text().strip() for text in left.texts] == [
        "75.0 %", "50.0 %  (-25.0; -40.0 to +0.2)", "chance 25 %"
    ]  # fmt: skip
    assert [text.get_text() for text in right.texts] == ["the reference", "37.5 %"]
    assert [[bar.get_width() for bar in axes.patches] for axes in (left, right)] == [[75, 50], [0, 37.5]]


@pytest.fixture(scope="module")
def blind(tmp_path_factory, moving):
    """An inflated student that has not been trained: each frame by itself, then a mean."""
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    inflated = transfer3d.inflate(timm.create_model("test_resnet"), "i3ds", num_classes=3)
    student = inflated.student
    student.head.weight.data = torch.randn(
        3, student.num_features, generator=torch.Generator().manual_seed(0)
    )
    student.clip = ClipSpec.from_dict({**student.clip.to_dict(), "frames": 8, "size": 32, "crop": 32})
    transfer3d.save(student, path, class_names=sorted(STEPS))
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["order", *map(str, arguments), "--workers", "0", "--precision", "fp32"])


def test_an_inflated_student_does_not_see_order(blind, moving, tmp_path):
    picture = tmp_path / "order.png"
    done = run(blind, "--data", moving, "--json", "-o", picture)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["scored"] == 9
    assert list(report["orders"]) == list(CLIP_ORDERS)
    for name in ("frames_reversed", "frames_shuffled"):
        assert (report["orders"][name]["drop"], report["orders"][name]["changed"]) == (0, 0)
        assert report["orders"][name]["moves"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = run(blind, "--data", moving, "-o", tmp_path / "order.svg")
    assert "chance 33.3 %" in (tmp_path / "order.svg").read_text()
    assert "frames shuffled" in shown.output
    assert re.search(r"frames shuffled +33.3% +0.0 +-\d+.\d to \d+.\d +0.0%", shown.output), shown.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "order.pdf"], 2, "pictures are .png or .svg"),
        (["-o", "."], 2, "is a folder"),
        (["--protocol", "pd3"], 2, "did you mean 'p3d'"),
        (["-o", f"{__file__}/order.png"], 5, "is a file"),
    ],
)
def test_refusals_come_before_the_work(blind, moving, arguments, code, message, monkeypatch):
    monkeypatch.setattr("transfer3d.run.inference.order.score_videos", None)
    done = run(blind, "--data", moving, *arguments)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
