"""Work that goes wrong in all ways, for children that import it by name; it imports nothing heavy."""

import errno
import os
import signal
import time

from transfer3d.errors import DataError, SetupError


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
    if job == "no disk":
        raise SetupError("the disk is full")
    if job == "refuse":
        raise DataError("damaged")
    if job == "allocation":
        try:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        except OSError:
            raise DataError("Invalid data") from None
    if job == "only when fresh" and os.environ.get("WORKED"):
        raise DataError("refused for what an earlier file has left")
    os.environ["WORKED"] = "1"
    if job == "bug":
        raise ZeroDivisionError("by zero")
    return job, os.getpid()
