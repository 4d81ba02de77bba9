"""What a launcher (`accelerate launch`, `torchrun`, `mpirun`) asks of a process, by its environment."""

from __future__ import annotations

import os

from transfer3d.errors import UsageError

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
OFF = ("", "0", "no", "false", "none")
REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP: each process holds the whole student",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed: each process holds the whole student",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: each process holds the whole student",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config: processes share the batch alone",
    "ACCELERATE_DYNAMO_BACKEND": "a dynamo backend: compile with `--set compile=true`",
}
"""Settings that are not followed, and what there is instead."""


def world_size() -> int:
    """Returns how many processes were launched.

    Raises:
        UsageError: the environment has no number there.
    """
    for name in SIZES:
        if value := os.environ.get(name):
            if not value.isdecimal():
                raise UsageError(f"{name}={value} is not a number of processes. Unset it, or use a launcher.")
            return int(value)
    return 1


def launcher_precision() -> str | None:
    """Returns "bf16" where the launcher asks for it; None where it leaves that open.

    Raises:
        UsageError: it asks for another kind of mixed precision.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if asked in OFF:
        return None
    if asked != "bf16":
        raise UsageError(
            f"the launcher asks for mixed_precision={asked}, which is not supported. Use bf16 or no."
        )
    return asked


def refuse_other_settings() -> None:
    """Raises UsageError for what a launcher's flags, config or environment ask that is not supported."""
    for name, instead in REFUSED.items():
        if os.environ.get(name, "").lower() not in OFF:
            raise UsageError(
                f"the launcher asks for {instead}. Switch it off ({name}={os.environ[name]}, by a flag or by "
                "`accelerate config`)."
            )
    parts = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if parts not in ("", "1"):
        raise UsageError(f"the launcher accumulates {parts} steps. Give `--set accumulate={parts}` instead.")
