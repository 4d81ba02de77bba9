"""One process at a time; the end of a process, however it came, frees what it held."""

import os
import signal
import subprocess
import sys

import pytest

from transfer3d.errors import SetupError
from transfer3d.files import Lock

HOLD = "import sys; from transfer3d.files import Lock; Lock(__import__('pathlib').Path(sys.argv[1]), 'x'); "
HOLD = HOLD.replace("Lock(__", "lock = Lock(__") + "print('held', flush=True); sys.stdin.read()"


def test_another_process_is_named_and_its_kill_frees(tmp_path):
    path = tmp_path / "sub" / ".transfer3d-lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SetupError, match=f"the thing is in use by pid {other.pid} on ") as caught:
            Lock(path, "the thing")
        assert caught.value.exit_code == 5
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert path.exists()
    mine = Lock(path, "the thing")
    assert f"pid {os.getpid()}" in path.read_text()
    mine.close()
    assert not path.exists()
    second = Lock(path, "the thing")
    mine.close()  # a second time: the file is another's now
    assert path.exists()
    second.close()


FORK = HOLD.replace("print('held'", "import os, time; os.fork() and time.sleep(60); print(os.getpid()")


def test_a_forked_child_that_outlives_its_parent_holds_nothing(tmp_path):
    path = tmp_path / ".transfer3d-lock"
    with subprocess.Popen(
        [sys.executable, "-c", FORK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        child = int(other.stdout.readline())
        try:
            with pytest.raises(SetupError, match=f"in use by pid {other.pid}"):
                Lock(path, "the thing")
            other.kill()
            other.wait()
            Lock(path, "the thing").close()
            os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="the thing cannot be written: "):
        Lock(tmp_path / "file" / ".transfer3d-lock", "the thing")
