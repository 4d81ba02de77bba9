"""Run folders: one owner, whole checkpoints."""

import json
import multiprocessing
import os
import signal
import tempfile

import pytest
import torch
from faulty import die_before_disk_step

from transfer3d.engine.run_folder import MANIFEST, TENSORS, RunFolder
from transfer3d.errors import SetupError, UsageError, WeightsError
from transfer3d.files import LOCK, PARTIAL
from transfer3d.scratch import PREFIX


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run", resume=False)
    yield run
    run.close()


def save(run, *steps, keep=9):
    for step in steps:
        run.save_checkpoint(step, {"x": torch.full((3,), float(step))}, {"step": step}, keep=keep)


def names(run):
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_the_newest_checkpoint_comes_back(folder):
    save(folder, 1, 2, 10)
    tensors, state, damaged = folder.load_checkpoint()
    assert (state["step"], tensors["x"].tolist(), damaged) == (10, [10.0] * 3, [])


def test_only_the_newest_are_kept(folder):
    save(folder, 1, 2, 10, 9, keep=2)
    assert names(folder) == ["step-10", "step-9"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "no tensors"])
def test_a_damaged_checkpoint_is_passed_over_and_named(folder, damage):
    save(folder, 1, 2)
    newest = folder.checkpoints / "step-2"
    if damage == "truncate":
        (newest / TENSORS).write_bytes((newest / TENSORS).read_bytes()[:-1])
    elif damage == "flip":
        data = bytearray((newest / TENSORS).read_bytes())
        data[-1] ^= 1
        (newest / TENSORS).write_bytes(bytes(data))
    else:
        (newest / (MANIFEST if damage == "no manifest" else TENSORS)).unlink()
    _, state, damaged = folder.load_checkpoint()
    assert (state["step"], damaged) == (1, ["step-2"])


def test_no_whole_checkpoint_is_an_error_and_none_at_all_is_a_start(folder):
    assert folder.load_checkpoint() is None
    save(folder, 1)
    (folder.checkpoints / "step-1" / MANIFEST).write_text("{")
    with pytest.raises(WeightsError, match="step-1 damaged"):
        folder.load_checkpoint()


def test_a_failed_write_leaves_the_older_checkpoints(folder, monkeypatch):
    save(folder, 1)
    before = (folder.checkpoints / "step-1" / TENSORS).read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transfer3d.engine.run_folder.save_file", full)
    with pytest.raises(SetupError, match="step 2 .* No space left"):
        save(folder, 2)
    assert names(folder) == ["step-1"]
    assert (folder.checkpoints / "step-1" / TENSORS).read_bytes() == before


def _claim(path, queue):
    try:
        RunFolder(path, resume=True)
    except SetupError as error:
        queue.put(str(error))


@pytest.mark.proc
def test_a_second_process_is_refused_with_the_holders_pid(folder):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_claim, args=(folder.path, queue))
    process.start()
    message = queue.get(timeout=60)
    process.join()
    assert f"in use by pid {__import__('os').getpid()}" in message


def test_an_unfinished_run_needs_resume(folder):
    (folder.path / "recipe.toml").write_text("")
    folder.close()
    with pytest.raises(UsageError, match="an unfinished run.*--resume"):
        RunFolder(folder.path, resume=False)
    again = RunFolder(folder.path, resume=True)
    again.finish({})
    assert again.finished
    again.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"file/run cannot be written"):
        RunFolder(tmp_path / "file" / "run", resume=False)


def test_the_log_drops_the_steps_that_are_repeated(folder):
    for step in (1, 2, 3):
        folder.log({"step": step})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')  # the lights went out here
    folder.drop_log_after(2)
    rows = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2]


def test_a_kill_at_any_moment_of_a_write_leaves_a_whole_checkpoint(tmp_path):
    """A child is killed at its first, second, ... step on the disk, until it comes through."""
    survived, moment = False, 0
    while not survived:
        moment += 1
        path = tmp_path / str(moment)
        child = os.fork()
        if child == 0:
            _write_until(path, moment)  # does not come back
        _, status = os.waitpid(child, 0)
        survived = os.waitstatus_to_exitcode(status) == 0
        assert survived or os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        run = RunFolder(path, resume=False)
        tensors, state, _ = run.load_checkpoint()
        assert state["step"] in (2, 3)
        assert tensors["x"].tolist() == [float(state["step"])] * 3
        assert not list(path.rglob(".transfer3d-partial-*"))
        run.close()
    assert moment > 10


def _write_until(path, moment):
    """Writes three checkpoints and dies in the third one, before its `moment`-th step on the disk."""
    run = RunFolder(path, resume=False)
    save(run, 1, 2, keep=2)
    die_before_disk_step(moment)
    save(run, 3, keep=2)
    os._exit(0)


