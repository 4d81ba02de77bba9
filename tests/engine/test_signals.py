"""A process stops where its launcher died, and nowhere else."""

import os
import subprocess
import sys

import pytest

from transfer3d.engine.launcher import MARKS, launcher_pid

CHILD = """
import os, sys, time
from transfer3d.engine.signals import StopSignals

with StopSignals() as stop:
    assert not stop.stop_requested()
    start = os.getppid()
    print(start, flush=True)
    while os.getppid() == start:
        time.sleep(0.01)
    print(stop.stop_requested(), stop.received, flush=True)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.proc
@pytest.mark.parametrize(("mark", "expected"), [("TORCHELASTIC_RUN_ID", "True 15"), (None, "False 0")])
def test_the_death_of_a_launcher_is_a_sigterm_and_that_of_a_shell_is_nothing(mark, expected):
    """A command under nohup outlives its shell."""
    environment = {name: value for name, value in os.environ.items() if name not in MARKS}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | ({mark: "1"} if mark else {}),
    )  # fmt: skip
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) == parent.pid
    parent.kill()
    said, errors = parent.communicate(timeout=30)  # the child has the other end
    assert said.strip() == expected
    assert (f"the launcher (pid {parent.pid}) has died" in errors) is (mark is not None)


@pytest.mark.parametrize("mark", MARKS)
def test_only_launchers_are_watched(mark, monkeypatch):
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # by hand, in a shell
    assert launcher_pid() is None
    monkeypatch.setenv(mark, "2")
    assert launcher_pid() == os.getppid()
