"""V4D's algorithm 1 as its text reads: each combination passes through everything after the shared layers."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def combinations_loop(
    front: Callable[[Tensor], Tensor], rest: Callable[[Tensor], Tensor], units: Tensor, sections: int
) -> Tensor:
    """Averages softmax scores over all combinations.

    Args:
        front: `U C T H W` to feature maps of each unit.
        rest: feature maps of `sections` units to the logits `1 K` of one video.
        units: `U C T H W`, one video.
        sections: how many units make one combination.
    """
    maps = front(units)
    scores = []
    bounds = [round(index * len(units) / sections) for index in range(sections + 1)]
    for combination in itertools.product(*(range(*pair) for pair in itertools.pairwise(bounds))):
        scores.append(rest(maps[list(combination)]).softmax(-1))
    return torch.stack(scores).mean(0)
