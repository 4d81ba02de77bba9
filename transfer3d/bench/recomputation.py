"""A training step of T3D-121 with activation recomputation, against one without."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.networks import training_step
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.engine.memory_format import to_channels_last
from transfer3d.models.factory import create_model

NETWORK, CLIPS, CLASSES = "t3d_densenet121", (2, 3, 16, 112, 112), 101


def recomputation_cases() -> Iterator[Case]:
    """Yields the case."""
    yield Case(
        name=f"T3D-121, {CLIPS[0]} clips of {'x'.join(map(str, CLIPS[2:]))}",
        phase="step",
        ours="activations recomputed",
        baseline="activations kept",
        at_least=1 / 1.35,
        build=_build,
    )


def _build(device: torch.device) -> Comparison:
    kept = create_model(NETWORK, num_classes=CLASSES).to(device)
    to_channels_last(kept)
    recomputed = copy.deepcopy(kept)
    recomputed.set_grad_checkpointing()
    keep_freed_memory()
    clips = torch.randn(CLIPS, device=device, generator=torch.Generator(device).manual_seed(0))
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    return Comparison(
        ours=training_step(recomputed, clips, bf16=True), baseline=training_step(kept, clips, bf16=True)
    )
