"""The errors that a user can cause, each with the exit code of the command line.

A message has one sentence on what is wrong and where (file, key, line), and one on what to do.
Anything that is not a `Transfer3dError` is a bug and ends with exit code 1.
"""

import difflib
from collections.abc import Iterable


class Transfer3dError(Exception):
    """An error that is shown as its message, without a traceback; `exit_code` is the command's."""

    exit_code = 1


class UsageError(Transfer3dError, ValueError):
    """A command line, a recipe or an argument is wrong (exit 2)."""

    exit_code = 2


class NoSuchSplit(UsageError):  # noqa: N818 - a missing optional split is not an error
    """The data has no split of this name."""


class DataError(Transfer3dError, ValueError):
    """Data is missing or invalid (exit 3)."""

    exit_code = 3


class WeightsError(Transfer3dError, ValueError):
    """Weights or a checkpoint are missing or invalid (exit 4)."""

    exit_code = 4


class SetupError(Transfer3dError):
    """The environment prevents the run: full disk, lock, offline hub, lost worker (exit 5)."""

    exit_code = 5


class NonFiniteError(Transfer3dError):
    """A loss or a gradient is NaN or infinite (exit 6)."""

    exit_code = 6


class Preempted(Transfer3dError):  # noqa: N818 - nothing went wrong
    """The run stopped on SIGTERM after saving its state; run again with --resume (exit 75)."""

    exit_code = 75


class Interrupted(Transfer3dError):  # noqa: N818 - nothing went wrong
    """The run stopped on Ctrl-C after saving its state (exit 130)."""

    exit_code = 130


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for a name that begins so, else the nearest, or an empty string."""
    names = list(known)
    begun = [other for other in names if len(name) >= 3 and other.casefold().startswith(name.casefold())]
    near = sorted(begun, key=len) or difflib.get_close_matches(name, names, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
