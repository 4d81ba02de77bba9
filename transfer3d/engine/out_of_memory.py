"""Recognises out-of-memory errors and reports them in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from transfer3d.errors import SetupError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: torch has an error class for GPUs, but only a message for CPUs."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def step_fits() -> Iterator[None]:
    """Turns an out-of-memory error in a training step into SetupError.

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
            "Set a smaller batch_size or clip, or a larger accumulate."
        ) from None
