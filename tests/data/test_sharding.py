"""From listed files to shards: the same by any number of processes, whatever ends them; bad files named."""

import hashlib
import json
import os
import resource
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from media import audio_only, numbers, write_numbered
from miniatures import note, video
from rich.console import Console
from typer.testing import CliRunner

from transfer3d.cli.main import app
from transfer3d.data.datasets.layouts import read_listing
from transfer3d.data.datasets.listing import Request
from transfer3d.data.decode import Video
from transfer3d.data.isolated import Limits
from transfer3d.data.sharding import (
    ShardConfig,
    claim_folder,
    lock_folder,
    lock_rank,
    plan_shards,
    publish,
    wait_for_parts,
    write_planned,
)
from transfer3d.data.source import open_videos
from transfer3d.errors import DataError, SetupError, UsageError
from transfer3d.files import PARTIAL
from transfer3d.progress import Meter


class Silent(Meter):
    """A meter that ends the run after some videos, as Ctrl-C does."""

    def __init__(self, left=10**9):
        super().__init__(Console(quiet=True), "", 1, None)
        self._left = left

    def update(self, advance=1, note=""):
        self._left -= advance
        if self._left < 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    for split, count in (("train", 7), ("test", 4)):
        for i in range(count):
            video(root / split / "ab"[i % 2] / f"clip {i}.mp4")
    return root


def planned(dataset, **options):
    return plan_shards(read_listing(Request(dataset))[1], ShardConfig(name="mini", **options))


def write(plan, out, *, world=1, meter=None):
    finished = claim_folder(out, plan)
    for rank in range(world):
        write_planned(out, plan, meter or Silent(), workers=1, limits=Limits(), rank=rank, world=world)
    publish(out, plan, source="mini")
    return finished


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_any_number_of_processes_writes_the_same(dataset, tmp_path):
    plan = planned(dataset, per_shard=2)
    write(plan, tmp_path / "1")
    one = contents(tmp_path / "1")
    assert sum(name.endswith(".tar") for name in one) == 6
    for world in (2, 3):
        write(plan, tmp_path / str(world), world=world)
        assert contents(tmp_path / str(world)) == one


def test_an_interrupted_run_goes_on_where_it_was(dataset, tmp_path):
    plan = planned(dataset, per_shard=3)
    write(plan, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    for videos in (0, 3, 5, 10):
        out = tmp_path / f"after {videos}"
        with pytest.raises(KeyboardInterrupt):
            write(plan, out, meter=Silent(videos))
        assert not (out / "index.json").exists()
        # What a killed process leaves; and shards that are finished are not made again.
        (out / f"{PARTIAL}{'0' * 32}-mini-train-000001.tar").write_bytes(b"half")
        before = {path: path.stat().st_mtime_ns for path in out.glob("mini-*.tar")}
        assert len(before) == [0, 1, 1, 4][(0, 3, 5, 10).index(videos)]
        write(plan, out)
        assert contents(out) == whole
        assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_of_another_plan_is_refused(dataset, tmp_path):
    out = tmp_path / "out"
    write(planned(dataset), out)
    assert claim_folder(out, planned(dataset))
    with pytest.raises(UsageError, match="shards of other videos or options"):
        claim_folder(out, planned(dataset, short_side=32))
    for damaged in ("", "[]", "{}"):
        note(out / "plan.json", damaged)
        with pytest.raises(UsageError, match="shards of other videos or options"):
            claim_folder(out, planned(dataset))
    note(tmp_path / "mine" / "thesis.tex", "x")
    with pytest.raises(UsageError, match="is not empty"):
        lock_folder(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_one_run_at_a_time_in_a_folder(dataset, tmp_path):
    arguments = ["shard", str(dataset), "-o", str(tmp_path / "out"), "--name", "mini"]
    held = lock_folder(tmp_path / "out")
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, f"out is in use by pid {os.getpid()}" in refused.output) == (5, True)
    assert refused.output.count("\n") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".transfer3d-lock"]
    held.close()
    # What a killed process leaves: a lock file that nobody holds.
    (tmp_path / "out" / ".transfer3d-lock").write_text("pid 1 on moon since 1969")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out" / ".transfer3d-lock").exists()