def test_nothing_of_others_is_removed(tmp_path):
    """Names that only resemble ours, folders below, and links stay; what a killed run left goes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    ours = f"{PARTIAL}{'0' * 32}-model.safetensors"
    run = tmp_path / "run"
    kept = [run / ".partial-mine", run / "below" / ours, outside / ours, run / f"{PARTIAL}x"]
    gone = [run / ours, run / "checkpoints" / ours]
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (run / f"{PARTIAL}{'1' * 32}-link").symlink_to(outside)
    RunFolder(run, resume=False).close()
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert (outside / ours).exists()


def test_damaged_checkpoints_push_no_good_one_out(tmp_path):
    run = RunFolder(tmp_path, resume=False)
    for step in (1, 2):
        run.save_checkpoint(step, {"x": torch.zeros(1)}, {"step": step}, keep=2)
    for step, manifest in (
        (10, "[]"),
        (11, '{"files": {"/dev/zero": {"bytes": 0, "sha256": ""}}}'),
        (12, ""),
    ):
        (tmp_path / "checkpoints" / f"step-{step}").mkdir()
        (tmp_path / "checkpoints" / f"step-{step}" / "MANIFEST.json").write_text(manifest)
    (tmp_path / "checkpoints" / "step-²").mkdir()
    run.save_checkpoint(3, {"x": torch.zeros(1)}, {"step": 3}, keep=2)
    _, state, damaged = run.load_checkpoint()
    run.close()
    assert state["step"] == 3
    assert damaged == ["step-12", "step-11", "step-10"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} >= {"step-2", "step-3"}
    assert not (tmp_path / "checkpoints" / "step-1").exists()


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_a_checkpoint_of_the_right_size_and_wrong_bits_pushes_no_good_one_out(folder, damaged):
    save(folder, 1, 2, 3)
    path = folder.checkpoints / f"step-{damaged}" / TENSORS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    (folder.checkpoints / f"{PARTIAL}{'0' * 32}-step-5").mkdir()  # one that a kill left unfinished
    save(folder, 4, keep=2)
    (folder.checkpoints / "step-4" / MANIFEST).unlink()  # now this one is damaged too
    good = 2 if damaged == 3 else 3
    _, state, _ = folder.load_checkpoint()
    assert state["step"] == good
    assert {path.name for path in folder.checkpoints.glob("step-*")} - {f"step-{damaged}"} == {
        "step-4",
        f"step-{good}",
    }


def test_damaged_rows_of_the_log_are_dropped(tmp_path):
    run = RunFolder(tmp_path, resume=False)
    for step in (1, 2, 3):
        run.log({"step": step, "split": "train"})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'\0\0{"step": 1}\n[1]\n{"step": "x"}\n{}\n')
    run.drop_log_after(2)
    run.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def test_the_next_run_removes_what_a_killed_one_kept_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}{'0' * 32}").mkdir()
    RunFolder(tmp_path / "run", resume=False).close()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors", "metrics.jsonl"])
@pytest.mark.parametrize("is_link", [False, True])
def test_results_of_others_are_not_overwritten(tmp_path, name, is_link):
    theirs, run = tmp_path / "theirs", tmp_path / "run"
    theirs.write_text("precious")
    run.mkdir()
    if is_link:
        (run / name).symlink_to(theirs)
    else:
        (run / name).write_text("precious")
    with pytest.raises(UsageError, match=f"has a {name} that is not a run's"):
        RunFolder(run, resume=False)
    assert (run / name).read_text() == theirs.read_text() == "precious"
    assert [path.name for path in run.iterdir()] == [name]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_not_ours_is_not_touched(tmp_path, kind):
    theirs, lock = tmp_path / "theirs", tmp_path / "run" / LOCK
    theirs.write_text("precious")
    lock.parent.mkdir()
    if kind == "link":
        lock.symlink_to(theirs)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(SetupError, match=r"run cannot be written"):
        RunFolder(lock.parent, resume=False)
    assert theirs.read_text() == "precious"
    assert os.path.lexists(lock)


def test_the_log_is_not_written_where_a_link_points_to(folder):
    theirs = folder.path.parent / "theirs"
    theirs.write_text("precious")
    (folder.path / "metrics.jsonl").symlink_to(theirs)
    with pytest.raises(SetupError, match="cannot be written"):
        folder.log({"step": 1})
    (folder.path / "metrics.jsonl").unlink()
    os.mkfifo(folder.path / "metrics.jsonl")
    with pytest.raises(SetupError, match="cannot be written"):  # nobody reads it: that would wait for ever
        folder.log({"step": 1})
    assert theirs.read_text() == "precious"


def test_a_checkpoint_that_is_a_link_is_read_and_never_removed(folder, tmp_path):
    save(folder, 1, 2)
    elsewhere = tmp_path / "large-disk"
    (folder.checkpoints / "step-1").rename(elsewhere)
    (folder.checkpoints / "step-1").symlink_to(elsewhere)
    save(folder, 3, 4, keep=2)
    assert sorted(path.name for path in elsewhere.iterdir()) == [MANIFEST, "state.json", TENSORS]
    assert names(folder) == ["step-1", "step-3", "step-4"]


@pytest.mark.parametrize("resume", [False, True])
def test_checkpoints_that_link_to_another_run_are_refused_and_stay(tmp_path, resume):
    other, run = RunFolder(tmp_path / "ra", resume=False), tmp_path / "rb"
    save(other, 1, 2)
    other.close()
    run.mkdir()
    if resume:
        (run / "recipe.toml").write_text("")
    (run / "checkpoints").symlink_to(other.checkpoints)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"rb/checkpoints is a link, .* or link .*rb itself\."):
        RunFolder(run, resume=resume)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stage_that_links_to_another_run_is_refused_and_a_linked_run_folder_is_not(tmp_path):
    other, run = tmp_path / "ra", tmp_path / "rb"
    other.mkdir()
    run.symlink_to(other)
    RunFolder(run, resume=False, subfolders=["still"]).close()
    (run / "still").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="rb/still is a link"):
        RunFolder(run, resume=False, subfolders=["taught", "still"])
    assert [path.name for path in other.iterdir()] == ["still"]
