"""Which frame sets and clips of a batch are shown as mismatched pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Pairs = Literal["in-batch", "one-to-one", "hard"]
HARDEST = 4


def source_ids(sources: Sequence[str], device: torch.device) -> Tensor:
    """Returns an int64 identifier of each source's name, B, the same in every process."""
    digests = (hashlib.sha256(source.encode()).digest()[:8] for source in sources)
    return torch.tensor([int.from_bytes(digest, signed=True) for digest in digests], device=device)


def different_sources(ids_B: Tensor) -> Tensor:
    """Returns, B x B, whether two items come from different videos: only such a pair can be a negative."""
    return ids_B[:, None] != ids_B[None]


def choose_negatives(different_BB: Tensor, match_logits_BB: Tensor, pairs: Pairs) -> Tensor:
    """Chooses the negatives among the pairs of different videos.

    Args:
        different_BB: row = frames, column = clip; see `different_sources`.
        match_logits_BB: how strongly the head takes each pair for a match; read by "hard" alone.
        pairs: in-batch takes all of them; one-to-one draws one frame set for each clip from torch's generator
            (T3D section 3.2); hard takes the `HARDEST` with the highest match logits, for each clip.

    Returns:
        B x B, whether the pair is a negative.
    """
    if pairs == "in-batch":
        return different_BB
    chosen_BB = torch.zeros_like(different_BB)
    columns_M = different_BB.any(0).nonzero()[:, 0]
    if len(columns_M) == 0:
        return chosen_BB
    if pairs == "one-to-one":
        rows_MN = torch.multinomial(different_BB.T[columns_M].float(), 1)
    else:
        logits_MB = match_logits_BB.detach().float().T[columns_M]
        rows_MN = logits_MB.masked_fill(~different_BB.T[columns_M], -torch.inf).topk(
            min(HARDEST, len(different_BB)), dim=1
        )[1]
    chosen_BB[rows_MN, columns_M[:, None]] = True
    return chosen_BB & different_BB
