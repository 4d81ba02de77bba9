"""tools/transfer_result.py: its statistics, its clips, and that no row and seed is run or counted twice."""

import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy.stats import ttest_rel

from transfer3d.data import SynthConfig
from transfer3d.data.augment import AugmentConfig
from transfer3d.data.pipeline import clip_batches
from transfer3d.data.source import open_videos
from transfer3d.data.subset import share_of
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.run.training.image_teacher import train_teacher

ROOT = Path(__file__).parents[2]
SMALLEST = [
    *("train=1", "val=1", "test=1", "unlabelled=40", "labels=1"),
    *("teacher_steps=2", "transfer_steps=2", "finetune_steps=2"),
]
STUDENTS_T = {2: 12.706, 3: 4.303, 5: 2.776, 8: 2.365}
"""97.5 % quantiles from a printed table, by the number of values."""


@pytest.mark.parametrize("count", STUDENTS_T)
def test_intervals_are_those_of_the_printed_table(count):
    from result.statistics import interval

    values = np.random.default_rng(count).uniform(0, 1, count)
    found = interval(values.tolist())
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    assert found.mean == pytest.approx(mean)
    assert found.half == pytest.approx(STUDENTS_T[count] * (variance / count) ** 0.5, rel=3e-4)


def test_differences_are_paired_by_seed():
    from result.statistics import paired_difference

    rng = np.random.default_rng(0)
    baseline = rng.uniform(0.1, 0.9, 8)
    ours = baseline + 0.1 + rng.normal(0, 0.02, 8)
    order = rng.permutation(8).tolist()
    found = paired_difference({seed: ours[seed] for seed in order}, dict(enumerate(baseline)) | {99: 0.0})
    expected = ttest_rel(ours, baseline).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((expected.low, expected.high))
    assert found.count == 8
    assert found.excludes_zero
    assert found.half < 0.05 < np.std(baseline), "the spread between seeds has not been taken out"


@pytest.mark.parametrize("teacher_view", ["none", "independent", "centre"])
def test_clips_from_memory_are_those_of_the_pipeline(digits_folder, teacher_view):
    from result.clips import memory_batches

    videos = share_of(open_videos(digits_folder / "shards", split="train", labelled=True), 0.5, seed=1)
    clip = ClipSpec(frames=4, stride=2, size=16, crop=16)
    augment = AugmentConfig(flip=True, colour=0.5)
    shared = {"batch_size": 16, "steps": 4, "seed": 5, "teacher_view": teacher_view}
    expected = clip_batches(videos, clip, augment=augment, **shared)
    batches = memory_batches(videos, clip, augment, cache={}, **shared)
    found = list(batches(0))
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.clips, other.clips)
        assert torch.equal(one.labels, other.labels)
        assert (one.keys, one.sources, one.teacher_view_keys) == (
            other.keys,
            other.sources,
            other.teacher_view_keys,
        )
        assert (one.teacher_clips is None) == (other.teacher_clips is None)
        if one.teacher_clips is not None and other.teacher_clips is not None:
            assert torch.equal(one.teacher_clips, other.teacher_clips)
    assert torch.equal(next(islice(batches(2), 1)).clips, found[2].clips)


def test_tuning_takes_the_best_mean_and_of_equals_the_cheaper():
    from result.tuning import choose

    scores = {(0.1, 300): (0.5, 0.3), (0.1, 900): (0.2, 0.6), (0.3, 300): (0.1, 0.65), (0.3, 900): (0.7, 0.0)}
    records = [
        {"tuned_row": "scratch", "lr": lr, "max_steps": steps, "top1": top1}
        for (lr, steps), found in scores.items()
        for top1 in found
    ]
    assert choose(records) == {"scratch": (0.1, 300)}  # 0.40 as (0.1, 900), 0.375, 0.35


def test_every_row_is_tuned_as_a_main_one_and_every_way_to_be_taught_is_a_recipe():
    from result.setting import MAIN, STUDIES, TRANSFERS, Setting, transfer_recipe
    from result.tuning import read_tuned

    rows = (*MAIN, *STUDIES)
    assert {row.tuned_as for row in rows} == {row.name for row in MAIN}
    assert set(read_tuned()) <= {row.name for row in MAIN}
    assert len({row.name for row in rows}) == len(rows)
    assert {row.transfer for row in rows} - {None} == set(TRANSFERS)
    recipes = [transfer_recipe(Setting(), name, 0) for name in TRANSFERS]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(TRANSFERS)


