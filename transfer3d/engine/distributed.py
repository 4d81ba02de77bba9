"""What the processes of one run do together. `accelerate launch` starts them; nothing here asks how many."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.errors import SetupError, Transfer3dError, UsageError

Result = TypeVar("Result")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others, e.g. while the main one makes the built-in dataset."""
PEER_GONE = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "Socket closed",
    "NCCL",
    "Timed out waiting",
)
"""What gloo and NCCL say when another process is gone, or silent for too long."""


def make_accelerator(precision: str) -> Accelerator:
    """Builds the one accelerator of a run, and sets what torch and the C library keep for the whole process.

    Args:
        precision: "bf16" or "fp32".
    """
    torch.backends.cudnn.benchmark = True
    keep_freed_memory()
    # accelerate keeps the first precision of a process for ever; a second run in it may want another one.
    AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def leave_cores_to(workers: int) -> None:
    """Gives up as many of torch's CPU threads as there are decoding processes.

    Threads that wait for one another spin: one that shares its core with a decoder holds up all the others.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - workers)))


def is_main_process() -> bool:
    """Whether this process does what is to be done once, under any launcher."""
    return PartialState().is_main_process


def bf16_is_fast() -> bool:
    """Whether this machine computes bf16 in hardware (a GPU since Ampere, AVX-512 BF16, AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


def resolve_precision(precision: str) -> str:
    """Turns "auto" into bf16 where the machine computes it in hardware, into fp32 elsewhere.

    Raises:
        UsageError: it is not one of auto, bf16, fp32.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise UsageError(f"--precision {precision}: choose auto, bf16 or fp32.")
    if precision != "auto":
        return precision
    return "bf16" if bf16_is_fast() else "fp32"


def on_main(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Runs `work` on the main process; every process gets its result, or raises its error.

    So a refused folder ends all processes at once, instead of leaving the others in a barrier.
    """
    if accelerator.num_processes == 1:
        return work()
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = work()
        except Transfer3dError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def same_buffers(accelerator: Accelerator, module: nn.Module) -> None:
    """Gives every process the main one's buffers: BatchNorm's statistics are each process's own."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def gather_list(accelerator: Accelerator, items: list[Any]) -> list[Any]:
    """Returns the items of all processes, in the order of their ranks."""
    return gather_object(items) if accelerator.num_processes > 1 else items


def mean_rows(accelerator: Accelerator, row: dict[str, float]) -> dict[str, float]:
    """Returns, by name, the mean over the processes that have a value of this name."""
    rows = gather_list(accelerator, [row])
    found: dict[str, list[float]] = {}
    for one in rows:
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def any_process(accelerator: Accelerator, *flags: bool) -> tuple[bool, ...]:
    """Returns for each flag whether it is set in any process; all of them cost one exchange."""
    if accelerator.num_processes == 1:
        return flags
    counts = torch.tensor(flags, dtype=torch.float32, device=accelerator.device)
    torch.distributed.all_reduce(counts)
    return tuple(count > 0 for count in counts.tolist())


def wrap(accelerator: Accelerator, module: nn.Module, *, compiled: bool = False) -> nn.Module:
    """Returns the module as it is trained: compiled if that is wanted, in DDP where there are processes.

    `Accelerator.prepare` would do it only once for a module, and DDP must hear anew who needs a gradient.
    """
    wrapped = cast(nn.Module, torch.compile(module)) if compiled else module
    if accelerator.num_processes == 1:
        return wrapped
    # Kernels of one pixel have two right layouts; DDP says of one that it is the other.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    devices = [accelerator.device] if accelerator.device.type == "cuda" else None
    return DistributedDataParallel(wrapped, device_ids=devices)


@contextmanager
def lost_processes(accelerator: Accelerator) -> Iterator[None]:
    """Says it in a sentence when an exchange fails since another process is gone.

    Raises:
        SetupError: that happened.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if accelerator.num_processes == 1 or not any(sign in text for sign in PEER_GONE):
            raise
        rank = accelerator.process_index
        raise SetupError(
            f"process {rank} lost another process of the run ({text.splitlines()[0]}). "
            "Its own error says why. Run the command again, training with --resume.",
        ) from None
