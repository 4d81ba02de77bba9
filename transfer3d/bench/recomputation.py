"""A training step of T3D-121 with activation recomputation, against one without."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from transfer3d.bench.case import Case, Comparison
from transfer3d.bench.networks import training_step
from transfer3d.bench.paired import Run
from transfer3d.bench.subprocess_runner import in_subprocess_on_cpu
from transfer3d.engine.allocator import keep_freed_memory
from transfer3d.models.factory import create_model
from transfer3d.nn.memory_format import to_channels_last

NETWORK, CLIPS, CLASSES = "t3d_densenet121", (1, 3, 32, 224, 224), 101


def recomputation_cases() -> Iterator[Case]:
    """Yields the case."""
    yield Case(
        name=f"T3D-121, a clip of {'x'.join(map(str, CLIPS[2:]))}",
        phase="step",
        ours="activations recomputed",
        baseline="activations kept",
        at_least=1 / 1.35,
        build=_build,
    )


def _build(device: torch.device) -> Comparison:
    """Each in a process of its own: freed memory that one of them kept would count for the other."""
    kept, recomputed = (in_subprocess_on_cpu(device, _step, device, again) for again in (False, True))
    return Comparison(ours=recomputed, baseline=kept)


def _step(device: torch.device, recomputed: bool) -> Run:
    network = create_model(NETWORK, num_classes=CLASSES).to(device)
    to_channels_last(network)
    network.set_grad_checkpointing(recomputed)
    keep_freed_memory()
    clips = torch.randn(CLIPS, device=device, generator=torch.Generator(device).manual_seed(0))
    return training_step(network, clips.contiguous(memory_format=torch.channels_last_3d), bf16=True)
