"""Tubelet embedding: a patch embedding over several frames; tubelets do not overlap.

Paper: Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021, section 3.2 and figure 3.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from transfer3d.nn.framewise import FrameCount, fold_frames, unfold_frames


class TubeletConv(nn.Module):
    """The convolution of a patch embedding, `depth` frames deep.

    Args:
        like: the 2D convolution.
        depth: frames of a tubelet, and temporal stride.
        count: the number of time steps (tubelets) of a clip.
        in_rows: stack the time steps along H, so that the result is one image per clip.
    """

    def __init__(self, like: nn.Conv2d, depth: int, count: FrameCount, *, in_rows: bool = False) -> None:
        super().__init__()
        self.count, self.depth, self.in_rows = count, depth, in_rows
        kernel, stride = cast(tuple[int, int], like.kernel_size), cast(tuple[int, int], like.stride)
        self.conv = nn.Conv3d(
            like.in_channels,
            like.out_channels,
            (depth, *kernel),
            (depth, *stride),
            bias=like.bias is not None,
        )
        nn.init.xavier_uniform_(self.conv.weight.view(like.out_channels, -1))  # as a linear layer, like ViT
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`B*T C H W` to `B*T' D H' W'`, or with `in_rows` to `B D T'*H' W'`."""
        tubelets = self.conv(unfold_frames(x, self.count.frames * self.depth))
        return tubelets.flatten(2, 3) if self.in_rows else fold_frames(tubelets)
