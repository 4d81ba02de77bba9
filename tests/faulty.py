"""Processes that die before a step on the disk."""

import os
import signal
from pathlib import Path

from transfer3d import files
from transfer3d.engine import run_folder


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
