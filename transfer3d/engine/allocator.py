"""What the C library does with freed memory: a training step asks for the same sizes again and again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Of glibc's malloc.h: free memory at the top above which, and blocks from which on, go back at once, and how
many such blocks there may be."""
MIB = 2**20
KEPT = {TRIM_THRESHOLD: 2047 * MIB, MMAP_MAX: 0}
USUAL = {TRIM_THRESHOLD: 64 * MIB, MMAP_THRESHOLD: 32 * MIB, MMAP_MAX: 65536}
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


def _set(options: Mapping[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) for name, value in options.items())
