"""Writes docs/memory.md: how many clips of each student's own size a GPU can train on, computed on `meta`.

A step is followed tensor by tensor (`engine/live_memory.py`) in bf16; weights, gradients and two moments of
AdamW are fp32, and autocast holds the weights in bf16 besides. Scratch space and head room are those of
`engine/memory_plan.py`.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from transfer3d.engine.live_memory import step_bytes
from transfer3d.engine.memory_plan import HEADROOM, WORKSPACE
from transfer3d.files import write_text
from transfer3d.models.factory import create_model
from transfer3d.models.registry import entry, list_models

PAGE = Path(__file__).parents[1] / "docs" / "memory.md"
GPUS = (24, 80, 141)  # GB
CLASSES = 400
FIXED = 18  # bytes for each parameter
INTRODUCTION = """# Memory

Clips of a student's own size that one GPU holds in a training step of `finetune`: computed, not measured, by
`python tools/memory_table.py`, for bf16 and AdamW. In each cell: as it is / with
`activation_checkpointing = true`, which computes activations again in the backward pass and takes about a
third longer. A run prints its own estimate, for the memory that is free, before its first step.

The tensors of T3D-121's step on a clip of 32x224x224 take 0.26 of the plain step's bytes when recomputed.
On a CPU the process's peak does not fall as far: to 0.50 (494 / 988 MiB measured, 1.19 times the time). The
rest is probably the scratch space of the convolutions and the weights in bf16, which both steps need; memory
that the allocator keeps is not it, since giving it back at once changes nothing (551 MiB).

| student | clip | {gpus} |
| --- | --- | {lines} |
"""


def attention(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, **others: object) -> Tensor:
    """What a GPU computes: no scores are kept. On `meta` torch would count them."""
    if any(option not in (None, False) for option in others.values()):
        raise ValueError(f"options of attention that are not followed: {others}")
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout_p)[0]


def clip_bytes(name: str, *, recomputed: bool) -> tuple[int, int]:
    """Returns the number of parameters, and the bytes of a step on one clip without weights and gradients."""
    with torch.device("meta"):
        student = create_model(name, num_classes=CLASSES).bfloat16().train()
        clips = torch.empty(student.clip.shape(1), dtype=torch.bfloat16)
    student.set_grad_checkpointing(recomputed)
    with mock.patch.object(F, "scaled_dot_product_attention", attention):
        counted = step_bytes(student, lambda: student(clips).float().square().mean())
    return sum(parameter.numel() for parameter in student.parameters()), counted


def row(name: str) -> str:
    """Returns a student's line of the table."""
    spec, cells = entry(name).clip, list[str]()
    frames = f"{spec.units}x{spec.frames}" if spec.units > 1 else str(spec.frames)
    costs = [clip_bytes(name, recomputed=recomputed) for recomputed in (False, True)]
    for gigabytes in GPUS:
        counts = [
            int((HEADROOM * gigabytes * 1e9 - FIXED * parameters) / (WORKSPACE * activations))
            for parameters, activations in costs
        ]
        cells.append(" / ".join(str(max(count, 0)) for count in counts))
    return f"| `{name}` | {frames}x{spec.size}x{spec.size} | {' | '.join(cells)} |"


if __name__ == "__main__":
    names = [name for name in list_models() if not name.endswith("tiny")]
    head = INTRODUCTION.format(
        gpus=" | ".join(f"{gigabytes} GB" for gigabytes in GPUS), lines=" | ".join("---" for _ in GPUS)
    )
    write_text(PAGE, head + "\n".join(map(row, names)) + "\n")
