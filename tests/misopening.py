"""Videos that go wrong in all ways when they are opened or read, for children that import this by name."""

import os
import signal
import time

from transfer3d.data.container import BadVideo
from transfer3d.data.decode import Video

PAUSE_S = 1.5
opened = []


class MisopenedVideo(Video):
    """A video that does what its name says."""

    def __init__(self, source, *, name="", **hooks):
        opened.append(name)
        self._name_of_fault = name
        if name == "crash when used" and len(opened) > 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        misbehave(name, "open")
        super().__init__(source, name=name, **hooks)

    def read(self, indices, *, short_side=None):
        misbehave(self._name_of_fault, "read")
        if self._name_of_fault == "slow":
            for _ in range(12):
                time.sleep(0.25)
                self._progress()
        return super().read(indices, short_side=short_side)

    def stream(self, *, short_side=None):
        for number, frame in enumerate(super().stream(short_side=short_side)):
            if number == 20:
                misbehave(self._name_of_fault, "stream")
            yield frame


def misbehave(name, now):
    fault, _, place = name.partition(" in ")
    if place != now:
        return
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "exit":
        os._exit(3)
    if fault == "hang":
        time.sleep(60)
    if fault == "pause":
        os.write(1, b"paused\n")
        time.sleep(PAUSE_S)
    if fault == "memory":
        try:
            bytearray(1 << 34)
        except MemoryError as error:
            raise BadVideo(f"{name}: does not decode") from error
    if fault == "bug":
        raise ZeroDivisionError("by zero")


def work(job):
    """What is done with a job, for children."""
    misbehave(job, "work")
    return job
