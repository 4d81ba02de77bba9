"""Running out of memory: recognised among other errors, and reported in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from transfer3d.errors import SetupError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: a GPU has an error class for it, a CPU only a message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def step_fits() -> Iterator[None]:
    """Turns running out of memory in a training step into SetupError.

    Raises:
        SetupError: the step does not fit into memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise SetupError(
            f"a training step does not fit into memory ({str(error).splitlines()[0]}). "
            "Set a smaller batch_size or clip, or a larger accumulate.",
        ) from None
