"""Peak memory of one function, above what was allocated before."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
KIB = 1024


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int | None:
    """Returns the peak memory of `run` in bytes; None if the system does not report it.

    Args:
        run: called once.
        device: whose memory is measured: that of CUDA's allocator, or the process's.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not _reset_peak():
        return None
    before = _status("VmRSS")
    run()
    return max(0, _status("VmHWM") - before)


def _reset_peak() -> bool:
    """Returns freed memory to the system and resets the recorded peak; False if that is not possible."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK)
    except (OSError, AttributeError, TypeError):  # Windows has no CDLL(None), macOS no malloc_trim
        return False
    return True


def _status(key: str) -> int:
    match = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text())
    assert match is not None
    return int(match[1]) * KIB
