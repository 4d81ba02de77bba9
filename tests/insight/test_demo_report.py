"""The demo's page: self-contained, and its numbers are those of the reports."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from transfer3d.insight.pictures import figures
from transfer3d.insight.report.demo import (
    DemoSummary,
    StudentResult,
    part_accuracies,
    table_rows,
    write_report,
)

CLASSES = ("0_left", "0_right", "1_left", "1_right")


def result(name, confusion):
    confusion = np.array(confusion)
    top1 = np.trace(confusion) / confusion.sum()
    log = [{"step": step, "split": "train", "loss": 1 / step} for step in range(1, 5)]
    report = {"confusion": confusion.tolist(), "video_top1": top1, "video_top5": 1.0}
    return StudentResult(name, f"from {name}", report, log)


@pytest.fixture
def facts():
    matching = [
        {
            "step": step,
            "split": "train",
            "balanced_accuracy": 0.5 + step / 20,
            "matched_accuracy": 0.6,
            "mismatched_accuracy": 0.4 + step / 10,
        }
        for step in range(1, 5)
    ]
    good, bad = np.eye(4, dtype=int) * 2, np.ones((4, 4), dtype=int)
    clip = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32), dtype=np.uint8)
    return DemoSummary(
        classes=CLASSES,
        students=[result("<scratch>", bad), result("taught", good)],
        correspondence_log=matching,
        teacher_accuracy=0.987,
        setting="4 labels",
        proof="Still clips: proved.",
        strips=[("0_left", clip)],
    )


def test_digit_and_motion_are_counted_apart():
    confusion = [[1, 3, 0, 0], [0, 4, 0, 0], [0, 0, 0, 4], [2, 0, 0, 2]]
    digit, motion = part_accuracies(confusion, CLASSES)
    assert digit == pytest.approx((4 + 4 + 4 + 2) / 16)
    assert motion == pytest.approx((1 + 4 + 0 + 2) / 16)


def test_the_page_shows_every_number_and_makes_no_request(facts, tmp_path):
    write_report(facts, tmp_path / "report.html", tmp_path / "summary.png")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for row in table_rows(facts):
        assert all(cell.replace("<", "&lt;").replace(">", "&gt;") in html for cell in row)
    assert "25.0 %" in html
    assert "98.7 %" in html
    assert facts.best.name == "taught"
    links = re.findall(r'(?:src|href)="([^"#][^"]*)', html)
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not re.search(r"<script|@import|url\(\s*['\"]?http", html)
    assert html.count("<svg") == 4
    assert Image.open(tmp_path / "summary.png").size[0] > 800


def test_a_film_strip_shows_the_frames_in_order():
    clip = np.zeros((3, 4, 16, 16), np.uint8)
    for t in range(4):
        clip[:, t] = 60 * t
    strip = np.asarray(Image.open(io.BytesIO(figures.film_strip(clip, frames=4, height=32))))
    width = strip.shape[1]
    centres = [strip[16, round(width * (t + 0.5) / 4), 0] for t in range(4)]
    assert strip.shape[0] == 32
    assert centres == [0, 60, 120, 180]
