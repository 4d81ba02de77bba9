"""Reads a launcher's settings (`accelerate launch`, `torchrun`, `mpirun`) from the environment."""

from __future__ import annotations

import os

from transfer3d.errors import UsageError

HUNG_AFTER = "TRANSFER3D_HUNG_AFTER"
DEFAULT_HUNG_AFTER_S, BOUNDS_S = 60.0, (2.0, 600.0)
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
OFF = ("", "0", "no", "false", "none")
REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP: each process holds the whole student",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed: each process holds the whole student",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: each process holds the whole student",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config: only data parallelism is supported",
    "ACCELERATE_DYNAMO_BACKEND": "a dynamo backend: compile with `--set compile=true`",
}
"""Unsupported settings, each with the reason or the alternative."""
MARKS = (
    "TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_MODE",
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
"""Variables that only `torchrun`, `accelerate launch` and `mpirun` set, for the processes that they start."""


def _size_variable() -> str | None:
    return next((name for name in SIZES if os.environ.get(name)), None)


def world_size() -> int:
    """Returns the number of launched processes.

    Raises:
        UsageError: the variable is not a number, or `srun` alone started several processes.
    """
    if name := _size_variable():
        value = os.environ[name]
        if not value.isdecimal():
            raise UsageError(f"{name}={value} is not a number of processes. Unset it, or use a launcher.")
        return int(value)
    # Only the processes of `srun` have the number of a step's tasks, not those of a batch script.
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "SLURM_PROCID" in os.environ and tasks not in ("", "1"):
        raise UsageError(
            f"srun started {tasks} processes that form no group: each would do all the work. Start them with "
            "`srun torchrun ...` or `srun accelerate launch ...`; set WORLD_SIZE=1 if each has its own work."
        )
    return 1


def refuse_several(command: str) -> None:
    """Raises UsageError if a command that runs in one process was started in several."""
    if world_size() > 1:
        raise UsageError(
            f"{command} runs in one process. Start it without a launcher, or unset {_size_variable()}."
        )


def launcher_precision() -> str | None:
    """Returns "bf16" if the launcher requests it; None if it does not say.

    Raises:
        UsageError: it requests another kind of mixed precision.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if asked in OFF:
        return None
    if asked != "bf16":
        raise UsageError(
            f"the launcher requests mixed_precision={asked}, which is not supported. Use bf16 or no."
        )
    return asked


def refuse_other_settings() -> None:
    """Raises UsageError for unsupported settings in a launcher's flags, config or environment."""
    hung_after_s()
    for name, instead in REFUSED.items():
        if os.environ.get(name, "").lower() not in OFF:
            raise UsageError(
                f"the launcher requests {instead}. Switch it off ({name}={os.environ[name]}, by a flag or by "
                "`accelerate config`)."
            )
    parts = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if parts not in ("", "1"):
        raise UsageError(f"the launcher accumulates {parts} steps. Give `--set accumulate={parts}` instead.")


def launcher_pid() -> int | None:
    """Returns the PID of the launcher that started this process, or None.

    It is None for a process started from a shell, or with RANK and WORLD_SIZE set by hand.
    """
    return os.getppid() if any(os.environ.get(name) for name in MARKS) else None


def hung_after_s() -> float:
    """Returns the seconds of silence after which a process counts as hung.

    Raises:
        UsageError: the variable has an invalid value.
    """
    value, (least, most) = os.environ.get(HUNG_AFTER, ""), BOUNDS_S
    try:
        seconds = float(value or DEFAULT_HUNG_AFTER_S)
    except ValueError:
        seconds = 0.0
    if not least <= seconds <= most:
        raise UsageError(f"{HUNG_AFTER}={value}: give {least:g} to {most:g} seconds, or unset it.")
    return seconds
