"""Selects the frame sets and clips of a batch that form negative pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from transfer3d.objectives.config import Pairs

HARDEST = 4


def source_ids(sources: Sequence[str], device: torch.device) -> Tensor:
    """Returns an int64 identifier of each source's name, B, the same in every process."""
    digests = (hashlib.sha256(source.encode()).digest()[:8] for source in sources)
    return torch.tensor([int.from_bytes(digest, signed=True) for digest in digests], device=device)


def different_sources(ids_B: Tensor, frame_ids_M: Tensor | None = None) -> Tensor:
    """Returns whether frames and clip come from different videos: only such pairs can be negatives.

    Args:
        ids_B: IDs of the clips.
        frame_ids_M: IDs of the frame sets; None = those of the clips.

    Returns:
        M x B, row = frames, column = clip.
    """
    return (ids_B if frame_ids_M is None else frame_ids_M)[:, None] != ids_B[None]


def choose_negatives(different_MB: Tensor, match_logits_MB: Tensor, pairs: Pairs) -> Tensor:
    """Chooses the negatives among the pairs of different videos.

    Args:
        different_MB: row = frames, column = clip; see `different_sources`.
        match_logits_MB: the head's match logit of each pair; only used by "hard".
        pairs: in-batch takes all of them; one-to-one draws one frame set for each clip from torch's generator
            (T3D section 3.2); hard takes the `HARDEST` pairs with the highest match logits for each clip.

    Returns:
        M x B, True for a negative pair.
    """
    if pairs == "in-batch":
        return different_MB
    chosen_MB = torch.zeros_like(different_MB)
    columns_C = different_MB.any(0).nonzero()[:, 0]
    if len(columns_C) == 0:
        return chosen_MB
    different_CM = different_MB.T[columns_C]
    if pairs == "one-to-one":
        rows_CN = torch.multinomial(different_CM.float(), 1)
    else:
        logits_CM = match_logits_MB.detach().float().T[columns_C].masked_fill(~different_CM, -torch.inf)
        rows_CN = logits_CM.topk(min(HARDEST, len(different_MB)), dim=1)[1]
    chosen_MB[rows_CN, columns_C[:, None]] = True
    return chosen_MB & different_MB
