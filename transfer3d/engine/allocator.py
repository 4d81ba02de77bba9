"""What the C library does with freed memory: a training step asks for the same sizes again and again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h: free memory at the top above which, and blocks from which on, go back at once."""
MIB = 2**20
KEPT = (2047 * MIB, 1024 * MIB)
USUAL = (64 * MIB, 32 * MIB)
"""Where glibc's own thresholds end, which follow the blocks that a program frees (`mallopt(3)`)."""


def keep_freed_memory() -> bool:
    """Keeps freed blocks for the next ones of their size; returns whether the C library can do so (glibc).

    Otherwise each large tensor is new memory, whose pages the kernel clears one by one when they are first
    touched: a fifth of a training step on a CPU. The process stays as large as it was at its largest.
    """
    return _set(KEPT)


@contextmanager
def usual_allocator() -> Iterator[None]:
    """Within it, freed blocks go back to the system as in any program; afterwards they are kept."""
    _set(USUAL)
    try:
        yield
    finally:
        _set(KEPT)


def _set(thresholds: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    trim, mmap = thresholds
    return bool(mallopt(TRIM_THRESHOLD, trim)) and bool(mallopt(MMAP_THRESHOLD, mmap))
