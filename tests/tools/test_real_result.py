"""tools/real_result.py: its intervals, its splits, and that it runs on any folder and continues."""

import json
import math

import numpy as np
import pytest
from safetensors.torch import save_file

from transfer3d.data import VideoList
from transfer3d.errors import UsageError
from transfer3d.models.image import create_image_model


def test_an_interval_over_videos_is_the_binomial_one():
    from real.intervals import bootstrap

    right_N = (np.arange(400) < 280).astype(float)[None]
    found = bootstrap(right_N, [str(number) for number in range(400)])
    half = 1.96 * math.sqrt(0.7 * 0.3 / 400)
    assert found.mean == 0.7
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_videos_of_one_source_count_as_one():
    from real.intervals import bootstrap

    right_N = (np.arange(400) < 280).astype(float)[None]
    alone = bootstrap(right_N, [str(number) for number in range(400)])
    fours = bootstrap(right_N, [str(number // 4) for number in range(400)])
    assert (fours.high - fours.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.1)


def test_seeds_that_differ_widen_it_and_a_row_does_not_differ_from_itself():
    from real.intervals import bootstrap

    names = [str(number) for number in range(100)]
    steady = np.tile((np.arange(100) < 50).astype(float), (4, 1))
    moved = np.stack([(np.arange(100) < count).astype(float) for count in (20, 40, 60, 80)])
    narrow, wide = bootstrap(steady, names), bootstrap(moved, names)
    assert narrow.mean == wide.mean == 0.5
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    assert bootstrap(moved - moved, names) == (0, 0, 0)


def test_with_the_videos_it_needs_an_interval_ends_at_zero():
    from real.intervals import Interval, bootstrap

    differences = np.array([1] * 30 + [-1] * 20 + [0] * 50, dtype=float)
    few = bootstrap(differences[None], [str(number) for number in range(100)])
    assert few.low < 0 < few.high
    needed = few.videos_needed(100)
    assert 150 < needed < 250  # (1.96 * 0.7 / 0.1)^2 = 188
    many = bootstrap(np.resize(differences, (1, needed)), [str(number) for number in range(needed)])
    assert many.low == pytest.approx(0, abs=0.02)
    assert Interval(0, -1, 1).videos_needed(100) is None


def test_a_folder_without_splits_is_divided_by_source_and_class(digits_folder, tmp_path):
    from real.splits import hold_out, open_splits

    folder = digits_folder / "videos"
    sets = open_splits(str(folder))
    assert {name: len(videos) for name, videos in sets.items()} == {"train": 80, "val": 40, "test": 40}
    with pytest.raises(UsageError, match="has one source left"):
        open_splits(str(folder / "train"))  # two videos of each of 40 classes
    for number, file in enumerate(sorted((folder / "train").rglob("*.mp4"))[:16]):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[number % 2] / file.name).write_bytes(file.read_bytes())
    sets = open_splits(str(tmp_path))
    assert {name: len(videos) for name, videos in sets.items()} == {"train": 8, "val": 4, "test": 4}
    assert len({key for videos in sets.values() for key in videos.keys}) == 16
    files = sorted((folder / "val").rglob("*.mp4"))[:12]
    videos = VideoList(
        files, [number % 2 for number in range(12)], [str(number // 3) for number in range(12)]
    )
    rest, held = hold_out(videos, 0.5)
    assert not set(rest.sources) & set(held.sources)
    assert set(held.labels) == {0, 1}


SMALLEST = [
    *("teacher=test_efficientnet", "size=32", "frames=4", "stride=1", "batch_size=4", "bank=8"),
    *("finetune_steps=1", "transfer_steps=1", "rates=0.001", "penalties=0.01", "teacher_frames=1"),
]


def run(data, weights, out, *changes):
    import real_result

    real_result.main(
        data=str(data), weights=weights, unlabelled=None, out=out, seeds=1, workers=0,
        set_=[*SMALLEST, *changes],
    )  # fmt: skip
    return json.loads((out / "result.json").read_text())["records"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_tool_ended_in_between_and_continued(digits_folder, tmp_path, monkeypatch):
    from real.work import ROWS, Work

    weights, data = tmp_path / "weights.safetensors", digits_folder / "videos"
    save_file(create_image_model("test_efficientnet", "none", seed=1).state_dict(), weights)
    record, made = Work.record, []

    def until_the_third(self, row, seed, choice, split):
        made.append((row, split))
        if len(made) == 3:
            raise KeyboardInterrupt
        return record(self, row, seed, choice, split)

    monkeypatch.setattr(Work, "record", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(data, weights, tmp_path / "out")
    records = run(data, weights, tmp_path / "out")
    assert len(records) == 2 * len(ROWS)
    assert sorted(made[:2] + made[3:]) == sorted((row, split) for row in ROWS for split in ("val", "test"))
    assert {len(found["correct"]) for found in records} == {40}
    for found in records:
        assert found["top1"] == pytest.approx(sum(found["correct"]) / 40)
    table = (tmp_path / "out" / "table.md").read_text()
    for row in ROWS:
        (top1,) = [found["top1"] for found in records if found["row"] == row]
        assert f"| {row} | {100 * top1:.1f} [" in table
    run(data, weights, tmp_path / "out")
    assert len(made) == 11, "what was done is not done again"
    with pytest.raises(UsageError, match="was made with another setting"):
        run(data, weights, tmp_path / "out", "batch_size=8")


def test_a_setting_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--set: .*finetune_step"):
        run(tmp_path, tmp_path / "w", tmp_path, "finetune_step=3")
