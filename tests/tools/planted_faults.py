"""A target of `fuzz` with three faults of its own: an exception, a hang and a death."""

import os
import time

from fuzz.edits import edited_bytes
from fuzz.outcome import of_call


class Files:
    attack = "planted faults"
    suffix = ".txt"

    def __init__(self, place):
        self.place = place

    def cases(self):
        return edited_bytes([b"a" * 200], most=5)

    def attempt(self, case):
        content = case.read_bytes()
        if content == b"hang":
            time.sleep(60)
        if content == b"die":
            os.kill(os.getpid(), 9)
        return of_call(lambda: content.decode("ascii"))
