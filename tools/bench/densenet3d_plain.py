"""DenseNet3D-121 in plain PyTorch, written flat: contiguous, one layer after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS, GROWTH = (6, 12, 24, 16), 32


class PlainLayer(nn.Module):
    """BatchNorm, ReLU, 1x1x1, BatchNorm, ReLU, 3x3x3; the result joins its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, 4 * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(4 * GROWTH)
        self.conv2 = nn.Conv3d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C + 32 T H W`."""
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        return torch.cat((x, self.conv2(F.relu(self.norm2(y), inplace=True))), 1)


class PlainTransition(nn.Module):
    """BatchNorm, ReLU, 1x1x1 to half of the channels, 2x2x2 average pool."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)
        self.conv = nn.Conv3d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B C/2 T/2 H/2 W/2`."""
        return F.avg_pool3d(self.conv(F.relu(self.norm(x), inplace=True)), 2)


class PlainDenseNet3D121(nn.Module):
    """Stem, four dense blocks with transitions between them, average, linear."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels = 2 * GROWTH
        self.conv = nn.Conv3d(3, channels, (3, 7, 7), 2, (1, 3, 3), bias=False)
        self.stem_norm = nn.BatchNorm3d(channels)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for depth in DEPTHS:
            self.blocks.append(nn.Sequential(*(PlainLayer(channels + n * GROWTH) for n in range(depth))))
            channels += depth * GROWTH
            if len(self.blocks) < len(DEPTHS):
                self.transitions.append(PlainTransition(channels))
                channels //= 2
        self.norm = nn.BatchNorm3d(channels)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """`B 3 T H W`, T even after each halving, to logits."""
        x = F.relu(self.stem_norm(self.conv(clips)), inplace=True)
        x = F.max_pool3d(x, 3, (1, 2, 2), 1)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index < len(self.transitions):
                x = self.transitions[index](x)
        return self.fc(F.relu(self.norm(x), inplace=True).mean((2, 3, 4)))
