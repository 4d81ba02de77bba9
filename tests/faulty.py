"""Work that goes wrong in all ways, for children that import it by name."""

import os
import signal
import time
from pathlib import Path

from transfer3d import files
from transfer3d.engine import run_folder
from transfer3d.errors import DataError


def misbehave(job):
    """Does what the job says, and returns the job where that leaves it alive."""
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "hang":
        time.sleep(60)
    if job == "exit":
        os._exit(3)
    if job == "memory":
        bytearray(1 << 34)
    if job == "refuse":
        raise DataError("damaged")
    if job == "bug":
        raise ZeroDivisionError("by zero")
    return job, os.getpid()


def die():
    """What kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_disk_step(number):
    """From here on this process makes `number - 1` steps on the disk, and is killed before the next one."""
    left = [number]

    def deadly(whole):
        def step(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                die()
            return whole(*arguments, **options)

        return step

    for owner, names in (
        (run_folder, ("save_file", "sha256_file", "fsync_folder")),
        (files, ("fsync_folder",)),
        (os, ("fsync", "unlink", "rmdir")),
        (Path, ("mkdir", "replace", "rename", "write_text")),
    ):
        for name in names:
            setattr(owner, name, deadly(getattr(owner, name)))
