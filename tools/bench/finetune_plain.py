"""Two training loops as one writes them by hand: plain fp32, and a bare one in low precision."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _scaled(clips_u8: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    channels = (1, -1, 1, 1, 1)
    device = clips_u8.device
    return (clips_u8.float() / 255 - torch.tensor(mean, device=device).view(channels)) / torch.tensor(
        std, device=device
    ).view(channels)


class HandWritten:
    """Steps of SGD with Nesterov momentum on one batch; `low` = bf16 by autocast."""

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], low: bool) -> None:
        self.net, self.mean, self.std, self.low = net.train(), mean, std, low
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4
        )

    def run(self, clips_u8: Tensor, labels: Tensor, steps: int) -> None:
        """Makes so many steps."""
        for _ in range(steps):
            clips = _scaled(clips_u8, self.mean, self.std)
            with torch.autocast(clips.device.type, torch.bfloat16) if self.low else nullcontext():
                logits = self.net(clips)
            F.cross_entropy(logits.float(), labels).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
