"""Distributed operations of the processes of one run, however many `accelerate launch` started."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.engine.config import GpuConfig
from transfer3d.engine.heartbeat import Heartbeat, join
from transfer3d.engine.launcher import hung_after_s, launcher_precision, refuse_other_settings, world_size
from transfer3d.errors import SetupError, Transfer3dError, UsageError

if TYPE_CHECKING:  # imported where it is needed: a command may refuse its input before
    from accelerate import Accelerator, PartialState

Result = TypeVar("Result")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others, e.g. while the main one writes the built-in dataset."""
PEER_GONE = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "Socket closed",
    "NCCL",
    "Timed out waiting",
)
"""Parts of the messages of gloo and NCCL when a peer died or did not answer."""


def make_accelerator(precision: str) -> Accelerator:
    """Builds the one accelerator of a run, and sets torch's and the C library's process-wide options.

    Args:
        precision: "bf16" or "fp32".
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    processes()
    torch.backends.cudnn.benchmark = True
    keep_freed_memory()
    # accelerate keeps a process's first precision, but a second run in the process may need another.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="bf16" if precision == "bf16" else "no")


def leave_cores_to(workers: int) -> None:
    """Reduces torch's CPU threads by the number of decoding processes.

    Waiting threads spin, so a thread that shares its core with a decoder slows all the others.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - workers)))


def processes() -> PartialState:
    """Returns this process's rank and group; the first call initialises the process group.

    Without a GPU it is a CPU group, whatever the launcher requests.

    Raises:
        UsageError: the launcher requests an unsupported setting.
        SetupError: there is no group, or its size differs from the number of launched processes.
    """
    from accelerate import PartialState

    launched = world_size()
    refuse_other_settings()
    device = torch.accelerator.current_accelerator(check_available=True)
    on_cpu = launched > 1 and (device is None or device.type == "mps")
    try:
        state = PartialState(cpu=on_cpu, timeout=PATIENCE) if launched > 1 else PartialState()
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SetupError(
            f"{launched} processes were launched, but form no group ({reason}). Start them with "
            "`accelerate launch` or `torchrun`, or unset WORLD_SIZE."
        ) from error
    if state.num_processes != launched:
        raise SetupError(
            f"{launched} processes were launched, but the group has {state.num_processes}. Start them with "
            "`accelerate launch` or `torchrun`, or unset WORLD_SIZE."
        )
    return state


def is_main_process() -> bool:
    """Whether this is the main process, which prints and writes, under any launcher."""
    return processes().is_main_process


def bf16_is_fast() -> bool:
    """Whether this machine computes bf16 in hardware (a GPU since Ampere, AVX-512 BF16, AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


def resolve_precision(precision: str) -> str:
    """Resolves "auto" to bf16 if the launcher requests it or the hardware supports it, else to fp32.

    Raises:
        UsageError: it is not one of auto, bf16, fp32, or the launcher requests another one.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise UsageError(f"--precision {precision}: choose auto, bf16 or fp32.")
    asked = launcher_precision()
    if precision != "auto":
        return precision
    return asked or ("bf16" if bf16_is_fast() else "fp32")


def on_main(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Runs `work` on the main process; every process gets its result, or raises its error.

    An error of the main process thus ends all processes, instead of leaving the others in a barrier.
    """
    if accelerator.num_processes == 1:
        return work()
    from accelerate.utils import broadcast_object_list

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
    """Broadcasts the main process's buffers: BatchNorm's statistics differ between processes."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def gather_list(accelerator: Accelerator, items: list[Any]) -> list[Any]:
    """Returns the items of all processes, in the order of their ranks."""
    if accelerator.num_processes == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


def mean_rows(accelerator: Accelerator, row: dict[str, float]) -> dict[str, float]:
    """Returns, for each name, the mean over the processes that have a value for it."""
    rows = gather_list(accelerator, [row])
    values_by_name: dict[str, list[float]] = {}
    for one in rows:
        for name, value in one.items():
            values_by_name.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in values_by_name.items()}


def any_process(accelerator: Accelerator, *flags: bool) -> tuple[bool, ...]:
    """Returns for each flag whether it is set in any process, with a single collective."""
    if accelerator.num_processes == 1:
        return flags
    counts = torch.tensor(flags, dtype=torch.float32, device=accelerator.device)
    torch.distributed.all_reduce(counts)
    return tuple(count > 0 for count in counts.tolist())


def distribute(accelerator: Accelerator, module: nn.Module, gpu: GpuConfig) -> nn.Module:
    """Wraps the module in DDP if there are several processes.

    `Accelerator.prepare` would wrap a module only once, but DDP must be rebuilt whenever the set of trained
    parameters changes.
    """
    if accelerator.num_processes == 1:
        return module
    # A 1x1x1 kernel has two equivalent memory layouts; DDP warns that they differ.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    devices = [accelerator.device] if accelerator.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=gpu.gradient_views)


@contextmanager
def lost_processes(accelerator: Accelerator) -> Iterator[None]:
    """Turns a collective that failed because a peer died into SetupError.

    Raises:
        SetupError: a peer died.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if accelerator.num_processes == 1 or not any(part in text for part in PEER_GONE):
            raise
        rank = accelerator.process_index
        raise SetupError(
            f"process {rank} lost another process of the run ({text.splitlines()[0]}). "
            "Its own error says why. Run the command again, training with --resume."
        ) from None


def start_heartbeat(accelerator: Accelerator) -> Heartbeat:
    """Lets the processes of a run watch each other until `close`; every process must call it."""
    if accelerator.num_processes == 1:
        return Heartbeat(0, [], {}, hung_after_s())
    return join(
        accelerator.process_index,
        lambda member: gather_list(accelerator, [member]),
        address=os.environ.get("MASTER_ADDR", "localhost"),
        hung_after_s=hung_after_s(),
    )


@contextmanager
def watched_processes(accelerator: Accelerator) -> Iterator[None]:
    """A context in which a dead or hung process ends the run.

    Raises:
        SetupError: a peer died.
    """
    with closing(start_heartbeat(accelerator)), lost_processes(accelerator):
        yield


@contextmanager
def own_processes(accelerator: Accelerator | None, precision: str) -> Iterator[Accelerator]:
    """Yields the caller's accelerator unchanged, or a new one, whose processes are watched.

    Args:
        accelerator: the caller's; None = create one.
        precision: "auto", "bf16" or "fp32", for a new one.
    """
    if accelerator is not None:
        yield accelerator
        return
    accelerator = make_accelerator(resolve_precision(precision))
    with watched_processes(accelerator):
        yield accelerator