def test_a_row_has_the_image_networks_of_its_student_and_of_its_teacher():
    from result.setting import HALVES, MAIN

    networks = {row.name: row.image_networks for row in (*MAIN, *HALVES)}
    assert networks["scratch"] == set()
    assert networks["correspondence"] == networks["inflated"] == networks["frame teacher"] == {"0-9"}
    assert networks["halves: correspondence with 5-9"] == {"5-9"}
    assert networks["halves: inflated from 0-4"] == {"0-4"}
    assert networks["halves: inflated from 0-4 + correspondence with 5-9"] == {"0-4", "5-9"}


def test_an_image_network_learns_and_is_tested_on_its_digits_alone(monkeypatch, tmp_path):
    from transfer3d.run.training import image_teacher

    seen = []
    forward = image_teacher.ImageClassification.forward
    monkeypatch.setattr(
        image_teacher.ImageClassification,
        "forward",
        lambda self, batch: seen.extend(batch.labels.tolist()) or forward(self, batch),
    )
    monkeypatch.setattr(
        image_teacher,
        "still_digits",
        lambda _, *, size, **options: (np.zeros((40, 3, size, size), np.uint8), np.arange(40) % 10),
    )
    tested = []
    monkeypatch.setattr(
        image_teacher, "image_accuracy", lambda _, images, labels: tested.extend(labels.tolist()) or 1.0
    )
    shared = {"size": 32, "steps": 2, "seed": 0, "precision": "fp32", "console": Console(quiet=True)}
    train_teacher("test_resnet", tmp_path / "half.safetensors", SynthConfig(), digits=range(5, 10), **shared)
    assert set(seen) == set(tested) == set(range(5, 10))


def test_a_store_counts_once_and_goes_on_with_its_own_setting_only(tmp_path):
    from result.store import Store

    store = Store(tmp_path / "result.json", {"setting": {"labels": 4}})
    for row, seed, lr in (("b", 1, 0.1), ("a", 0, 0.1), ("b", 0, 0.1), ("b", 1, 0.3)):
        store.add({"row": row, "seed": seed, "lr": lr})
    again = Store(tmp_path / "result.json", {"setting": {"labels": 4}})
    assert [tuple(record.values()) for record in again.records] == [
        ("b", 0, 0.1),
        ("b", 1, 0.3),
        ("a", 0, 0.1),
    ]
    assert again.holds("b", 1, {"lr": 0.3})
    assert not again.holds("b", 1, {"lr": 0.1}), "tuning has chosen another rate since"
    assert not again.holds("a", 1, {"lr": 0.1})
    with pytest.raises(UsageError, match="another setting"):
        Store(tmp_path / "result.json", {"setting": {"labels": 5}})


@pytest.mark.parametrize("text", ["[1]", "{}", '{"records": [1]}', '{"records": 1}', "no JSON"])
def test_a_file_that_is_no_result_is_refused_and_left_alone(tmp_path, text):
    from result.store import Store

    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UsageError, match="result.json is not a result"):
        Store(tmp_path / "result.json", {})
    assert (tmp_path / "result.json").read_text() == text


def run(out, *changes, only=""):
    import transfer_result

    given = {"quick": False, "full": False, "tune": False, "page": False}
    transfer_result.main(out=out, set_=[*SMALLEST, *changes], seeds=2, processes=1, only=only, **given)
    return json.loads((out / "result.json").read_text())["records"]


