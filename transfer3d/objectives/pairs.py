"""Which frame sets and clips of a batch are shown as not belonging together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Pairs = Literal["in-batch", "one-to-one", "hard"]
HARDEST = 4


def different_sources(sources: Sequence[str], device: torch.device) -> Tensor:
    """Returns, B x B, whether two items come from different videos: only such a pair can be a negative."""
    ids = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    source_B = torch.tensor([ids[source] for source in sources], device=device)
    return source_B[:, None] != source_B[None]


def choose_negatives(different_BB: Tensor, belief_BB: Tensor, pairs: Pairs) -> Tensor:
    """Chooses among the pairs of different videos.

    Args:
        different_BB: row = frames, column = clip; see `different_sources`.
        belief_BB: how much the head takes each pair for a match; read by "hard" alone.
        pairs: in-batch takes all of them; one-to-one draws one frame set for each clip from torch's generator
            (T3D section 3.2); hard takes the `HARDEST` that the head is most mistaken about, for each clip.

    Returns:
        B x B, whether the pair is used.
    """
    if pairs == "in-batch":
        return different_BB
    chosen_BB = torch.zeros_like(different_BB)
    having_M = different_BB.any(0).nonzero()[:, 0]
    if len(having_M) == 0:
        return chosen_BB
    if pairs == "one-to-one":
        rows_MN = torch.multinomial(different_BB.T[having_M].float(), 1)
    else:
        belief_MB = belief_BB.detach().float().T[having_M]
        rows_MN = belief_MB.masked_fill(~different_BB.T[having_M], -torch.inf).topk(
            min(HARDEST, len(different_BB)), dim=1
        )[1]
    chosen_BB[rows_MN, having_M[:, None]] = True
    return chosen_BB & different_BB
