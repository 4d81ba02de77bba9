"""Out of memory: told from other errors, and said in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from transfer3d.errors import SetupError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory did not suffice: a GPU's error is a class of its own, a CPU's is told by its text."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def step_fits() -> Iterator[None]:
    """Says in a sentence that a training step does not fit into memory.

    Raises:
        SetupError: that happened.
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