def test_a_linked_folder_of_parts_is_refused(dataset, tmp_path):
    """It would be that of another run, whose parts this one would take for its own and remove."""
    plan = planned(dataset)
    for name in ("ours", "theirs"):
        claim_folder(tmp_path / name, plan)
    part = tmp_path / "theirs" / "parts" / "a.json"
    part.parent.mkdir()
    part.write_text("{}")
    (tmp_path / "ours" / "parts").symlink_to(part.parent)
    with pytest.raises(UsageError, match="ours/parts is a link"):
        lock_folder(tmp_path / "ours")
    assert part.read_text() == "{}"


@contextmanager
def files_up_to(size):
    """As on a disk that is full: whatever is longer is not written (EFBIG stands for ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_with_one_sentence_and_the_next_run_goes_on(dataset, tmp_path):
    def run(out):
        arguments = ["shard", str(dataset), "-o", str(tmp_path / out), "--name", "mini", "--per-shard", "2"]
        return CliRunner().invoke(app, arguments)

    def tars(out):
        return {path.name: path.stat().st_size for path in sorted((tmp_path / out).glob("*.tar"))}

    assert run("whole").exit_code == 0
    for limit in sorted({*tars("whole").values(), 100}):
        with files_up_to(limit - 1):
            full = run(f"after {limit}")
        assert full.exit_code == 5, full.output
        assert full.output.count("\n") == 1
        assert "cannot be written: " in full.output
        # Nothing half-written under a final name, and nothing else is left lying about.
        out = tmp_path / f"after {limit}"
        left = {path.name for path in out.rglob("*") if path.is_file()}
        assert all(size == tars("whole")[name] for name, size in tars(out.name).items())
        assert not any(name.startswith(".partial") for name in left)
        assert "index.json" not in left
        kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
        assert run(out.name).exit_code == 0
        assert contents(out) == contents(tmp_path / "whole")
        assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_process_that_is_gone_is_not_waited_for(dataset, tmp_path):
    plan, out = planned(dataset, per_shard=2), tmp_path / "out"
    claim_folder(out, plan)
    first = {"meter": Silent(), "workers": 1, "limits": Limits(), "world": 2}
    write_planned(out, plan, rank=0, **first)
    with pytest.raises(
        SetupError, match="process 1 ended before it wrote all its shards, first mini"
    ) as gone:
        wait_for_parts(out, plan, world=2)
    assert gone.value.exit_code == 5
    alive = lock_rank(out, 1)

    def other():
        time.sleep(0.5)
        write_planned(out, plan, rank=1, **first)

    thread = threading.Thread(target=other)
    thread.start()
    wait_for_parts(out, plan, world=2)
    thread.join()
    alive.close()
    publish(out, plan, source="mini")
    write(plan, tmp_path / "one")
    assert contents(out) == contents(tmp_path / "one")


def test_what_is_left_of_killed_processes_does_not_stay(dataset, tmp_path):
    plan, out = planned(dataset), tmp_path / "out"
    write(plan, out)
    whole = contents(out)
    # Killed while it wrote a note, and killed between the index and the removal of the notes.
    for left in (
        f"parts/{PARTIAL}{'0' * 32}-mini-train-000000.json",
        ".transfer3d-lock-1",
        "parts/mini-train-000000.json",
    ):
        note(out / left, "{}")
    assert claim_folder(out, plan)
    assert contents(out) == whole
    (out / "index.json").unlink()
    note(out / "parts" / f"{PARTIAL}{'0' * 32}-mini-train-000000.json", "{")
    write(plan, out)
    assert contents(out) == whole


def test_what_open_videos_reads_is_what_was_listed(dataset, tmp_path):
    write(planned(dataset), tmp_path / "out")
    shards = open_videos(tmp_path / "out", split="train", labelled=True)
    files = open_videos(dataset, split="train", labelled=True)
    packed = {shards.open(i): shards.labels[i] for i in range(len(shards))}
    assert packed == {files.open(i).read_bytes(): files.labels[i] for i in range(len(files))}
    # In a mixed order, for readers that stream: not all of one class first.
    assert list(shards.labels) != sorted(shards.labels)


@pytest.mark.parametrize(("short_side", "gop"), [(24, None), (None, 4), (1000, 4)])
def test_smaller_copies_show_the_same_frames(tmp_path, short_side, gop):
    write_numbered(tmp_path / "set" / "a" / "1.mp4", 30)
    times = [40 * i + (i % 3) * 10 for i in range(20)]
    write_numbered(tmp_path / "set" / "a" / "2.mp4", 20, times=times)
    plan = planned(tmp_path / "set", short_side=short_side, gop=gop)
    write(plan, tmp_path / "out")
    videos = open_videos(tmp_path / "out", split="train", labelled=True)
    for i in range(2):
        with Video(videos.open(i)) as copy:
            pictures = copy.read(np.arange(copy.frames))
            assert numbers(pictures) == list(range(copy.frames))
            assert pictures.shape[1:3] == ((24, 32) if short_side == 24 else (48, 64))
            keys = [number for number, *_ in copy._table.keys]
            assert keys[0] == 0
            assert max(np.diff([*keys, copy.frames])) <= (gop or 12)
            if copy.frames == 20:
                assert np.allclose(copy.seconds() * 1000, times, atol=0.1)


@pytest.mark.parametrize("place", ["ü x", "a#b?c;d", "100%", "{a,b}", "x::y"])
def test_names_that_trouble_others(tmp_path, place):
    """Dots, cases and one name twice: keys are made, and the names are kept as facts."""
    names = ["a/my.video.v1.mp4", "a/A.mp4", "a/a.mp4", "b/a.mp4", "b/#20_(x)_[y]?;%.mp4"]
    for name in names:
        video(tmp_path / place / name)
    plan = planned(tmp_path / place)
    write(plan, tmp_path / f"out {place}")
    videos = open_videos(tmp_path / f"out {place}", labelled=True)
    assert not any(set("./") & set(key) for key in videos.keys)
    bytes_of = {(tmp_path / place / name).read_bytes() for name in names}
    assert {videos.open(i) for i in range(5)} == bytes_of
    assert sorted(videos.sources) == sorted(names)


def test_a_list_may_name_files_of_any_suffix(tmp_path):
    for name in ("a.xyz", "b"):  # of a codec that MP4 does not take, so that the file itself is packed
        write_numbered(tmp_path / name, 4, container="avi", codec="huffyuv", pix_fmt="yuv422p")
    done = CliRunner().invoke(
        app, ["shard", str(note(tmp_path / "list.csv", "a.xyz,run", "b,jump")), "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    videos = open_videos(tmp_path / "out")
    assert sorted(map(videos.open, range(2))) == [(tmp_path / name).read_bytes() for name in ("a.xyz", "b")]


def test_workers_do_not_change_the_shards(dataset, tmp_path):
    for workers in (1, 3):
        claim_folder(tmp_path / str(workers), planned(dataset))
        write_planned(tmp_path / str(workers), planned(dataset), Silent(), workers=workers, limits=Limits())
        publish(tmp_path / str(workers), planned(dataset), source="mini")
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_bad_files_are_named_and_left_out(dataset, tmp_path):
    root = tmp_path / "set"
    for i in range(6):
        video(root / "a" / f"{i}.mp4")
    whole = (root / "a" / "0.mp4").read_bytes()
    (root / "a" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "audio.mp4").write_bytes(audio_only())
    video(root / "a" / "short.mp4", 1)
    plan = planned(root)
    with pytest.raises(DataError, match="3 of 9 videos are bad"):
        write(plan, tmp_path / "out")
    assert not (tmp_path / "out" / "index.json").exists()
    # More is tolerated: nothing is decoded a second time.
    plan = planned(root, max_bad_fraction=0.5)
    claim_folder(tmp_path / "out", plan)
    dropped = {d.path: d.reason for d in publish(tmp_path / "out", plan, source="x")}
    assert set(dropped) == {"a/cut.mp4", "a/audio.mp4", "a/short.mp4"}
    assert "no video stream" in dropped["a/audio.mp4"]
    assert "frames" in dropped["a/short.mp4"]
    assert len(open_videos(tmp_path / "out", labelled=True)) == 6


def test_an_empty_class_and_one_file_in_two_splits(tmp_path):
    video(tmp_path / "train" / "a" / "1.mp4")
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(DataError, match="1 of 2 classes have no training video: b"):
        planned(tmp_path)
    assert planned(tmp_path, allow_empty_classes=True)
    original = video(tmp_path / "train" / "b" / "2.mp4")
    (tmp_path / "val" / "b").mkdir(parents=True)
    (tmp_path / "val" / "b" / "3.mp4").write_bytes(original.read_bytes())
    with pytest.raises(
        DataError, match=r"2.mp4 \(train\) are the same file|3.mp4 \(val\) and .*2.mp4 \(train\)"
    ):
        planned(tmp_path)


def test_the_command(dataset, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    out = tmp_path / "out"
    kept = note(tmp_path / "classes.txt", "b", "a")
    paths = [path.relative_to(dataset.parent) for path in sorted(dataset.glob("train/*/*"))]
    rows = [f"{path},{path.parent.name}" for path in paths]
    listed = note(dataset.parent / "listed.csv", "path,label", *rows, "gone.mp4,a")
    done = run("shard", listed, "-o", out, "--classes", kept, "--short-side", 24, "--name", "mine", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["official"] == {"train": 8}
    assert report["packed"] == {"train": 7}
    assert report["missing"] == ["gone.mp4"]
    assert 'gone.mp4,"listed, but not there"' in (out / "left_out.csv").read_text()
    assert (out / "mine-train-000000.tar").exists()
    assert list(open_videos(out, labelled=True).classes) == ["b", "a"]
    again = run("shard", listed, "-o", out, "--classes", kept, "--short-side", 24, "--name", "mine")
    assert "7 of 8 train videos, 2 classes, from csv (finished before)" in again.output
    assert "1 missing: gone.mp4" in again.output
    for arguments, code, said in (
        (("shard", tmp_path / "no", "-o", tmp_path / "x"), 2, "does not exist"),
        (("shard", dataset, "-o", tmp_path / "x", "--classes", "no.txt"), 2, "is not a file"),
        (("shard", dataset, "-o", tmp_path / "x", "--name", "a/b"), 2, "--name a/b"),
        (("shard", dataset, "-o", out), 2, "other videos or options"),
    ):
        result = run(*arguments)
        assert (result.exit_code, said in result.output) == (code, True), result.output


@pytest.mark.parametrize("damaged", [True, False])
def test_a_damaged_note_of_a_shard_and_one_of_another_file_make_it_anew(digits_folder, tmp_path, damaged):
    config = ["--workers", "1"]
    source, out = str(digits_folder / "videos" / "test"), tmp_path / "shards"
    first = CliRunner().invoke(app, ["shard", source, "-o", str(out), *config])
    assert first.exit_code == 0, first.output
    path = min(out.glob("*.tar"))
    shard = path.read_bytes()
    entry = json.loads((out / "index.json").read_text())["shards"][0] | {"file": "other.tar"}
    (out / "other.tar").write_bytes(bytes(len(shard)))
    (out / "index.json").unlink()
    note(
        out / "parts" / f"{path.stem}.json", "[]" if damaged else json.dumps({"shard": entry, "dropped": []})
    )
    again = CliRunner().invoke(app, ["shard", source, "-o", str(out), *config])
    assert again.exit_code == 0, again.output
    assert path.read_bytes() == shard
    assert "other.tar" not in (out / "index.json").read_text()
