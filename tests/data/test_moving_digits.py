"""The built-in dataset: what makes it honest, and what its folder holds."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from endless import ENDLESS, place_endless
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from transfer3d.data.decode import Video
from transfer3d.data.digits import drawings
from transfer3d.data.moving_digits import (
    CLASSES,
    MOTIONS,
    PARTS,
    SynthConfig,
    draw_video,
    still_digits,
    synthesise,
)
from transfer3d.data.source import open_videos
from transfer3d.errors import SetupError, UsageError
from transfer3d.files import LOCK, PARTIAL

QUIET = Console(quiet=True)
TINY = SynthConfig(frames=4, size=16, train=1, val=1, test=1, unlabelled=5, stills=1)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def configuration(folder):
    return SynthConfig.model_validate_json((folder / "synth.json").read_text())


def test_drawings_are_split_once_and_for_all():
    labels = load_digits().target
    seen = []
    for split in ("train", "val", "test"):
        for digit in range(10):
            mine = drawings(split, digit)
            assert set(labels[list(mine)]) == {digit}
            seen += mine
        share = sum(len(drawings(split, digit)) for digit in range(10)) / 1797
        assert share == pytest.approx({"train": 0.6, "val": 0.15, "test": 0.25}[split], abs=0.01)
    assert sorted(seen) == list(range(1797))


def test_no_drawing_is_in_two_parts_of_a_written_set(digits_folder):
    shown = {}
    for part in PARTS:
        videos = open_videos(digits_folder, split=part, labelled=part != "unlabelled")
        index = json.loads((digits_folder / "shards" / "index.json").read_text())
        samples = [s for shard in index["shards"] if shard["split"] == part for s in shard["samples"]]
        facts = [_facts(digits_folder / "shards", index, s) for s in samples]
        shown[part] = {f["drawing"] for f in facts}
        assert len(videos) == len(facts)
    assert shown["train"].isdisjoint(shown["val"] | shown["test"])
    assert shown["val"].isdisjoint(shown["test"])
    train = {d for digit in range(10) for d in drawings("train", digit)}
    assert shown["unlabelled"] <= train


def _facts(folder, index, sample):
    shard = next(s for s in index["shards"] if sample in s["samples"])
    offset, size, _ = sample["members"]["json"]
    return json.loads((folder / shard["file"]).read_bytes()[offset : offset + size])


def test_the_same_seed_gives_the_same_bytes_and_another_others(tmp_path, digits_folder):
    synthesise(tmp_path / "again", configuration(digits_folder), QUIET)
    assert files(tmp_path / "again") == files(digits_folder)
    one, same, other = (draw_video(SynthConfig(seed=s), "val", 7) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.frames, same.frames)
    assert not np.array_equal(one.frames, other.frames)
    assert not np.array_equal(draw_video(SynthConfig(seed=1), "val", 47).frames, one.frames)


def test_the_folder(digits_folder):
    for part, count in {"train": 2, "val": 1, "test": 1}.items():
        classes = sorted(p.name for p in (digits_folder / "videos" / part).iterdir())
        assert classes == sorted(CLASSES)
        assert {len(list((digits_folder / "videos" / part / name).iterdir())) for name in classes} == {count}
        stills = sorted((digits_folder / "images" / part).rglob("*.png"))
        assert [p.parent.name for p in stills] == [str(d) for d in range(10)]
        assert Image.open(stills[0]).size == (48, 48)
    assert len(list((digits_folder / "videos" / "unlabelled").iterdir())) == 60
    assert not list(digits_folder.rglob(".partial*"))
    with Video(next((digits_folder / "videos" / "train" / "3_left").iterdir())) as video:
        facts = video.info()
    assert (facts.frames, facts.height, facts.width) == (12, 48, 48)


def test_a_video_is_what_was_drawn(digits_folder):
    videos = open_videos(digits_folder, split="train", labelled=True)
    for key, label in list(zip(videos.keys, videos.labels, strict=True))[::17]:
        drawn = draw_video(configuration(digits_folder), "train", int(key.removeprefix("train-")))
        with Video(videos.open(videos.keys.index(key))) as video:
            decoded = video.read(np.arange(12))
        assert drawn.label == label
        assert np.abs(decoded.astype(int) - drawn.frames).mean() < 4


def centres(config, part, index):
    """Returns the digit's centre of mass, [T, 2], on a black background."""
    ink = draw_video(config, part, index).frames[..., 0].astype(float)
    grid = np.arange(ink.shape[1])
    return np.stack([(ink.sum(2) @ grid), (ink.sum(1) @ grid)], 1) / ink.sum((1, 2))[:, None]


