"""BatchNorm's running statistics: which ones are updated, and how they are recomputed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from transfer3d.batch import ClipBatch


def training_mode(module: nn.Module, batch_norm: Literal["live", "partial", "frozen"]) -> None:
    """Puts a module in training mode, except the BatchNorms whose statistics are frozen.

    A BatchNorm whose scale is not trained has frozen statistics too.

    Args:
        module: the whole network.
        batch_norm: see `Training.batch_norm`; "partial" is TSN's partial BN (arXiv:1608.00859), section 3.2.
    """
    module.train()
    for number, norm in enumerate(_norms(module)):
        frozen = batch_norm == "frozen" or (batch_norm == "partial" and number > 0)
        if frozen or not (norm.weight is None or norm.weight.requires_grad):
            norm.eval()


@torch.no_grad()
def recompute_statistics(
    objective: nn.Module, batches: Iterable[ClipBatch], accelerator: Accelerator
) -> None:
    """Recomputes the statistics of every BatchNorm from some batches and the current weights.

    Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3 (precise BN). Every process
    has its own batches, and all get the same statistics: the means over all batches.

    Args:
        objective: put in evaluation mode, except its BatchNorms.
        batches: as for training.
        accelerator: device and precision.
    """
    objective.eval()
    norms = list(_norms(objective))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for batch in batches:
        with accelerator.autocast():
            objective(batch.to(accelerator.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        for statistic in (norm.running_mean, norm.running_var):
            if accelerator.num_processes > 1 and statistic is not None:
                torch.distributed.all_reduce(statistic.div_(accelerator.num_processes))


def _norms(module: nn.Module) -> Iterable[_BatchNorm]:
    return (part for part in module.modules() if isinstance(part, _BatchNorm))
