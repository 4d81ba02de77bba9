"""Tunes the C library's allocator to reuse freed memory: every training step allocates the same sizes."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Options of glibc's malloc.h: how much free memory at the end of the heap is returned to the system, and how
many large blocks may be mapped outside the heap, which are returned as soon as they are freed."""
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keeps freed blocks for reuse; returns whether the C library supports this (glibc).

    Otherwise each large tensor is newly mapped memory, whose pages the kernel clears on first access: a fifth
    of a training step on a CPU. In return, the process never shrinks from its peak size.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows has no CDLL(None), macOS no mallopt
        return False
    return bool(mallopt(TRIM_THRESHOLD, MOST) and mallopt(MMAP_MAX, 0))