@pytest.mark.slow
@pytest.mark.slow
def test_the_whole_tool_ended_in_between_and_gone_on_with(tmp_path, monkeypatch):
    from result import schedule

    finetune, ran = schedule.finetune, []

    def until_the_third(place, row, seed, chosen, split):
        ran.append((row.name, seed))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return finetune(place, row, seed, chosen, split)

    monkeypatch.setattr(schedule, "finetune", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    ended = json.loads((tmp_path / "result.json").read_text())["records"]
    assert [(record["row"], record["seed"]) for record in ended] == ran[:2]

    records = run(tmp_path)
    keys = [(record["row"], record["seed"]) for record in records]
    assert len(keys) == len(set(keys)) == 5 * 2
    assert sorted(ran[:2] + ran[3:]) == sorted(keys), "what stood in the JSON was run again"
    before = (tmp_path / "result.json").read_bytes()
    run(tmp_path)
    assert len(ran) == 11
    assert (tmp_path / "result.json").read_bytes() == before

    assert {record["labelled_videos"] for record in records} == {40}
    assert {record["row"]: record["transfer"] is not None for record in records} == {
        "scratch": False,
        "correspondence": True,
        "inflated": False,
        "inflated + correspondence": True,
        "frame teacher": False,
    }
    for record in records:
        assert max(record["top1"], 0) <= min(record["digit"], record["motion"])
        assert (40 * record["top1"]) % 1 == pytest.approx(0, abs=1e-6)

    by_row = {row: [r["digit"] for r in records if r["row"] == row] for row, _ in keys}
    table = (tmp_path / "table.md").read_text().splitlines()
    line = next(line for line in table if line.startswith("| frame teacher"))
    digits = np.array(by_row["frame teacher"])
    half = STUDENTS_T[2] * digits.std(ddof=1) / 2**0.5
    shown = line.split("|")[3].strip().replace("±", "").split()
    assert [float(number) for number in shown] == pytest.approx([100 * digits.mean(), 100 * half], abs=0.06)
    assert line.rstrip("| ").endswith("2")


@pytest.mark.slow
def test_what_was_taught_in_another_setting_is_not_gone_on_with(tmp_path, monkeypatch):
    from result import schedule

    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "finetune", end)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, only="correspondence")
    assert list((tmp_path / "taught").iterdir())
    with pytest.raises(UsageError, match="was made with another setting"):
        run(tmp_path, "transfer_steps=3", only="correspondence")


def test_rows_that_are_not_there_and_labels_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no row has 'corespondence' in its name"):
        run(tmp_path, only="corespondence")
    with pytest.raises(UsageError, match="labels=9: there are train=1 videos"):
        run(tmp_path, "labels=9")
    assert not list(tmp_path.iterdir())


def test_the_page_shows_what_the_records_say():
    from result.tables import BEGIN, END, markdown

    found = json.loads((ROOT / "docs" / "results" / "transfer.json").read_text(encoding="utf-8"))
    records = found.pop("records")
    shown = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown == "\n" + markdown(found, records)


def test_the_curve_has_its_own_records_and_the_main_ones_at_their_number_of_labels(tmp_path):
    from result.tables import label_curve, write_curve

    def record(row, study, labels, seed, top1):
        return {"row": row, "study": study, "labels_per_class": labels, "seed": seed, "top1": top1}

    main = [record("scratch", "main", 5, seed, 0.5 + seed / 10) for seed in range(3)]
    assert not write_curve(main, tmp_path / "curve.png")
    curve = [
        record(f"{row}, {labels} labels", "labels", labels, seed, labels / 60 + seed / 20)
        for row in ("scratch", "inflated", "inflated + correspondence")
        for labels in (50, 1, 10)
        for seed in range(3)
    ]
    found = label_curve(main + curve, "scratch")
    assert list(found) == [1, 5, 10, 50]
    assert [point.mean for point in found.values()] == pytest.approx([1 / 15, 0.6, 13 / 60, 53 / 60])
    assert found[5].half == pytest.approx(STUDENTS_T[3] * 0.1 / 3**0.5, rel=3e-4)
    assert {point.count for point in label_curve(curve, "inflated").values()} == {3}
    assert write_curve(main + curve, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert len(picture.convert("L").getcolors() or []) > 20  # lines, letters, and smooth edges


def test_tables_go_between_the_markers_of_the_page(tmp_path):
    from result.tables import BEGIN, END, write_page

    page = tmp_path / "figures.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("| a \\1 |\n", "| b |\n"):
        write_page(page, text)
        assert page.read_text() == f"before\n{BEGIN}\n{text}{END}\nafter\n"


@pytest.mark.slow
@pytest.mark.proc
def test_killed_it_leaves_no_process_behind_and_goes_on(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "tools" / "transfer_result.py"),
        "-o",
        str(tmp_path),
        "--seeds",
        "2",
    ]
    command += ["--processes", "2", *(word for change in SMALLEST for word in ("--set", change))]
    result = tmp_path / "result.json"

    def records():
        return json.loads(result.read_text())["records"] if result.exists() else []

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        while not records() and running.poll() is None:
            time.sleep(0.05)
        children = psutil.Process(running.pid).children(recursive=True)
        running.kill()
    assert len(children) >= 2
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left
    before = records()
    subprocess.run(command, check=True, capture_output=True)
    after = records()
    keys = [(record["row"], record["seed"]) for record in after]
    assert len(keys) == len(set(keys)) == 10
    assert 0 < len(before) <= 10
    assert all(record in after for record in before)
