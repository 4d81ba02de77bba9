"""The errors that a user can cause, each with the exit code that the command line ends with.

A message is one sentence that says what is wrong and where (file, key, line), and one that says what to do.
Anything that is not a `Transfer3dError` is a bug and ends with exit code 1.
"""

import difflib
from collections.abc import Iterable


class Transfer3dError(Exception):
    """An error with a one-line answer; `code` names it, `exit_code` is the process's own."""

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Survives the way from a worker process to the parent."""
        return type(self), (self.code, str(self))


class UsageError(Transfer3dError):
    """The command line or the recipe is wrong (exit 2)."""

    exit_code = 2


class DataError(Transfer3dError):
    """Data is refused (exit 3)."""

    exit_code = 3


class WeightsError(Transfer3dError):
    """Weights or a checkpoint are refused (exit 4)."""

    exit_code = 4


class SetupError(Transfer3dError):
    """The environment cannot do it: disk, lock, offline hub, lost worker (exit 5)."""

    exit_code = 5


class NonFiniteError(Transfer3dError):
    """A loss or a gradient is NaN or infinite (exit 6)."""

    exit_code = 6


class Preempted(Transfer3dError):  # noqa: N818 - nothing went wrong
    """SIGTERM came, the state is saved, run again with --resume (exit 75)."""

    exit_code = 75


class Interrupted(Transfer3dError):  # noqa: N818 - nothing went wrong
    """Ctrl-C came, the state is saved (exit 130)."""

    exit_code = 130


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
