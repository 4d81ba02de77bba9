"""P3D-63 in plain PyTorch, written flat: fp32, contiguous, one layer after the other."""

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels)


class PlainBlock(nn.Module):
    """A bottleneck of kind A, B or C, or a 2D one (kind "2D")."""

    def __init__(self, in_channels: int, width: int, kind: str, stride: int, project: bool) -> None:
        super().__init__()
        self.kind = kind
        self.conv1 = nn.Conv3d(in_channels, width, 1, (1, stride, stride), bias=False)
        self.norm1 = _norm(width)
        self.spatial = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.spatial_norm = _norm(width)
        if kind != "2D":
            self.temporal = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), bias=False)
            self.temporal_norm = _norm(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.norm3 = _norm(4 * width)
        self.project = project
        if project:
            self.shortcut = nn.Conv3d(in_channels, 4 * width, 1, (1, stride, stride), bias=False)
            self.shortcut_norm = _norm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """`B C T H W` to `B 4*width T H' W'`."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        s = F.relu(self.spatial_norm(self.spatial(y)), inplace=True)
        if self.kind == "A":
            s = F.relu(self.temporal_norm(self.temporal(s)), inplace=True)
        elif self.kind == "B":
            s = F.relu(s + self.temporal_norm(self.temporal(y)), inplace=True)
        elif self.kind == "C":
            s = F.relu(s + self.temporal_norm(self.temporal(s)), inplace=True)
        y = self.norm3(self.conv3(s))
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.project else x
        return F.relu(y + shortcut, inplace=True)


class PlainP3D63(nn.Module):
    """Stem, four stages, a pool in time after the stem and three of the stages, average, linear."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.norm1 = _norm(64)
        blocks, channels, number = [], 64, 0
        for stage, depth in enumerate(BLOCKS):
            for index in range(depth):
                kind = "2D" if stage == len(BLOCKS) - 1 else "ABC"[number % 3]
                width, stride = 64 * 2**stage, 2 if stage and not index else 1
                blocks.append(PlainBlock(channels, width, kind, stride, project=index == 0))
                channels, number = 4 * width, number + 1
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """`B 3 16 H W` to logits."""
        x = F.relu(self.norm1(self.conv1(clips)), inplace=True)
        x = F.max_pool3d(x, (2, 3, 3), 2, (0, 1, 1))
        ends = {sum(BLOCKS[: stage + 1]) - 1 for stage in range(len(BLOCKS) - 1)}
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in ends:
                x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        return self.fc(x.mean((2, 3, 4)))
