"""Peak memory of one function, above what was taken before."""

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
    """Returns the most memory that `run` took at once, in bytes; None where the system does not say.

    Args:
        run: is called once.
        device: whose memory: that of CUDA's allocator, or the process's own.
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
    """Gives freed memory back and makes the kernel forget the peak."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK)
    except (OSError, AttributeError):
        return False
    return True


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * KIB
