"""Scratch folders: removed in the end, found by the next run after a kill, and never those of a live run."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from transfer3d.errors import SetupError
from transfer3d.scratch import PREFIX, ScratchFolder, remove_abandoned, scratch_folder

KEEPER = """
import os, sys
from transfer3d.scratch import ScratchFolder
folder = ScratchFolder()
(folder.path / "shard.tar").write_bytes(b"x")
(folder.path / "below").mkdir()
if sys.argv[1] == "worker" and not os.fork():
    print(folder.path, os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
if sys.argv[1] != "worker":
    print(folder.path, os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def keeper(root, mode="alone"):
    """Another process with a folder of its own, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(root)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().split()[0])


def end(process):
    process.communicate()
    assert process.returncode == 0


def test_a_folder_is_private_and_goes_with_its_owner(root):
    with scratch_folder() as path:
        (path / "file").write_text("x")
        assert path.parent == root
        assert path.stat().st_mode & 0o777 == 0o700
        assert remove_abandoned() == []
    folder = ScratchFolder()
    folder.close()
    folder.close()
    kept = ScratchFolder()
    del kept
    with pytest.raises(ZeroDivisionError), scratch_folder():
        raise ZeroDivisionError
    assert not list(root.iterdir())


@pytest.mark.proc
def test_what_a_killed_process_left_is_removed_and_what_a_live_one_uses_is_not(root):
    killed, left = keeper(root)
    living, used = keeper(root)
    assert remove_abandoned() == []
    killed.kill()
    killed.communicate()
    assert left.exists()
    assert remove_abandoned() == [left]
    assert [path.name for path in used.iterdir()] != []
    end(living)
    assert not list(root.iterdir())


@pytest.mark.proc
def test_a_worker_that_outlives_its_parent_keeps_the_folder(root):
    parent, used = keeper(root, "worker")
    parent.kill()
    parent.wait()
    assert remove_abandoned() == []
    assert parent.stdin is not None
    parent.communicate()  # the worker ends with its input
    assert remove_abandoned() == [used]


@pytest.mark.proc
def test_a_worker_that_ends_removes_nothing(root):
    folder = ScratchFolder()
    child = os.fork()
    if child == 0:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.exists()
    assert remove_abandoned() == []
    folder.close()


def test_nothing_else_is_removed(root, monkeypatch):
    outside = root / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    ours = f"{PREFIX}{'0' * 32}"
    for name in (f"{ours}0", f"x{ours}", f"{PREFIX}mine", f"{PREFIX}{'G' * 32}"):
        (root / name).mkdir()
    (root / f"{PREFIX}{'1' * 32}").write_text("a file")
    (root / f"{PREFIX}{'2' * 32}").symlink_to(outside)
    before = sorted(root.iterdir())
    assert remove_abandoned() == []
    (root / ours).mkdir()
    (root / ours / "link").symlink_to(outside)
    with monkeypatch.context() as patched:  # it is another user's
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert remove_abandoned() == []
    assert remove_abandoned() == [root / ours]
    assert sorted(root.iterdir()) == before
    assert (outside / "file").exists()


def test_where_there_are_no_locks_nothing_is_taken_for_abandoned(root, monkeypatch):
    monkeypatch.setattr("transfer3d.scratch.fcntl", None)
    (root / f"{PREFIX}{'0' * 32}").mkdir()
    with scratch_folder() as path:
        assert remove_abandoned() == []
        assert path.is_dir()
    assert not path.exists()


def test_a_temporary_folder_that_takes_nothing_is_named(root, monkeypatch):
    (root / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(root / "file"))
    with pytest.raises(SetupError, match=r"no folder can be created in .*file .*TMPDIR"):
        ScratchFolder()
