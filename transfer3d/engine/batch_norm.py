"""BatchNorm's statistics: whether they follow the batches, and how they are made anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from transfer3d.batch import ClipBatch
from transfer3d.objectives.objective import Objective


def training_mode(module: nn.Module, batch_norm: Literal["live", "partial", "frozen"]) -> None:
    """Puts a module in training mode, but for the BatchNorms whose statistics are to stay as they are.

    Those of a BatchNorm whose scale does not learn stay too.

    Args:
        module: the network, all of it.
        batch_norm: see `Training.batch_norm`; TSN (arXiv:1608.00859), section 3.2: all but the first stay.
    """
    module.train()
    for number, norm in enumerate(_norms(module)):
        stays = batch_norm == "frozen" or (batch_norm == "partial" and number > 0)
        if stays or not (norm.weight is None or norm.weight.requires_grad):
            norm.eval()


@torch.no_grad()
def renew_statistics(objective: Objective, batches: Iterable[ClipBatch], accelerator: Accelerator) -> None:
    """Makes the statistics of every BatchNorm anew, from some batches and the weights as they are.

    Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3. Every process gives its
    own batches, and all end with the same statistics: the means over all batches.

    Args:
        objective: what learns; everything but its BatchNorms is in evaluation mode meanwhile.
        batches: as for training.
        accelerator: device and precision.
    """
    objective.trainable.eval()
    norms = list(_norms(objective.trainable))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for batch in batches:
        with accelerator.autocast():
            objective.loss(objective.trainable, batch.to(accelerator.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        for statistic in (norm.running_mean, norm.running_var):
            if accelerator.num_processes > 1 and statistic is not None:
                torch.distributed.all_reduce(statistic.div_(accelerator.num_processes))


def _norms(module: nn.Module) -> Iterable[_BatchNorm]:
    return (part for part in module.modules() if isinstance(part, _BatchNorm))