@pytest.mark.slow
def test_one_frame_does_not_tell_the_motion_but_movement_does():
    config = SynthConfig(background="plain", train=20)
    paths = np.stack([centres(config, "train", i) for i in range(800)])
    motions = np.arange(800) % 4
    for frame in (0, 7, 15):
        guess = KNeighborsClassifier(15).fit(paths[:500, frame], motions[:500])
        assert guess.score(paths[500:, frame], motions[500:]) < 0.34  # chance 0.25, standard deviation 0.025
    # At the end of its way a digit jumps back: the median step is its motion.
    steps = np.median(np.diff(paths, axis=1), axis=1)
    ways = np.array(list(MOTIONS.values()))
    assert ((steps @ ways.T).argmax(1) == motions).mean() > 0.99


@pytest.mark.parametrize("poses", ["slight", "free"])
def test_the_digit_stays_in_the_frame(poses):
    for i in range(200):
        ink = draw_video(SynthConfig(background="plain", poses=poses), "unlabelled", i).frames[..., 0]
        edge = max(ink[:, 0].max(), ink[:, -1].max(), ink[:, :, 0].max(), ink[:, :, -1].max())
        assert ink.max() > 200
        assert edge < 128


def test_free_poses_turn_and_size_digits_much_more():
    def stands(poses):
        """Returns how large each video's ink is, and how far it leans: its axis, for the upright digit 1."""
        sizes, leans = [], []
        for index in range(60):
            ink = draw_video(SynthConfig(background="plain", poses=poses), "train", 4 + 40 * index).frames[8]
            rows, columns = np.nonzero(ink[..., 0] > 100)
            spread = np.cov(np.stack([rows, columns]))
            sizes.append(np.sqrt(np.trace(spread)))
            leans.append(np.degrees(np.arctan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1]) / 2))
        return np.std(sizes) / np.mean(sizes), np.std(leans)

    (slight_size, slight_lean), (free_size, free_lean) = stands("slight"), stands("free")
    assert free_size > 1.3 * slight_size
    assert free_lean > 1.3 * slight_lean


def test_a_dataset_from_before_there_were_poses_is_known(digits_folder, tmp_path):
    stored = json.loads((digits_folder / "synth.json").read_text())
    assert stored.pop("poses") == "slight"
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "index.json").write_text("{}")
    (tmp_path / "synth.json").write_text(json.dumps(stored))
    synthesise(tmp_path, configuration(digits_folder), QUIET)
    assert (tmp_path / "shards" / "index.json").read_text() == "{}"  # it is left alone
    free = configuration(digits_folder).model_copy(update={"poses": "free"})
    with pytest.raises(UsageError, match="another moving-digits set"):
        synthesise(tmp_path, free, QUIET)


