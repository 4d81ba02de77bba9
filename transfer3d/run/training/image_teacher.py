"""Trains a small image model on still digits, which replaces a pretrained teacher in the demo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from transfer3d.batch import ClipBatch
from transfer3d.data.moving_digits import Pixels, SynthConfig, still_digits
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import make_accelerator, resolve_precision
from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.schedule import ScheduleConfig
from transfer3d.engine.trainer import Trainer
from transfer3d.files import atomic_path
from transfer3d.models.image import create_image_model, image_model_info
from transfer3d.nn.pixels import normalise
from transfer3d.objectives.objective import LossReport


class ImageClassification(nn.Module):
    """Cross-entropy of an image model on batches of one-frame clips."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.image = network, image_model_info(network)

    def forward(self, batch: ClipBatch) -> LossReport:
        """Returns the mean cross-entropy and the accuracy."""
        images_NCHW = normalise(batch.clips[:, :, 0], self.image.mean, self.image.std)
        logits_BK = self.network(images_NCHW).float()
        total = functional.cross_entropy(logits_BK, batch.labels)
        accuracy = (logits_BK.argmax(1) == batch.labels).float().mean()
        return LossReport(total, {"loss": total.detach(), "accuracy": accuracy})


def train_teacher(
    name: str,
    out: Path,
    synth: SynthConfig,
    *,
    size: int,
    steps: int,
    seed: int,
    precision: str,
    console: Console,
    digits: Sequence[int] = range(10),
) -> float:
    """Trains a timm model on the training drawings, writes its weights, returns its test accuracy (0..1).

    Args:
        name: timm model.
        out: safetensors file, timm's own keys, readable as `--weights FILE`.
        synth: the dataset whose drawings and splits are used.
        size: pixels of an image.
        steps: optimiser steps of 64 images.
        seed: for weights and order.
        precision: "bf16", "fp32" or "auto".
        console: for progress.
        digits: that it learns, and is tested on.
    """
    images_NCHW, labels_N = _stills("train", synth, size, digits, count=6000)
    network = create_image_model(name, "none", num_classes=10, seed=seed)
    accelerator = make_accelerator(resolve_precision(precision))

    def batches(first_step: int) -> Iterator[ClipBatch]:
        for step in range(first_step, steps):
            chosen = np.random.default_rng((seed, step)).integers(len(labels_N), size=64)
            keys = [str(index) for index in chosen]
            clips = torch.from_numpy(images_NCHW[chosen]).unsqueeze(2)
            yield ClipBatch(clips, torch.from_numpy(labels_N[chosen]), keys, keys)

    trainer = Trainer(
        ImageClassification(network),
        batches,
        TrainerConfig(
            steps=steps,
            lr=4e-3,
            seed=seed,
            optimizer=OptimizerConfig(name="adamw", weight_decay=0.02),
            schedule=ScheduleConfig(kind="cosine", warmup=0.05),
        ),
        accelerator=accelerator,
        console=console,
    )
    trainer.run()
    with atomic_path(out) as partial:
        save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, partial)
    images_NCHW, labels_N = _stills("test", synth, size, digits, count=1000)
    return image_accuracy(network, torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))


def _stills(
    split: Literal["train", "test"], synth: SynthConfig, size: int, digits: Sequence[int], *, count: int
) -> tuple[Pixels, Any]:
    images_NCHW, labels_N = still_digits(
        split, seed=synth.seed, size=size, background=synth.background, poses=synth.poses, count=count
    )
    wanted_N = np.isin(labels_N, digits)
    return images_NCHW[wanted_N], labels_N[wanted_N]


@torch.no_grad()
def image_accuracy(network: nn.Module, images_u8: Tensor, labels_N: Tensor) -> float:
    """Returns the network's accuracy on images, 0..1."""
    image = image_model_info(network.eval())
    device = next(network.parameters()).device
    predictions = [
        network(normalise(chunk.to(device), image.mean, image.std)).argmax(1).cpu()
        for chunk in images_u8.split(256)
    ]
    return float((torch.cat(predictions) == labels_N).float().mean())
