"""Freed memory is kept: counted by the kernel, as the pages it clears for a process."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.engine.distributed import make_accelerator

def steps():
    for _ in range(2):
        x = y = torch.ones(9 * 2**20, requires_grad=True)  # 36 MiB, above any threshold of glibc's own
        for _ in range(4):
            y = torch.relu(1.5 * y)
        y.sum().backward()

def faults():
    counts = []
    for _ in range(5):  # the least: a heap grows until it has its size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        steps()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)

torch.set_num_threads(1)
usual = faults()
make_accelerator("fp32")  # as every command does
kept = faults()
print(keep_freed_memory(), usual, kept)
"""
FEW = 20
"""Pages of 2 MiB, as large as can be, that such steps must fault in if their memory is new."""


@pytest.mark.slow
@pytest.mark.proc
def test_steps_work_in_new_memory_only_where_it_is_not_kept():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    can, usual, kept = done.stdout.split()
    if can == "False":
        pytest.skip("this C library has no thresholds")
    assert int(usual) > FEW
    assert int(kept) < 0.1 * int(usual)