def test_strong_backgrounds_give_a_video_away_and_weak_ones_hardly():
    def corners(kind, index):
        frames = draw_video(SynthConfig(background=kind), "unlabelled", index).frames.astype(float)
        return frames[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(16, 12)

    spread = {}
    for kind in ("plain", "weak", "strong"):
        seen = np.stack([corners(kind, i) for i in range(40)])
        np.testing.assert_array_equal(seen, seen[:, :1].repeat(16, 1))  # it stands still
        spread[kind] = seen[:, 0].std(0).mean()
    assert spread["plain"] == 0
    assert 2 < spread["weak"] < 20
    assert spread["strong"] > 40


def test_still_digits_come_from_their_split():
    images, digits = still_digits("test", size=32, count=300)
    assert images.shape == (300, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.bincount(digits).tolist() == [30] * 10
    again, _ = still_digits("test", size=32, count=300)
    np.testing.assert_array_equal(images, again)
    others, _ = still_digits("train", size=32, count=300)
    assert not np.array_equal(images, others)
    assert len(still_digits("val", size=16)[0]) == sum(len(drawings("val", digit)) for digit in range(10))


def test_a_still_digit_can_be_read():
    images, digits = still_digits("train", size=24, background="plain", count=600)
    flat = _centred(images)
    tests, truth = still_digits("test", size=24, background="plain", count=200)
    guess = KNeighborsClassifier(3).fit(flat, digits)
    assert guess.score(_centred(tests), truth) > 0.85


def _centred(images):
    """Shifts each image so that its centre of mass is its middle, and flattens it."""
    rows = []
    for image in images[:, 0].astype(float):
        grid = np.arange(24)
        shift = [round(11.5 - image.sum(axis) @ grid / image.sum()) for axis in (1, 0)]
        rows.append(np.roll(image, shift, (0, 1)).ravel())
    return np.stack(rows)


def test_a_finished_set_is_left_alone(tmp_path):
    synthesise(tmp_path / "set", TINY, QUIET)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")}
    synthesise(tmp_path / "set", TINY, QUIET)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")} == before


def test_an_unfinished_set_is_redone_to_the_same_bytes(tmp_path):
    synthesise(tmp_path / "set", TINY, QUIET)
    whole = files(tmp_path / "set")
    (tmp_path / "set" / "shards" / "index.json").unlink()
    (tmp_path / "set" / "videos" / "train").rename(tmp_path / "set" / "videos" / ".partial-train")
    (tmp_path / "set" / "shards" / "digits-val-000000.tar").write_bytes(b"half")
    synthesise(tmp_path / "set", TINY, QUIET)
    assert files(tmp_path / "set") == whole
    (tmp_path / "set" / "shards" / "index.json").unlink()
    (tmp_path / "set" / "videos").rename(tmp_path / "theirs")
    (tmp_path / "set" / "videos").symlink_to(tmp_path / "theirs")
    theirs = files(tmp_path / "theirs")
    with pytest.raises(UsageError, match="set/videos is a link"):
        synthesise(tmp_path / "set", TINY, QUIET)
    assert files(tmp_path / "theirs") == theirs


WRITE = (
    "import logging, pathlib, sys; from transfer3d.data import SynthConfig, synthesise;"
    "logging.basicConfig(level=logging.INFO); config = SynthConfig.model_validate_json(sys.argv[2]);"
    "synthesise(pathlib.Path(sys.argv[1]), config, wait=True)"
)


@pytest.mark.proc
@pytest.mark.parametrize("end", [pytest.param(signal.SIGCONT, marks=pytest.mark.slow), signal.SIGKILL])
def test_of_two_processes_one_writes_the_set_and_the_other_waits_for_it(tmp_path, end):
    place = tmp_path / "set"
    command = [sys.executable, "-c", WRITE, str(place), TINY.model_dump_json()]
    with subprocess.Popen(command) as first:
        try:
            _wait_until((place / "synth.json").exists)
            os.kill(first.pid, signal.SIGSTOP)
            before = files(place)
            with pytest.raises(SetupError, match=f"in use by pid {first.pid} .* or give another folder"):
                synthesise(place, TINY, QUIET)
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
                assert f"in use by pid {first.pid}" in second.stderr.readline()
                assert files(place) == before
                os.kill(first.pid, end)
                assert first.wait() == (0 if end == signal.SIGCONT else -signal.SIGKILL)
                written = _index_number(place)
                assert second.wait() == 0
            if end == signal.SIGCONT:
                assert _index_number(place) == written
        finally:
            first.kill()
    synthesise(tmp_path / "alone", TINY, QUIET)
    assert files(place) == files(tmp_path / "alone")


def _index_number(place):
    path = place / "shards" / "index.json"
    return path.stat().st_ino if path.exists() else None


def _wait_until(is_so, seconds=60):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_finished_set_that_cannot_be_written_needs_no_lock(tmp_path):
    synthesise(tmp_path / "set", TINY, QUIET)
    (tmp_path / "set" / LOCK).mkdir()  # no lock could be taken here
    synthesise(tmp_path / "set", TINY, QUIET)


def test_what_a_killed_process_left_is_no_foreign_content(tmp_path):
    (tmp_path / LOCK).write_text("pid 1")
    (tmp_path / f"{PARTIAL}{'0' * 32}-synth.json").write_text("{")
    synthesise(tmp_path, TINY, QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {"synth.json", "videos", "images", "shards"}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_pipe_in_place_of_the_configuration_is_not_waited_for(tmp_path, kind):
    place_endless(tmp_path / "synth.json", kind)
    with pytest.raises(UsageError, match="holds another moving-digits set"):
        synthesise(tmp_path, TINY, QUIET)


def test_what_is_not_ours_is_not_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        synthesise(tmp_path / "thesis", TINY, QUIET)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
    with pytest.raises(UsageError, match="is a file"):
        synthesise(tmp_path / "thesis" / "chapter.txt", TINY, QUIET)
    synthesise(tmp_path / "set", TINY, QUIET)
    before = files(tmp_path / "set")
    with pytest.raises(UsageError, match="another moving-digits set"):
        synthesise(tmp_path / "set", TINY.model_copy(update={"seed": 9}), QUIET)
    assert files(tmp_path / "set") == before
