"""Freed memory is kept: counted by the kernel, as pages that had to be cleared for a process."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.engine.distributed import make_accelerator

def faults():
    for _ in range(9):
        torch.ones(16 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
usual = faults()
make_accelerator("fp32")  # as every command does
kept = faults()
print(keep_freed_memory(), usual, kept)
"""
LARGE_PAGES = 5 * 64 * 2**20 // 2**21
"""Of five tensors of 64 MiB, where pages are as large as can be; else there are 512 times as many."""


@pytest.mark.proc
def test_large_tensors_are_new_memory_only_where_it_is_not_kept():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    can, usual, kept = done.stdout.split()
    if can == "False":
        pytest.skip("this C library has no thresholds")
    assert int(usual) > 0.9 * LARGE_PAGES
    assert int(kept) < 0.1 * int(usual)
