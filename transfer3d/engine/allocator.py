"""What the C library does with freed memory: a training step asks for the same sizes again and again."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Of glibc's malloc.h: how much free memory at the heap's end is given back, and how many large blocks lie
outside the heap, from where they are returned at once."""
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keeps freed blocks for the next ones of their size; returns whether the C library can do so (glibc).

    Otherwise each large tensor is new memory, whose pages the kernel clears one by one when they are first
    touched: a fifth of a training step on a CPU. The process stays as large as it was at its largest.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows has no CDLL(None), macOS no mallopt
        return False
    return bool(mallopt(TRIM_THRESHOLD, MOST) and mallopt(MMAP_MAX, 0))
