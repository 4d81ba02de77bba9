"""Pools the scores of a video's views."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "consensus", "windows"]

MIN_WINDOWS = 15
WINDOWS_SHARE = 4


def pooled(views_VK: Tensor, scale_V: Tensor, pooling: Pooling, multi_label: bool = False) -> Tensor:
    """Returns one video's scores [K].

    "mean" averages probabilities. "consensus" averages scores before the softmax (TSN's segmental consensus,
    Wang et al., ECCV 2016, section 3.1), i.e. the normalised geometric mean of the probabilities; for a
    multi-label student, scores before the sigmoid, i.e. the geometric mean of the odds. "windows" averages,
    for each class and window length, the best max(15, n / 4) of n windows, then averages over lengths (TSN's
    multi-scale temporal window integration, Wang et al., TPAMI 2018).

    Args:
        views_VK: probabilities of the views.
        scale_V: the window length of each view.
        pooling: see above.
        multi_label: see `Scores`.
    """
    if pooling == "consensus":
        smallest = torch.finfo(views_VK.dtype).tiny  # a probability may have been rounded to 0
        if multi_label:
            return torch.logit(views_VK.double(), eps=smallest).mean(0).sigmoid().to(views_VK.dtype)
        return views_VK.clamp(min=smallest).log().mean(0).softmax(-1)
    if pooling == "windows":
        scales = [views_VK[scale_V == scale] for scale in scale_V.unique()]
        return torch.stack([_best(windows_VK) for windows_VK in scales]).mean(0)
    return views_VK.mean(0)


def _best(windows_VK: Tensor) -> Tensor:
    """Returns each class's mean over its best windows."""
    count = len(windows_VK)
    kept = min(max(MIN_WINDOWS, count // WINDOWS_SHARE), count)
    return windows_VK.topk(kept, dim=0).values.mean(0)
